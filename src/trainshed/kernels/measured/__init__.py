"""The kernels behind the tier A and B rows of the published kernel measurements, and the launches of each row.

Written from the tiling and the loop order that the sources describe, in the words of NKI 0.6. The MoE kernels behind
``kiln_moe`` are not here: their licence forbids to work from them.

| group of rows | kernels |
|---|---|
| ``chipboost``, ``chipboost_sweep`` | ``matmul.tiled``, ``matmul.blocked_wide``, ``rowwise`` |
| ``nki_tutorial_trn1`` | ``matmul.tiled``, ``matmul.block_free`` (``hoisted`` and ``blocked`` are the other steps) |
"""

from trainshed.kernels.measured.rows import Argument, Launch, launches
from trainshed.kernels.measured.shapes import fitted

__all__ = ["Argument", "Launch", "fitted", "launches"]
