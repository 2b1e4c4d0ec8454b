"""Reductions along the free dimensions: ``tensor_reduce``, ``tensor_scalar_reduce``, ``bn_stats``, ``bn_aggr``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from trainshed.chip.accumulators import accumulate, begin
from trainshed.chip.alu import arithmetic, bits, integers, operator, reducer
from trainshed.chip.call import Call
from trainshed.chip.isa.vector import check_operand, float_columns
from trainshed.chip.numbers import wholes
from trainshed.chip.operands import (
    direct,
    flat,
    indirection,
    per_partition,
    tiles,
)
from trainshed.chip.record import Instruction
from trainshed.chip.tensor import NkiTensor
from trainshed.chip.words import engine, reduce_cmd

_cmd = reduce_cmd  # the parameter of the same name hides it


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
    indirection(call, engine.vector, (engine.vector,), dst, "data", data)
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
    given = (axis,) if isinstance(axis, int | np.integer) else wholes(call.opcode, "axis", axis, "dimensions")
    axes = tuple(sorted(int(item) + (data.ndim if item < 0 else 0) for item in given))
    last = tuple(range(data.ndim - len(axes), data.ndim))
    if not axes or axes != last or axes[0] == 0:
        raise call.fail("axis", "dimensions", axis, f"the last free dimensions of {data.shape}", "reduce-axis")
    return axes


_REDUCING = (reduce_cmd.reset_reduce, reduce_cmd.reduce, reduce_cmd.load_reduce)


def check_initial(call: Call, operand: str, command: Any, value: Any, data: NkiTensor, unset: Any = None) -> None:
    """The initial value of the accumulators: with ``load_reduce`` only, a scalar or ``(P, 1)`` of float32."""
    if command is not reduce_cmd.load_reduce:
        empty = value is None or (not isinstance(value, NkiTensor) and value == unset)
        call.require(empty, operand, "initial value with", str(command), f"{unset}: only load_reduce", "reduce-init")
        return
    call.require(value is not None, operand, "initial value", value, "one, for load_reduce", "reduce-init")
    if isinstance(value, NkiTensor):
        call.tile(operand, value)
        per_partition(call, operand, value, data)
        call.require(str(value.dtype) == "float32", operand, "dtype", value.dtype, "float32", "dtype")


def tensor_scalar_reduce(
    dst: NkiTensor, data: NkiTensor, op0: Any, operand0: Any, reduce_op: Any, reduce_res: NkiTensor | None = None,
    reverse0: bool = False, reduce_cmd: reduce_cmd = _cmd.reset_reduce, reduce_init: Any = None,
    reduce_res_negate: bool = False, name: str | None = None,
) -> Instruction:  # fmt: skip
    """``dst = data <op0> operand0``, and its reduction over all free dimensions, on VectorE in float32.

    The reduction (add, multiply, max or min) goes through the shared accumulators, and to ``reduce_res`` where it
    is given, negated if asked. Source: ``nki.isa.tensor_scalar_reduce``.
    """
    call = Call("tensor_scalar_reduce", name)
    tiles(call, data=data, dst=dst)
    function, reduction = operator(call, "op0", op0), reducer(call, "reduce_op", reduce_op)
    arithmetic(call, op0=function)
    legal = ("add", "multiply", "maximum", "minimum")
    call.require(reduction.name in legal, "reduce_op", "reduction", reduction.name, " or ".join(legal), "reduction")
    call.require(not reverse0, "reverse0", "reverse0", reverse0, "False: not supported yet", "reverse")
    call.same_elements("dst", dst, data)
    check_operand(call, "operand0", function, operand0, data)
    if reduce_res is not None:
        tiles(call, reduce_res=reduce_res)
        direct(call, reduce_res=reduce_res)
        per_partition(call, "reduce_res", reduce_res, data)
    check_initial(call, "reduce_init", reduce_cmd, reduce_init, data)
    lanes = begin(call, data, reduce_cmd, _REDUCING)
    indirection(call, engine.vector, (engine.vector,), dst, "data", data)
    record = call.issue(
        engine.vector, (data, operand0, reduce_init), (dst, reduce_res), elements=dst.free_size,
        attributes={"op0": function.name, "reduce_op": reduction.name, "reduce_cmd": reduce_cmd.name},
    )  # fmt: skip
    if call.values:
        initial = None if reduce_init is None else call.read_column("reduce_init", reduce_init, data.shape[0])
        values = float_columns(call, data, [(function, "operand0", operand0, False)])
        result = accumulate(call, lanes, reduce_cmd, reduction, values, initial)
        call.write("dst", dst, values)
        if reduce_res is not None:
            call.write("reduce_res", reduce_res, -result if reduce_res_negate else result)
    return record


def bn_stats(dst: NkiTensor, data: NkiTensor, name: str | None = None) -> Instruction:
    """Count, mean, and variance times count, of the even and then of the odd elements of each partition.

    At most 512 elements per partition; VectorE, in float32. Source: ``nki.isa.bn_stats``.
    """
    call = Call("bn_stats", name)
    tiles(call, data=data, dst=dst)
    direct(call, data=data, dst=dst)
    call.require(data.free_size <= 512, "data", "elements per partition", data.free_size, "at most 512", "bn-stats")
    per_partition(call, "dst", dst, data, 6)
    record = call.issue(engine.vector, (data,), (dst,), elements=data.free_size)
    if call.values:
        values = flat(call.read_float("data", data))
        result = np.zeros((data.shape[0], 6), np.float32)
        with np.errstate(all="ignore"):
            for first in (0, 1):
                part = values[:, first::2]
                if part.shape[1]:
                    mean = part.mean(axis=1, keepdims=True)
                    result[:, 3 * first] = part.shape[1]
                    result[:, 3 * first + 1] = mean[:, 0]
                    result[:, 3 * first + 2] = np.square(part - mean).sum(axis=1)
        call.write("dst", dst, result)
    return record


def bn_aggr(dst: NkiTensor, data: NkiTensor, name: str | None = None) -> Instruction:
    """Mean and variance of all that triples (count, mean, variance times count) of ``bn_stats`` describe.

    VectorE, in float32. Source: ``nki.isa.bn_aggr``.
    """
    call = Call("bn_aggr", name)
    tiles(call, data=data, dst=dst)
    direct(call, data=data, dst=dst)
    call.require(
        data.free_size % 3 == 0, "data", "elements per partition", data.free_size, "a multiple of 3", "bn-aggr"
    )
    per_partition(call, "dst", dst, data, 2)
    record = call.issue(engine.vector, (data,), (dst,), elements=data.free_size)
    if call.values:
        values = flat(call.read_float("data", data))
        count, mean, scatter = (values[:, item::3] for item in range(3))
        with np.errstate(all="ignore"):
            total = count.sum(axis=1, keepdims=True)
            center = (count * mean).sum(axis=1, keepdims=True) / total
            spread = (scatter + count * np.square(mean - center)).sum(axis=1, keepdims=True) / total
        call.write("dst", dst, np.concatenate([center, spread], axis=1))
    return record
