"""``neuronxcc.nki.isa``: Beta-1 instructions, which return their results, over those of today, which are given a place.

Source: the Beta-1 type stubs (Neuron SDK 2.26) for signatures, the instructions' own pages for meaning.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from trainshed.chip.core import active
from trainshed.chip.tensor import NkiTensor
from trainshed.chip.words import MemoryRegion, dge_mode, engine, nc_version, oob_mode, reduce_cmd
from trainshed.nki.beta1.index import Box, Mask, affine
from trainshed.nki.beta1.operands import ahead, as_float, keep, kind, op_name, part, rows, unmasked, with_result
from trainshed.nki.beta1.refuse import Absent, refusal
from trainshed.nki.beta1.rows import (
    bn_aggr,
    bn_stats,
    max8,
    nc_find_index8,
    nc_match_replace8,
    sequence_bounds,
    tensor_partition_reduce,
    tensor_reduce,
    tensor_scalar_cumulative,
    tensor_scalar_reduce,
    tensor_tensor_scan,
)
from trainshed.nki.beta1.strict import strictly
from trainshed.nki.beta1.tile import Operand, Product, Tile, Value, flush, result_type
from trainshed.nki.beta1.today import nisa
from trainshed.nki.beta1.views import PSUM, SBUF, spread, to_sbuf
from trainshed.nki.removed import finder
from trainshed.numerics.formats import DType, float32

__all__ = [
    "activation", "activation_reduce", "affine_select", "bn_aggr", "bn_stats", "dge_mode", "dma_copy", "dma_engine",
    "dma_transpose", "dropout", "engine", "fp32", "get_nc_version", "gpsimd_engine", "iota", "local_gather", "max8",
    "memset", "nc_find_index8", "nc_match_replace8", "nc_matmul", "nc_stream_shuffle", "nc_transpose", "nc_version",
    "oob_mode", "range_select", "reciprocal", "reduce_cmd", "scalar_engine", "scalar_tensor_tensor", "select_reduce",
    "sequence_bounds", "tensor_copy", "tensor_copy_predicated", "tensor_engine", "tensor_partition_reduce",
    "tensor_reduce", "tensor_scalar", "tensor_scalar_cumulative", "tensor_scalar_reduce", "tensor_tensor",
    "tensor_tensor_scan", "unknown_engine", "vector_engine",
]  # fmt: skip

tensor_engine, vector_engine, scalar_engine = engine.tensor, engine.vector, engine.scalar
gpsimd_engine, dma_engine, unknown_engine = engine.gpsimd, engine.dma, engine.unknown

_AP = "nisa.tensor_copy with .ap(scalar_offset=…)"
tensor_copy_dynamic_src = Absent("nki.isa.tensor_copy_dynamic_src", _AP)
tensor_copy_dynamic_dst = Absent("nki.isa.tensor_copy_dynamic_dst", _AP)
builtin_custom_op = Absent("nki.isa.builtin_custom_op", "an instruction of nki.isa")


class fp32:  # noqa: N801 - the vendor's name
    """``nisa.fp32.min``: the most negative finite value."""

    min = -3.4028234663852886e38


def get_nc_version() -> nc_version:
    """The generation the kernel runs on."""
    return active().target.version


# --- data movement ------------------------------------------------------------------------------------------------


def dma_copy(
    *, dst: Operand, src: Operand, mask: Any = None, dst_rmw_op: Any = None, oob_mode: oob_mode = oob_mode.error,
    dge_mode: dge_mode = dge_mode.unknown,
) -> None:  # fmt: skip
    """Copy by DMA, or with ``dst_rmw_op`` add to what is there."""
    for box in ahead(mask, dst.shape):
        to, source = dst.at(box), src.at(box)
        if dst_rmw_op is not None:
            nisa.dma_compute(to, [source, to], dst_rmw_op)
            continue
        if source.shape != to.shape and not source.is_indirect() and source.size == to.size:
            source = source.reshape(to.shape)
        nisa.dma_copy(to, source, oob_mode=oob_mode, dge_mode=dge_mode)


def dma_transpose(src: Operand, *, axes: Any = None, mask: Any = None, dtype: Any = None, **_: Any) -> Value:
    """Transpose by DMA: the first dimension becomes the last."""
    order = tuple(axes) if axes is not None else tuple(reversed(range(src.ndim)))
    shape = [src.shape[d] for d in order]
    unmasked("dma_transpose", mask)

    def issue(dst: NkiTensor, box: Box | None) -> None:
        source = src.at()
        if source.is_indirect():
            kept = active().allocate(source.shape, source.dtype, SBUF)
            nisa.dma_copy(kept, source)
            source = kept
        nisa.dma_copy(dst, _permuted(source, order))

    return Value(shape, kind(dtype, src.dtype), issue, into=(SBUF,), exact=True)


def _permuted(source: NkiTensor, order: Sequence[int]) -> NkiTensor:
    """Dimensions in another order, the partitions too: what DMA can read, compute engines cannot."""
    if not source.buffer.on_chip:
        return source.permute(tuple(order))
    kept = active().allocate(source.shape, source.dtype, MemoryRegion.private_hbm)
    nisa.dma_copy(kept, source)
    return kept.permute(tuple(order))


def tensor_copy(
    src: Operand, *, mask: Any = None, dtype: Any = None, engine: engine = engine.unknown, **_: Any
) -> Value:
    """Copy within SBUF and PSUM."""
    (tile,) = keep(src)
    return Value(
        tile.shape, kind(dtype, tile.dtype), lambda dst, box: nisa.tensor_copy(dst, tile.at(box), engine=engine),
        mask=mask,
    )  # fmt: skip


def tensor_copy_predicated(
    *, src: Any, dst: Operand, predicate: Operand, reverse_pred: bool = False, mask: Any = None, **_: Any
) -> Operand:
    """Copy where the predicate holds."""
    for box in ahead(mask, dst.shape):
        nisa.tensor_copy_predicated(dst.at(box), part(src, box), predicate.at(box), reverse_pred=reverse_pred)
    return dst


def memset(
    shape: Sequence[int], value: Any, dtype: Any, *, mask: Any = None, engine: engine = engine.unknown, **_: Any
) -> Value:
    """A tile of one value."""
    made = kind(dtype, float32)
    number = float(value) if made.is_float else int(value)
    return Value(shape, made, lambda dst, box: nisa.memset(dst, number, engine=engine), mask=mask)


def iota(expr: Any, dtype: Any, *, mask: Any = None, **_: Any) -> Value:
    """An index expression as a tile."""
    values = np.asarray(expr)
    if values.ndim < 2:
        values = values.reshape(values.shape + (1,) * (2 - values.ndim))
    found = affine(values)
    if found is None:
        raise refusal("iota of an expression that is not affine", "nisa.iota with a pattern, and arithmetic")
    start, steps = found

    def issue(dst: NkiTensor, box: Box | None) -> None:
        low = [s.start for s in box] if box else [0] * values.ndim
        offset = start + sum(step * first for step, first in zip(steps, low, strict=True))
        pattern = [[step, count] for step, count in zip(steps[1:], dst.shape[1:], strict=True)]
        nisa.iota(dst, pattern, offset=offset, channel_multiplier=steps[0])

    return Value(values.shape, kind(dtype, DType("int32")), issue, mask=mask)


def local_gather(
    src_buffer: Operand, index: Operand, num_elem_per_idx: int = 1, num_valid_indices: int | None = None, *,
    mask: Any = None,
) -> Value:  # fmt: skip
    """Gather within groups of 16 partitions."""
    unmasked("local_gather", mask)
    source, places = keep(src_buffer, index)
    count = num_valid_indices or int(np.prod(index.shape[1:])) * 16
    shape = [source.shape[0], count, num_elem_per_idx] if num_elem_per_idx > 1 else [source.shape[0], count]
    return Value(
        shape, source.dtype,
        lambda dst, box: nisa.local_gather(
            dst, source.at(), places.at(), num_elem_per_idx=num_elem_per_idx, num_valid_indices=count
        ),
    )  # fmt: skip


def nc_stream_shuffle(
    src: Operand, dst: Operand, shuffle_mask: Sequence[int], *, dtype: Any = None, mask: Any = None, **_: Any
) -> Operand:
    """Shuffle partitions within groups of 32."""
    for box in ahead(mask, dst.shape):
        nisa.nc_stream_shuffle(dst.at(box), src.at(box), shuffle_mask)
    return dst


# --- tensor engine ------------------------------------------------------------------------------------------------


def nc_matmul(stationary: Operand, moving: Operand, *, mask: Any = None, perf_mode: Any = None, **words: Any) -> Value:
    """``stationary.T @ moving`` in PSUM."""
    unmasked("nc_matmul", mask)
    left, right = (_movable(tile) for tile in keep(stationary, moving))
    if perf_mode is not None:
        words["perf_mode"] = _perf_mode(perf_mode)
    words = {name: value for name, value in words.items() if name in _MATMUL}
    double = words.get("perf_mode") is not None and words["perf_mode"].name != "none"
    shape = (left.shape[-1] if double else int(np.prod(left.shape[1:])), *right.shape[2 if double else 1 :])

    def multiply(dst: NkiTensor, accumulate: bool | None) -> None:
        nisa.nc_matmul(dst, left.at(), right.at(), accumulate=accumulate, **words)

    return Product(shape, multiply)


_MATMUL = ("is_stationary_onezero", "is_moving_onezero", "is_transpose", "tile_position", "tile_size", "perf_mode")


def _perf_mode(mode: Any) -> Any:
    name = getattr(mode, "name", str(mode))
    if name in ("none", "None"):
        return nisa.matmul_perf_mode.none
    if name.startswith("double_row"):
        return nisa.matmul_perf_mode.double_row
    raise refusal(f"perf_mode={name}", "perf_mode=nisa.matmul_perf_mode.double_row")


def nc_transpose(
    data: Operand, *, mask: Any = None, dtype: Any = None, engine: engine = engine.unknown, **_: Any
) -> Value:
    """Transpose a tile: by the tensor engine into PSUM, or by the vector engine."""
    unmasked("nc_transpose", mask)
    (tile,) = keep(data)
    shape = (int(np.prod(tile.shape[1:])), tile.shape[0])
    small = max(shape) <= 32
    on_vector = engine is vector_engine or (engine is unknown_engine and tile.buffer is PSUM and small)
    if engine is not vector_engine and tile.buffer is PSUM and not small:
        tile = Tile(to_sbuf(tile.at()))
    chosen = vector_engine if on_vector else tensor_engine

    def issue(dst: NkiTensor, box: Box | None) -> None:
        nisa.nc_transpose(dst, tile.at(), engine=chosen)

    home = SBUF if on_vector else PSUM
    return Value(shape, kind(dtype, tile.dtype), issue, home=home, into=(SBUF, PSUM) if on_vector else (PSUM,))


def _movable(tile: Operand) -> Operand:
    """An operand in SBUF, where the tensor engine reads."""
    return Tile(to_sbuf(tile.at())) if tile.buffer is PSUM else tile


# --- element by element -------------------------------------------------------------------------------------------


def activation(
    op: Any, data: Operand, *, bias: Any = None, scale: Any = 1.0, reduce_op: Any = None, reduce_res: Any = None,
    reduce_cmd: reduce_cmd = reduce_cmd.idle, mask: Any = None, dtype: Any = None, **_: Any,
) -> Value:  # fmt: skip
    """``op(data * scale + bias)`` on ScalarE, with an optional sum."""
    tile, add, factor = keep(data, bias, scale)
    words = {} if reduce_op is None else {"reduce_op": reduce_op, "reduce_cmd": reduce_cmd}

    def issue(dst: NkiTensor, box: Box | None) -> None:
        if reduce_res is not None:
            words["reduce_res"] = rows(reduce_res, box)
        nisa.activation(dst, op, tile.at(box), bias=rows(add, box), scale=rows(factor, box), **words)

    return with_result(Value(tile.shape, kind(dtype, as_float(tile.dtype)), issue, mask=mask), reduce_res)


def activation_reduce(
    op: Any, data: Operand, *, reduce_op: Any, reduce_res: Operand, bias: Any = None, scale: Any = 1.0,
    mask: Any = None, dtype: Any = None, **_: Any,
) -> Value:  # fmt: skip
    """``activation`` and the reduction of each row into ``reduce_res``."""
    tile, add, factor = keep(data, bias, scale)

    def issue(dst: NkiTensor, box: Box | None) -> None:
        nisa.activation_reduce(
            dst, op, tile.at(box), reduce_op, rows(reduce_res, box), bias=rows(add, box), scale=rows(factor, box)
        )

    return with_result(Value(tile.shape, kind(dtype, as_float(tile.dtype)), issue, mask=mask), reduce_res)


def reciprocal(data: Operand, *, dtype: Any = None, mask: Any = None, **_: Any) -> Value:
    """``1 / data`` on VectorE."""
    (tile,) = keep(data)
    return Value(tile.shape, kind(dtype, tile.dtype), lambda dst, box: nisa.reciprocal(dst, tile.at(box)), mask=mask)


def tensor_tensor(
    data1: Operand, data2: Operand, op: Any, *, dtype: Any = None, mask: Any = None,
    engine: engine = engine.unknown, **_: Any,
) -> Value:  # fmt: skip
    """``data1 op data2``."""
    left, right = keep(data1, data2)
    made = kind(dtype, result_type(op_name(op), left, right))
    shape = tuple(int(size) for size in np.broadcast_shapes(left.shape, right.shape))

    def issue(dst: NkiTensor, box: Box | None) -> None:
        nisa.tensor_tensor(dst, *(spread(tile.at(box), dst.shape) for tile in (left, right)), op, engine=engine)

    return Value(shape, made, issue, mask=mask)


def tensor_scalar(
    data: Operand, op0: Any, operand0: Any, reverse0: bool = False, op1: Any = None, operand1: Any = None,
    reverse1: bool = False, *, dtype: Any = None, mask: Any = None, engine: engine = engine.unknown, **_: Any,
) -> Value:  # fmt: skip
    """``(data op0 operand0) op1 operand1`` with numbers or one value per partition."""
    tile, first, second = keep(data, operand0, operand1)

    def issue(dst: NkiTensor, box: Box | None) -> None:
        nisa.tensor_scalar(
            dst, tile.at(box), op0, rows(first, box), reverse0=reverse0, op1=op1, operand1=rows(second, box),
            reverse1=reverse1, engine=engine,
        )  # fmt: skip

    made = kind(dtype, result_type(op_name(op1 or op0), tile))
    return Value(tile.shape, made, issue, mask=mask)


def scalar_tensor_tensor(
    *, data: Operand, op0: Any, operand0: Any, op1: Any, operand1: Operand, reverse0: bool = False,
    reverse1: bool = False, dtype: Any = None, mask: Any = None, **_: Any,
) -> Value:  # fmt: skip
    """``(data op0 operand0) op1 operand1`` with a tile as the second operand."""
    tile, first, second = keep(data, operand0, operand1)

    def issue(dst: NkiTensor, box: Box | None) -> None:
        nisa.scalar_tensor_tensor(
            dst, tile.at(box), op0, rows(first, box), op1, second.at(box), reverse0=reverse0, reverse1=reverse1
        )

    return Value(tile.shape, kind(dtype, result_type(op_name(op1), tile, second)), issue, mask=mask)


def dropout(data: Operand, prob: Any, *, mask: Any = None, dtype: Any = None, **_: Any) -> Value:
    """Elements set to 0 with a probability."""
    tile, chance = keep(data, prob)
    return Value(
        tile.shape, kind(dtype, tile.dtype), lambda dst, box: nisa.dropout(dst, tile.at(box), rows(chance, box)),
        mask=mask,
    )  # fmt: skip


def affine_select(
    pred: Any, on_true_tile: Operand, on_false_value: Any, *, mask: Any = None, dtype: Any = None, **_: Any
) -> Value:
    """``on_true_tile`` where an index expression compares true, else a constant."""
    if not isinstance(pred, Mask) or pred.expression is None:
        raise refusal("affine_select of a predicate that is no single comparison", "one affine_select per comparison")
    (tile,) = keep(on_true_tile)
    found = affine(pred.expression)
    if found is None:
        raise refusal("affine_select of an expression that is not affine", "nisa.affine_select with a pattern")
    (start, steps), op = found, _COMPARISONS[pred.comparison]
    steps = (*steps, *[0] * (tile.ndim - len(steps)))

    def issue(dst: NkiTensor, box: Box | None) -> None:
        low = [s.start for s in box] if box else [0] * tile.ndim
        source = tile.at(box)
        offset = start + sum(step * first for step, first in zip(steps, low, strict=True))
        pattern = [[step, count] for step, count in zip(steps[1:], source.shape[1:], strict=True)]
        nisa.affine_select(dst, pattern, steps[0], source, float(on_false_value), cmp_op=op, offset=offset)

    return Value(tile.shape, kind(dtype, tile.dtype), issue, mask=mask)


_COMPARISONS = {
    "lt": "less", "le": "less_equal", "gt": "greater", "ge": "greater_equal", "eq": "equal", "ne": "not_equal",
}  # fmt: skip


def range_select(
    *, on_true_tile: Operand, comp_op0: Any, comp_op1: Any, bound0: Operand, bound1: Operand, reduce_res: Any = None,
    reduce_op: Any = np.max, range_start: float = 0, on_false_value: float = -3.4028234663852886e38,
    reduce_cmd: reduce_cmd = reduce_cmd.reset_reduce, mask: Any = None, dtype: Any = None, **_: Any,
) -> Value:  # fmt: skip
    """Elements whose column lies between two bounds, others the smallest float; with a running maximum."""
    unmasked("range_select", mask)
    tile, low, high = keep(on_true_tile, bound0, bound1)

    def issue(dst: NkiTensor, box: Box | None) -> None:
        nisa.range_select(
            dst, tile.at(), comp_op0, comp_op1, low.at(), high.at(), reduce_cmd=reduce_cmd,
            reduce_res=part(reduce_res), reduce_op="maximum", range_start=range_start, on_false_value=on_false_value,
        )  # fmt: skip

    return with_result(Value(tile.shape, kind(dtype, tile.dtype), issue), reduce_res)


def select_reduce(
    *, dst: Operand, predicate: Operand, on_true: Operand, on_false: Any, reduce_res: Any = None,
    reduce_cmd: reduce_cmd = reduce_cmd.idle, reduce_op: Any = np.max, reverse_pred: bool = False, mask: Any = None,
    dtype: Any = None, **_: Any,
) -> None:  # fmt: skip
    """Choose by a predicate, with a running maximum."""
    unmasked("select_reduce", mask)
    flush()
    nisa.select_reduce(
        dst.at(), predicate.at(), on_true.at(), part(on_false), reduce_res=part(reduce_res),
        reduce_cmd=reduce_cmd, reduce_op="maximum", reverse_pred=reverse_pred,
    )  # fmt: skip


globals().update(strictly(globals()))
__getattr__ = finder("neuronxcc.nki.isa", globals())
