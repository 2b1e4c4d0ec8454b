"""Norms and softmax of the rows of ``x`` [rows, columns], statistics in float32.

Each row lies in a partition; partition p holds consecutive rows, so that a DMA moves several KiB of each partition.
ScalarE, VectorE and GpSimdE work on different rows at the same time. On several cores each takes a share of the rows.
"""

from __future__ import annotations

import math
from typing import Any

import trainshed.nki as nki
import trainshed.nki.isa as nisa
import trainshed.nki.language as nl
from trainshed.kernels.blocks import Rows, spread, up
from trainshed.kernels.common import (
    PARTITIONS,
    Tensor,
    chunk,
    load_rows,
    loaded,
    own_rows,
    require,
    rows_of,
    sbuf,
    store_rows,
)


@nki.jit
def rmsnorm(x: Tensor, weight: Tensor, epsilon: float = 1e-6) -> Tensor:
    """``x / sqrt(mean(x²) + epsilon) * weight``; ``weight`` is [1, columns].

    ScalarE sums the squares, GpSimdE takes the root of as many rows as partitions, VectorE multiplies once. Of few
    rows each is cut over several partitions, whose sums TensorE adds.
    """
    columns = rows_of("norms.rmsnorm", x, 16)
    _weight("norms.rmsnorm", "weight", weight, columns)
    y = nl.ndarray(x.shape, dtype=x.dtype, buffer=nl.shared_hbm)
    share = own_rows(x.shape[0])
    count = share.stop - share.start
    if count == 0:
        return y
    parts = _parts(count, columns)
    if parts > 1:
        _few_rows(y[share, :], x[share, :], weight, epsilon, parts)
        return y
    rows, whole, weights = spread(count), slice(0, columns), None
    together = chunk(x, rows)
    for first in nl.affine_range(0, rows.steps, together):
        tile = load_rows(x[share, :], rows, whole, first, min(first + together, rows.steps))
        if weights is None:
            weights = loaded(weight.broadcast(0, rows.partitions(0)))
        out = sbuf(tile.shape, y.dtype)
        for step in nl.affine_range(tile.shape[1]):
            deep = rows.partitions(first + step)
            data, inverse = tile[0:deep, step, :], sbuf((deep, 1), nl.float32)
            _inverse_root(inverse, _mean_square(data, columns), epsilon)
            _scaled(out[0:deep, step, :], data, inverse, weights[0:deep, :])
        store_rows(y[share, :], rows, whole, first, out)
    return y


def _few_rows(y: Tensor, x: Tensor, weight: Tensor, epsilon: float, parts: int) -> None:
    """RMSNorm of few rows, each cut in ``parts`` partitions."""
    count, columns = x.shape
    pieces, width = count * parts, columns // parts
    data = loaded(x.reshape((pieces, width)))
    weights = sbuf((pieces, width), weight.dtype)
    nisa.dma_copy(dst=weights, src=weight.reshape((parts, width)).expand_dim(0).broadcast(0, count))
    same = sbuf((pieces, count, parts), nl.float32)
    nisa.memset(dst=same, value=1.0)
    # 0 <= partition - row * parts < parts: where a partition and a column are pieces of one row.
    nisa.affine_select(
        dst=same, pattern=[[-parts, count], [0, parts]], channel_multiplier=1, on_true_tile=same, on_false_value=0.0,
        cmp_op=nl.greater_equal,
    )  # fmt: skip
    nisa.affine_select(
        dst=same, pattern=[[parts, count], [0, parts]], channel_multiplier=-1, on_true_tile=same, on_false_value=0.0,
        cmp_op=nl.greater_equal, offset=parts - 1,
    )  # fmt: skip
    sums = nl.ndarray((pieces, 1), dtype=nl.float32, buffer=nl.psum)
    nisa.nc_matmul(dst=sums, stationary=same.reshape((pieces, pieces)), moving=_mean_square(data, columns))
    total, inverse, out = sbuf((pieces, 1), nl.float32), sbuf((pieces, 1), nl.float32), sbuf((pieces, width), y.dtype)
    nisa.tensor_copy(dst=total, src=sums)
    _inverse_root(inverse, total, epsilon)
    _scaled(out, data, inverse, weights)
    nisa.dma_copy(dst=y.reshape((pieces, width)), src=out)


def _parts(count: int, columns: int) -> int:
    """In how many partitions a row of few is cut: a power of two that divides the columns, all partitions at most."""
    parts = 1
    while 2 * parts * count <= PARTITIONS and columns % (2 * parts) == 0:
        parts *= 2
    return parts


def _mean_square(data: Tensor, columns: int) -> Tensor:
    """Of each partition the sum of the squares, over ``columns``."""
    squares, total = sbuf(data.shape, data.dtype), sbuf((data.shape[0], 1), nl.float32)
    nisa.activation_reduce(
        dst=squares, op=nl.square, data=data, scale=1 / math.sqrt(columns), reduce_op=nl.add, reduce_res=total
    )
    return total


def _scaled(dst: Tensor, data: Tensor, inverse: Tensor, weights: Tensor) -> None:
    nisa.scalar_tensor_tensor(dst=dst, data=data, op0=nl.multiply, operand0=inverse, op1=nl.multiply, operand1=weights)


@nki.jit
def layernorm(x: Tensor, weight: Tensor, bias: Tensor, epsilon: float = 1e-5) -> Tensor:
    """``(x - mean) / sqrt(variance + epsilon) * weight + bias``; ``weight`` and ``bias`` are [1, columns].

    VectorE takes the statistics (by Welford's sums, 512 columns at a time), ScalarE shifts and scales; GpSimdE
    multiplies with the weight two of three times, VectorE the third, and GpSimdE adds the bias.
    """
    columns = rows_of("norms.layernorm", x, 16)
    _weight("norms.layernorm", "weight", weight, columns)
    _weight("norms.layernorm", "bias", bias, columns)
    y = nl.ndarray(x.shape, dtype=x.dtype, buffer=nl.shared_hbm)
    share = own_rows(x.shape[0])
    if share.start == share.stop:
        return y
    rows, whole = spread(share.stop - share.start), slice(0, columns)
    together, waiting = chunk(x, rows), None
    weights = biases = None
    for first in nl.affine_range(0, rows.steps, together):
        tile = load_rows(x[share, :], rows, whole, first, min(first + together, rows.steps))
        if weights is None:
            weights = loaded(weight.broadcast(0, rows.partitions(0)))
            biases = loaded(bias.broadcast(0, rows.partitions(0)))
        out = sbuf(tile.shape, y.dtype)
        for step in nl.affine_range(tile.shape[1]):
            data = tile[0 : rows.partitions(first + step), step, :]
            normal = _normal(data, epsilon)
            if waiting is not None:
                _weighted(waiting, weights, biases)
                _stored(y[share, :], rows, waiting)
            waiting = (out, step, first, normal)
    _weighted(waiting, weights, biases)
    _stored(y[share, :], rows, waiting)
    return y


def _normal(data: Tensor, epsilon: float) -> Tensor:
    """``(data - mean) / sqrt(variance + epsilon)`` of each row, float32."""
    deep, columns = data.shape
    size = nl.tile_size.bn_stats_fmax
    parts = up(columns, size)
    stats, moments = sbuf((deep, 6 * parts), nl.float32), sbuf((deep, 2), nl.float32)
    for part in nl.affine_range(parts):
        piece = data[:, part * size : min((part + 1) * size, columns)]
        nisa.bn_stats(dst=stats[:, 6 * part : 6 * part + 6], data=piece)
    nisa.bn_aggr(dst=moments, data=stats)
    scale, shift, normal = sbuf((deep, 1), nl.float32), sbuf((deep, 1), nl.float32), sbuf(data.shape, nl.float32)
    _inverse_root(scale, moments[:, 1:2], epsilon)
    nisa.tensor_scalar(
        dst=shift, data=moments[:, 0:1], op0=nl.multiply, operand0=-1.0, op1=nl.multiply, operand1=scale,
        engine=nisa.gpsimd_engine,
    )  # fmt: skip
    nisa.activation(dst=normal, op=nl.copy, data=data, scale=scale, bias=shift)
    return normal


def _weighted(row: Any, weights: Tensor, biases: Tensor) -> None:
    """``normal * weight + bias``."""
    out, step, first, normal = row
    deep = normal.shape[0]
    on = nisa.vector_engine if (first + step) % 3 == 2 else nisa.gpsimd_engine
    nisa.tensor_tensor(dst=normal, data1=normal, data2=weights[0:deep, :], op=nl.multiply, engine=on)
    nisa.tensor_tensor(
        dst=out[0:deep, step, :], data1=normal, data2=biases[0:deep, :], op=nl.add, engine=nisa.gpsimd_engine
    )


@nki.jit
def softmax(x: Tensor) -> Tensor:
    """``exp(x - max) / sum(exp(x - max))`` of each row.

    VectorE finds the maximum of a row before it divides the one before; ScalarE takes exponentials and their sum.
    """
    columns = rows_of("norms.softmax", x, 16)
    y = nl.ndarray(x.shape, dtype=x.dtype, buffer=nl.shared_hbm)
    share = own_rows(x.shape[0])
    if share.start == share.stop:
        return y
    rows, whole = spread(share.stop - share.start), slice(0, columns)
    together, waiting = chunk(x, rows), None
    for first in nl.affine_range(0, rows.steps, together):
        tile = load_rows(x[share, :], rows, whole, first, min(first + together, rows.steps))
        out = sbuf(tile.shape, y.dtype)
        for step in nl.affine_range(tile.shape[1]):
            data = tile[0 : rows.partitions(first + step), step, :]
            # In the dtype of x a maximum is exact; of 16 bits VectorE finds it, and divides, at its fast rates.
            most, total = sbuf((data.shape[0], 1), x.dtype), sbuf((data.shape[0], 1), nl.float32)
            powers = sbuf(data.shape, x.dtype)
            nisa.tensor_reduce(dst=most, op=nl.maximum, data=data, axis=1, negate=True)
            nisa.activation_reduce(dst=powers, op=nl.exp, data=data, bias=most, reduce_op=nl.add, reduce_res=total)
            if waiting is not None:
                _divided(waiting)
                _stored(y[share, :], rows, waiting)
            waiting = (out, step, first, powers, total)
    _divided(waiting)
    _stored(y[share, :], rows, waiting)
    return y


def _divided(row: Any) -> None:
    out, step, _, powers, total = row
    inverse = sbuf(total.shape, nl.float32)
    nisa.reciprocal(dst=inverse, data=total)
    dst = out[0 : total.shape[0], step, :]
    nisa.tensor_scalar(dst=dst, data=powers, op0=nl.multiply, operand0=inverse, engine=nisa.vector_engine)


def _stored(y: Tensor, rows: Rows, row: Any) -> None:
    """A tile of results, once its last row is there."""
    out, step, first = row[0], row[1], row[2]
    if step == out.shape[1] - 1:
        store_rows(y, rows, slice(0, out.shape[2]), first, out)


def _weight(kernel: str, name: str, weight: Tensor, columns: int) -> None:
    require(tuple(weight.shape) == (1, columns), kernel, f"shape of {name}", tuple(weight.shape), f"(1, {columns})")


def _inverse_root(dst: Tensor, data: Tensor, epsilon: float) -> None:
    """``1 / sqrt(data + epsilon)`` on GpSimdE, which needs no activation table for it."""
    nisa.tensor_scalar(
        dst=dst, data=data, op0=nl.add, operand0=epsilon, op1=nl.power, operand1=-0.5, engine=nisa.gpsimd_engine
    )
