"""Beta-1 instructions that work along rows: reductions, scans, statistics, searches."""

from __future__ import annotations

from typing import Any

import numpy as np

from trainshed.chip.tensor import NkiTensor
from trainshed.chip.words import reduce_cmd
from trainshed.nki.beta1.index import Box, boxes
from trainshed.nki.beta1.operands import keep, kind, op_name, part, rows, unmasked, with_result
from trainshed.nki.beta1.refuse import refusal
from trainshed.nki.beta1.tile import Operand, Value, flush, result_type
from trainshed.nki.beta1.today import nisa
from trainshed.nki.beta1.views import undefined
from trainshed.numerics.formats import DType, float32, uint32


def tensor_reduce(
    op: Any, data: Operand, axis: Any, *, mask: Any = None, dtype: Any = None, negate: bool = False,
    keepdims: bool = False, **_: Any,
) -> Value:  # fmt: skip
    """Reduce free dimensions."""
    (tile,) = keep(data)
    axes = sorted(a % tile.ndim for a in (axis if isinstance(axis, tuple | list) else (axis,)))
    kept = [size for a, size in enumerate(tile.shape) if a not in axes]
    shape = [1 if a in axes else size for a, size in enumerate(tile.shape)] if keepdims else kept
    shape = shape if len(shape) > 1 else [*shape, 1]
    rows_: list[Box | None] = [None] if mask is None else [*boxes(mask, tile.shape)]
    if len(rows_) > 1:
        raise refusal("a reduction under a mask that is no box", "one reduction for each slice")
    box = rows_[0]

    def issue(dst: NkiTensor, _: Box | None) -> None:
        to = dst
        if box is not None:
            undefined(dst)
            to = dst[(box[0],)]
        source, last = tile.at(box), tuple(range(tile.ndim - len(axes), tile.ndim))
        if tuple(axes) != last:  # the hardware reduces the innermost dimensions: an access pattern reorders them
            order = [a for a in range(tile.ndim) if a not in axes]
            to = to.reshape((to.shape[0], *(tile.at(box).shape[a] for a in order[1:])) if len(order) > 1 else to.shape)
            source = source.permute((*order, *axes))
        nisa.tensor_reduce(to, op, source, last, negate=negate, keepdims=keepdims and tuple(axes) == last)

    return Value(shape, kind(dtype, tile.dtype), issue)


def tensor_partition_reduce(op: Any, data: Operand, *, mask: Any = None, dtype: Any = None, **_: Any) -> Value:
    """Reduce across partitions."""
    unmasked("tensor_partition_reduce", mask)
    (tile,) = keep(data)
    return Value(
        (1, *tile.shape[1:]), kind(dtype, tile.dtype), lambda dst, _: nisa.tensor_partition_reduce(dst, op, tile.at())
    )


def tensor_scalar_reduce(
    *, data: Operand, op0: Any, operand0: Any, reduce_op: Any, reduce_res: Operand, reverse0: bool = False,
    dtype: Any = None, mask: Any = None, **_: Any,
) -> Value:  # fmt: skip
    """``tensor_scalar`` and the reduction of each row into ``reduce_res``."""
    tile, first = keep(data, operand0)

    def issue(dst: NkiTensor, box: Box | None) -> None:
        nisa.tensor_scalar_reduce(
            dst, tile.at(box), op0, rows(first, box), reduce_op, rows(reduce_res, box), reverse0=reverse0
        )

    made = kind(dtype, result_type(op_name(op0), tile))
    return with_result(Value(tile.shape, made, issue, mask=mask), reduce_res)


def tensor_scalar_cumulative(
    *, src: Operand, dst: Operand, op0: Any, op1: Any, imm0: Any, imm1: Any = None,
    reduce_cmd: reduce_cmd = reduce_cmd.reset_reduce, mask: Any = None, **_: Any,
) -> None:  # fmt: skip
    """A running reduction along each row."""
    unmasked("tensor_scalar_cumulative", mask)
    flush()
    nisa.tensor_scalar_cumulative(
        dst.at(), src.at(), op0, op1, part(imm0), part(imm1), reduce_cmd=reduce_cmd
    )  # fmt: skip


def tensor_tensor_scan(
    data0: Operand, data1: Operand, initial: Any, op0: Any, op1: Any, reverse0: bool = False, reverse1: bool = False,
    *, dtype: Any = None, mask: Any = None, **_: Any,
) -> Value:  # fmt: skip
    """``result[i] = (data0[i] op0 result[i-1]) op1 data1[i]`` along each row."""
    left, right, first = keep(data0, data1, initial)

    def issue(dst: NkiTensor, box: Box | None) -> None:
        nisa.tensor_tensor_scan(
            dst, left.at(box), right.at(box), rows(first, box), op0, op1, reverse0=reverse0, reverse1=reverse1
        )

    return Value(left.shape, kind(dtype, result_type(op_name(op1), left, right)), issue, mask=mask)


def bn_stats(data: Operand, *, mask: Any = None, dtype: Any = None, **_: Any) -> Value:
    """Statistics of each row: count, mean and sum of squared differences, twice."""
    unmasked("bn_stats", mask)
    (tile,) = keep(data)
    return Value((tile.shape[0], 6), kind(dtype, float32), lambda dst, _: nisa.bn_stats(dst, tile.at()))


def bn_aggr(data: Operand, *, mask: Any = None, dtype: Any = None, **_: Any) -> Value:
    """Mean and variance from statistics."""
    unmasked("bn_aggr", mask)
    (tile,) = keep(data)
    return Value((tile.shape[0], 2), kind(dtype, float32), lambda dst, _: nisa.bn_aggr(dst, tile.at()))


def max8(*, src: Operand, mask: Any = None, dtype: Any = None, **_: Any) -> Value:
    """The 8 largest of each row."""
    return _eight("max8", src, mask, kind(dtype, src.dtype), lambda dst, view, _: nisa.max8(dst, view))


def nc_find_index8(*, data: Operand, vals: Operand, mask: Any = None, dtype: Any = None, **_: Any) -> Value:
    """Where each of 8 values lies in its row."""
    (wanted,) = keep(vals)
    return _eight(
        "nc_find_index8", data, mask, kind(dtype, uint32),
        lambda dst, view, box: nisa.nc_find_index8(dst, view, rows(wanted, box)),
    )  # fmt: skip


def _eight(name: str, data: Operand, mask: Any, made: DType, act: Any) -> Value:
    (tile,) = keep(data)
    found: list[Box | None] = [None] if mask is None else [*boxes(mask, tile.shape)]
    if len(found) > 1:
        raise refusal(f"{name} under a mask that is no box", "slices")
    box = found[0]

    def issue(dst: NkiTensor, _: Box | None) -> None:
        to = dst
        if box is not None:
            undefined(dst)
            to = dst[(box[0],)]
        act(to, tile.at(box), box)

    return Value((tile.shape[0], 8), made, issue)


def nc_match_replace8(
    *, data: Operand, vals: Operand, imm: float, dst_idx: Operand | None = None, mask: Any = None, dtype: Any = None,
    **_: Any,
) -> Value:  # fmt: skip
    """Replace the first occurrence of each of 8 values, and say where it was."""
    tile, wanted = keep(data, vals)

    def issue(dst: NkiTensor, box: Box | None) -> None:
        place = None if dst_idx is None else rows(dst_idx, box)
        nisa.nc_match_replace8(dst, tile.at(box), rows(wanted, box), float(imm), dst_idx=place)

    return with_result(Value(tile.shape, kind(dtype, tile.dtype), issue, mask=mask), dst_idx)


def sequence_bounds(*, segment_ids: Operand, dtype: Any = None) -> Value:
    """Where each element's segment starts and ends."""
    (tile,) = keep(segment_ids)
    shape = (tile.shape[0], 2, int(np.prod(tile.shape[1:])))
    return Value(shape, kind(dtype, tile.dtype), lambda dst, _: nisa.sequence_bounds(dst, tile.at()))
