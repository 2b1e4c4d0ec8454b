"""A tensor's values as text, for ``print`` inside a kernel and for debuggers."""

from __future__ import annotations

import numpy as np

from trainshed.chip.call import array
from trainshed.chip.core import running
from trainshed.chip.tensor import NkiTensor
from trainshed.chip.undefined import elements
from trainshed.numerics.formats import PACKED


def show(tensor: NkiTensor) -> str:
    """What a tensor is and, in a kernel that computes, its values in brief; ``?`` where nothing was written."""
    core = running()
    if core is None or not core.options.values or tensor.indirection is not None:
        return repr(tensor)
    values = array(tensor)
    if tensor.storage.scale == 1 and tensor.dtype in PACKED:
        return f"{tensor!r}\n{np.array2string(values, threshold=64, edgeitems=3, formatter={'int': hex})}"
    undefined = elements(tensor)
    if undefined.any():
        known = values.astype(np.float32) if tensor.dtype.is_float else values
        values = np.where(undefined, "?", np.char.mod("%g", known))
        return f"{tensor!r}\n{np.array2string(values, threshold=64, edgeitems=3, formatter={'all': str})}"
    return f"{tensor!r}\n{np.array2string(values, threshold=64, edgeitems=3)}"
