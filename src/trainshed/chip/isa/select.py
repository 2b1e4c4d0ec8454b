"""Selections and index patterns: ``range_select``, ``select_reduce``, ``affine_select``, ``iota``."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from trainshed.chip.accumulators import accumulate, begin
from trainshed.chip.alu import OPERATORS, Array, Operator, operator
from trainshed.chip.call import SBUF, Call
from trainshed.chip.numbers import scalar, whole
from trainshed.chip.operands import direct, one_in_sbuf, per_partition, tiles
from trainshed.chip.record import Instruction
from trainshed.chip.tensor import NkiTensor
from trainshed.chip.words import engine, nc_version, reduce_cmd
from trainshed.numerics.cast import from_float32

_cmd = reduce_cmd  # the parameter of the same name hides it
_MAXIMUM = OPERATORS["maximum"]
FP32_MIN = float(np.finfo(np.float32).min)


def _reduction(call: Call, data: NkiTensor, reduce_op: Any, reduce_res: NkiTensor | None) -> None:
    """Both selections reduce by maximum only, into one element per partition."""
    found = operator(call, "reduce_op", reduce_op)
    call.require(found is _MAXIMUM, "reduce_op", "reduction", found.name, "maximum", "reduction")
    if reduce_res is not None:
        tiles(call, reduce_res=reduce_res)
        per_partition(call, "reduce_res", reduce_res, data)
        call.require(reduce_res.dtype.is_float, "reduce_res", "dtype", reduce_res.dtype, "a float type", "dtype")


def _comparison(call: Call, operand: str, op: Any, legal: tuple[str, ...]) -> Operator:
    found = operator(call, operand, op)
    call.require(found.name in legal, operand, "comparison", found.name, " or ".join(legal), "comparison")
    return found


_ORDER = ("equal", "less", "less_equal", "greater", "greater_equal")
_RANGE_COMMANDS = (reduce_cmd.reset_reduce, reduce_cmd.reduce, reduce_cmd.reset, reduce_cmd.idle)


def range_select(
    dst: NkiTensor, on_true_tile: NkiTensor, comp_op0: Any, comp_op1: Any, bound0: NkiTensor, bound1: NkiTensor,
    reduce_cmd: reduce_cmd = _cmd.reset_reduce, reduce_res: NkiTensor | None = None, reduce_op: Any = "maximum",
    range_start: int = 0, on_false_value: float = FP32_MIN, name: str | None = None,
) -> Instruction:  # fmt: skip
    """Elements whose index passes both comparisons with its partition's bounds; the least float32 for the others.

    The index is ``range_start`` plus the position in the partition, compared in float32. The maximum of what is
    selected goes to the shared accumulators, and to ``reduce_res`` where given. VectorE, from NeuronCore-v3 on.
    Source: ``nki.isa.range_select``.
    """
    call = Call("range_select", name)
    call.generation(nc_version.gen3)
    tiles(call, on_true_tile=on_true_tile, bound0=bound0, bound1=bound1, dst=dst)
    direct(call, on_true_tile=on_true_tile, bound0=bound0, bound1=bound1, dst=dst)
    first, second = _comparison(call, "comp_op0", comp_op0, _ORDER), _comparison(call, "comp_op1", comp_op1, _ORDER)
    call.require(on_true_tile.dtype.is_float, "on_true_tile", "dtype", on_true_tile.dtype, "a float type", "dtype")
    for operand, tensor in (("bound0", bound0), ("bound1", bound1)):
        per_partition(call, operand, tensor, on_true_tile)
        call.require(str(tensor.dtype) == "float32", operand, "dtype", tensor.dtype, "float32", "dtype")
    call.same_elements("dst", dst, on_true_tile)
    with np.errstate(over="ignore"):
        good = float(np.float32(on_false_value)) == FP32_MIN  # as many digits as the user wrote
    call.require(good, "on_false_value", "value", on_false_value, f"the least float32, {FP32_MIN}", "on-false-value")
    start, count = int(range_start), on_true_tile.free_size
    call.require(abs(start) + count <= 1 << 24, "range_start", "last index", start + count, "within 2**24", "range")
    _reduction(call, on_true_tile, reduce_op, reduce_res)
    lanes = begin(call, on_true_tile, reduce_cmd, _RANGE_COMMANDS, result=reduce_res)
    record = call.issue(
        engine.vector, (on_true_tile, bound0, bound1), (dst, reduce_res), elements=dst.free_size,
        attributes={"comp_op0": first.name, "comp_op1": second.name, "reduce_cmd": reduce_cmd.name},
    )  # fmt: skip
    if call.values:
        values = call.read_float("on_true_tile", on_true_tile)
        index = np.arange(start, start + count, dtype=np.float32)[None, :]
        low, high = (call.read_column(n, t, dst.shape[0]) for n, t in (("bound0", bound0), ("bound1", bound1)))
        assert first.native is not None
        assert second.native is not None
        mask = first.native(index, low) & second.native(index, high)
        result = np.where(mask.reshape(values.shape), values, np.float32(FP32_MIN))
        _finish(call, lanes, reduce_cmd, dst, result, reduce_res)
    return record


def _finish(
    call: Call, lanes: slice, command: reduce_cmd, dst: NkiTensor, values: Array, reduce_res: NkiTensor | None
) -> None:
    """Write what was selected, and its running maximum."""
    highest = accumulate(call, lanes, command, _MAXIMUM, values)
    with np.errstate(over="ignore"):
        call.write("dst", dst, values)
        if reduce_res is not None:
            call.write("reduce_res", reduce_res, highest)


_SELECT_COMMANDS = (reduce_cmd.idle, reduce_cmd.reset_reduce, reduce_cmd.reduce)


def select_reduce(
    dst: NkiTensor, predicate: NkiTensor, on_true: NkiTensor, on_false: float | NkiTensor,
    reduce_res: NkiTensor | None = None, reduce_cmd: reduce_cmd = _cmd.idle, reduce_op: Any = "maximum",
    reverse_pred: bool = False, name: str | None = None,
) -> Instruction:  # fmt: skip
    """``on_true`` where ``predicate`` is not zero (zero: ``reverse_pred``), else ``on_false``, a scalar or ``(P, 1)``.

    With a reducing command, the maximum of the result goes to the shared accumulators, and to ``reduce_res`` where
    given. ``on_true`` and ``predicate`` not both in PSUM. VectorE.
    Source: ``nki.isa.select_reduce``; a bool predicate, as Beta 1's example has it, is a uint8.
    """
    call = Call("select_reduce", name)
    tiles(call, on_true=on_true, predicate=predicate, dst=dst)
    direct(call, on_true=on_true, predicate=predicate, dst=dst)
    call.same_elements("predicate", predicate, on_true)
    call.same_elements("dst", dst, on_true)
    wide = str(on_true.dtype) in ("tfloat32", "int32", "uint32")
    call.require(not wide, "on_true", "dtype", on_true.dtype, "any but tfloat32, int32, uint32", "dtype")
    kinds = ("int8", "uint8", "int16", "uint16", "bool_")
    call.require(str(predicate.dtype) in kinds, "predicate", "dtype", predicate.dtype, " or ".join(kinds[:4]), "dtype")
    one_in_sbuf(call, on_true=on_true, predicate=predicate)
    if isinstance(on_false, NkiTensor):
        tiles(call, on_false=on_false)
        per_partition(call, "on_false", on_false, on_true)
    _reduction(call, on_true, reduce_op, reduce_res)
    lanes = begin(call, on_true, reduce_cmd, _SELECT_COMMANDS, result=reduce_res)
    record = call.issue(
        engine.vector, (predicate, on_true, on_false), (dst, reduce_res),
        attributes={"reduce_cmd": reduce_cmd.name}, elements=dst.free_size,
    )  # fmt: skip
    if call.values:
        values = call.read_float("on_true", on_true)
        mask = (call.read("predicate", predicate) != 0).reshape(values.shape)
        other = call.read_column("on_false", on_false, on_true.shape[0])
        other = other.reshape(-1, *(1,) * (values.ndim - 1)) if other.ndim else other
        result = np.where(~mask if reverse_pred else mask, values, other)
        _finish(call, lanes, reduce_cmd, dst, result, reduce_res)
    return record


def _affine(
    call: Call, dst: NkiTensor, pattern: Sequence[Sequence[int]], offset: Any, channel_multiplier: Any
) -> Array:
    """``offset + partition * channel_multiplier + …`` over up to 4 dimensions, as ``[P, N]`` int32, wrapping."""
    total = np.full((1,), whole(call.opcode, "offset", offset), np.int64)
    for stride, count in pattern:
        total = (total[:, None] + np.arange(count, dtype=np.int64) * int(stride)).reshape(-1)
    rows = np.arange(dst.shape[0], dtype=np.int64)[:, None] * whole(
        call.opcode, "channel_multiplier", channel_multiplier
    )
    result: Array = rows.astype(np.int32) + total.astype(np.int32)
    return result


def _pattern(call: Call, dst: NkiTensor, pattern: Any) -> tuple[tuple[int, int], ...]:
    """One to four pairs of a step and a count, that make as many elements as ``dst`` has per partition."""
    try:
        pairs = tuple(
            (whole(call.opcode, "pattern", step), whole(call.opcode, "pattern", count)) for step, count in pattern
        )
    except (TypeError, ValueError):
        raise call.fail(
            "pattern", "pattern", pattern, "[[step, elements], …], a pair of whole numbers for each dimension",
            "pattern",
        ) from None  # fmt: skip
    call.require(1 <= len(pairs) <= 4, "pattern", "dimensions", len(pairs), "1 to 4", "pattern")
    made = math.prod(count for _, count in pairs)
    call.require(made == dst.free_size, "pattern", "elements", made, f"{dst.free_size}, those of dst", "pattern")
    return pairs


def iota(
    dst: NkiTensor, pattern: Sequence[Sequence[int]], offset: Any = 0, channel_multiplier: Any = 0,
    name: str | None = None,
) -> Instruction:  # fmt: skip
    """Integers ``offset + partition * channel_multiplier + index * step + …`` in ``dst`` (SBUF), by GpSimdE.

    ``pattern`` is ``[[step, count], …]``, outermost first, up to 4; 32-bit arithmetic, cast to the dtype of
    ``dst``. Source: ``nki.isa.iota``.
    """
    call = Call("iota", name)
    call.tile("dst", dst, SBUF)
    direct(call, dst=dst)
    pairs = _pattern(call, dst, pattern)
    record = call.issue(engine.gpsimd, (), (dst,), attributes={"pattern": pairs}, elements=dst.free_size)
    if call.values:
        values = _affine(call, dst, pairs, offset, channel_multiplier)
        call.write("dst", dst, values if dst.dtype.is_integer else values.astype(np.float32))
    return record


def affine_select(
    dst: NkiTensor, pattern: Sequence[Sequence[int]], channel_multiplier: Any, on_true_tile: NkiTensor,
    on_false_value: float, cmp_op: Any = "equal", offset: Any = 0, name: str | None = None,
) -> Instruction:  # fmt: skip
    """``on_true_tile`` where the affine value of partition and index (as in ``iota``) compares with 0, else a constant.

    GpSimdE, all in SBUF. The same dtype is copied bit by bit, others pass through float32.
    Source: ``nki.isa.affine_select``.
    """
    call = Call("affine_select", name)
    call.tile("on_true_tile", on_true_tile, SBUF)
    call.tile("dst", dst, SBUF)
    direct(call, on_true_tile=on_true_tile, dst=dst)
    call.same_elements("on_true_tile", on_true_tile, dst)
    pairs = _pattern(call, dst, pattern)
    function = _comparison(call, "cmp_op", cmp_op, (*_ORDER, "not_equal"))
    record = call.issue(
        engine.gpsimd, (on_true_tile,), (dst,),
        attributes={"pattern": pairs, "cmp_op": function.name}, elements=dst.free_size,
    )  # fmt: skip
    if call.values:
        assert function.native is not None
        mask = function.native(_affine(call, dst, pairs, offset, channel_multiplier), 0).reshape(dst.shape)
        same = on_true_tile.dtype == dst.dtype
        read = call.read if same else call.read_float
        values = read("on_true_tile", on_true_tile).reshape(dst.shape)
        with np.errstate(over="ignore"):
            other = np.asarray(scalar(call.opcode, "on_false_value", on_false_value), np.float32)
            other = from_float32(other, dst.dtype) if same and values.dtype == dst.dtype.storage else other
            call.write("dst", dst, np.where(mask, values, other))
    return record
