"""Reductions along the free dimensions: ``tensor_reduce``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from trainshed.chip.alu import bits, integers, reducer
from trainshed.chip.call import Call
from trainshed.chip.operands import tiles
from trainshed.chip.record import Instruction
from trainshed.chip.tensor import NkiTensor
from trainshed.chip.words import engine


def tensor_reduce(
    dst: NkiTensor, op: Any, data: NkiTensor, axis: int | Sequence[int], negate: bool = False, keepdims: bool = False,
    name: str | None = None,
) -> Instruction:  # fmt: skip
    """Reduce the last free dimensions of ``data`` on VectorE: float32 for arithmetic, integers as stored for bits.

    ``axis`` is the last dimension, or the last ones; ``negate`` multiplies an arithmetic result by -1. ``dst`` has
    as many elements per partition as are left, whatever its shape. Source: ``nki.isa.tensor_reduce``.
    """
    call = Call("tensor_reduce", name)
    tiles(call, data=data, dst=dst)
    function = reducer(call, "op", op)
    axes = _axes(call, data, axis)
    left = data.shape[: axes[0]]
    if dst.shape[0] != data.shape[0] or dst.free_size != int(np.prod(left[1:], dtype=int)):
        kept = (1,) * len(axes) if keepdims else ()
        raise call.fail("dst", "shape", dst.shape, f"as many elements as {(*left, *kept)}", "shape")
    if function.bitvec:
        integers(call, dst=dst, data=data)
        call.require(not negate, "negate", "with", function.name, "an arithmetic operator", "operator-kinds")
    record = call.issue(
        engine.vector, (data,), (dst,), attributes={"op": function.name, "axis": axes}, elements=data.free_size
    )
    if call.values:
        if function.bitvec:
            values = function.reduce(bits(call.read("data", data), data.itemsize), axes)
        else:
            with np.errstate(all="ignore"):
                values = function.reduce(call.read_float("data", data), axes)
            values = -values if negate else values
        call.write("dst", dst, values)
    return record


def _axes(call: Call, data: NkiTensor, axis: int | Sequence[int]) -> tuple[int, ...]:
    """The reduced dimensions, in order: the last ones, never the partitions."""
    given = (axis,) if isinstance(axis, int | np.integer) else tuple(axis)
    axes = tuple(sorted(int(item) + (data.ndim if item < 0 else 0) for item in given))
    last = tuple(range(data.ndim - len(axes), data.ndim))
    if not axes or axes != last or axes[0] == 0:
        raise call.fail("axis", "dimensions", axis, f"the last free dimensions of {data.shape}", "reduce-axis")
    return axes
