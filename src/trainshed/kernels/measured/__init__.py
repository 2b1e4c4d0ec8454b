"""The kernels behind the rows of the published kernel measurements, and the launches of each row.

Every row of tiers A and B has them that is a kernel's; of tier C those whose kernel is public or small
(:func:`~trainshed.kernels.measured.rows.why_not` says why the others have none).

Written from the tiling and the loop order that the sources describe, in the words of NKI 0.6. Those of ``kiln_moe`` are
plain ones of our own, written from the rows alone: the licence of the measured ones forbids to work from them.

| group of rows | kernels |
|---|---|
| ``chipboost``, ``chipboost_sweep`` | ``matmul.tiled``, ``matmul.blocked_wide``, ``rowwise`` |
| ``nki_tutorial_trn1`` | ``matmul.tiled``, ``matmul.block_free`` (``hoisted`` and ``blocked`` are the other steps) |
| ``nki_guide_trn2`` | ``matmul``: ``tiled``, ``hoisted``, ``block_free``, ``blocked`` in float32 |
| ``kiln_moe`` | ``moe``, ``moe_prefill`` |
| ``kiln_micro``, ``dma_size_curve`` | ``dma`` |
| ``nki_mamba`` | ``mamba`` |
| ``nki_samples_bounds`` | ``gemm`` and ``attention`` of the library |
| ``nkilib_norm_tkg``, ``nkilib_rmsnorm_quant`` | ``norms`` |
"""

from trainshed.kernels.measured.launch import Argument, Launch
from trainshed.kernels.measured.rows import launches, why_not
from trainshed.kernels.measured.shapes import fitted

__all__ = ["Argument", "Launch", "fitted", "launches", "why_not"]
