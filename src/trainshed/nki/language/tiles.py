"""``nl.tile_size``: the limits of the target's tiles. Source: ``nki.language.tile_size``."""

from __future__ import annotations

from trainshed.chip.core import Target, running
from trainshed.chip.words import NKIObject, nc_version
from trainshed.nki.environment import default_target, read


class _TileSize(NKIObject):
    """Limits of the target that a kernel runs on (outside a kernel: of the default target)."""

    pmax = 128
    psum_fmax = 512
    psum_bank_fmax = 512
    psum_bank_fmax_bytes = 2048
    gemm_stationary_fmax = 128
    gemm_moving_fmax = 512
    bn_stats_fmax = 512
    psum_min_align = 4
    sbuf_min_align = 1

    @property
    def _target(self) -> Target:
        core = running()
        return core.target if core is not None else default_target()

    @property
    def psum_num_banks(self) -> int:
        """Usable PSUM banks: one is kept where DMA transposes become TensorE's (NeuronCore-v3 and later)."""
        asked = read("NKI_DMA_TRANSPOSE_AS_PE_TRANSPOSE", {"0": False, "1": True, "false": False, "true": True}, False)
        return self._target.psum_banks - (asked and self._target.version >= nc_version.gen3)

    @property
    def sbuf_size_bytes(self) -> int:
        """Bytes of SBUF, all partitions."""
        return self._target.sbuf_row * self._target.partitions

    @property
    def sbuf_fmax_bytes(self) -> int:
        """Bytes of SBUF in one partition."""
        return self._target.sbuf_row

    @property
    def sbuf_fmax(self) -> int:
        """float32 elements of SBUF in one partition."""
        return self._target.sbuf_row // 4

    @property
    def total_available_sbuf_size(self) -> int:
        """Bytes of SBUF in one partition that a kernel may use."""
        return self._target.sbuf_row


tile_size = _TileSize()
