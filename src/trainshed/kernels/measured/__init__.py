"""The kernels behind the tier A and B rows of the published kernel measurements, and the launches of each row.

Written from the tiling and the loop order that the sources describe, in the words of NKI 0.6. Those of ``kiln_moe`` are
plain ones of our own, written from the rows alone: the licence of the measured ones forbids to work from them.

| group of rows | kernels |
|---|---|
| ``chipboost``, ``chipboost_sweep`` | ``matmul.tiled``, ``matmul.blocked_wide``, ``rowwise`` |
| ``nki_tutorial_trn1`` | ``matmul.tiled``, ``matmul.block_free`` (``hoisted`` and ``blocked`` are the other steps) |
| ``kiln_moe`` | ``moe`` |
"""

from trainshed.kernels.measured.launch import Argument, Launch
from trainshed.kernels.measured.rows import launches, why_not
from trainshed.kernels.measured.shapes import fitted

__all__ = ["Argument", "Launch", "fitted", "launches", "why_not"]
