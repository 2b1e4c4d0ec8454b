"""What kernels of the library share: names of the target, and the one sentence for arguments that do not fit."""

from __future__ import annotations

from typing import Any

import trainshed.nki.isa as nisa
import trainshed.nki.language as nl
from trainshed.core.errors import UserError

Tensor = Any
"""A tensor of a kernel (``trainshed.chip.tensor.NkiTensor``), whose views are untyped in NKI."""

#: Partitions of SBUF and PSUM. Source: nki.language.tile_size, "pmax".
PARTITIONS = 128


def require(good: bool, kernel: str, what: str, value: object, expected: str) -> None:
    """One sentence for an argument that a kernel cannot take."""
    if not good:
        raise UserError(what, where=f"kernels.{kernel}", value=value, expected=expected)


def target() -> str:
    """The chip that the kernel runs on, as the hardware catalogue calls it."""
    return {2: "trn1", 3: "trn2", 4: "trn3"}[int(nisa.get_nc_version())]


def sbuf(shape: tuple[int, ...], dtype: Any) -> Tensor:
    """A new tile in SBUF."""
    return nl.ndarray(shape, dtype=dtype, buffer=nl.sbuf)


def loaded(view: Tensor) -> Tensor:
    """A new SBUF tile with a view of HBM in it."""
    tile = sbuf(view.shape, view.dtype)
    nisa.dma_copy(dst=tile, src=view)
    return tile


def up(size: int, of: int) -> int:
    """How many of ``of`` cover ``size``."""
    return -(-size // of)
