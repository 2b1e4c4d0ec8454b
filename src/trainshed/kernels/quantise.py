"""Narrow operands of matrix products: FP8 with a scale to each row, and MX (NeuronCore-v4)."""

from __future__ import annotations

from typing import Any

import ml_dtypes

import trainshed.nki as nki
import trainshed.nki.isa as nisa
import trainshed.nki.language as nl
from trainshed.kernels.blocks import spread, up
from trainshed.kernels.common import PARTITIONS, Tensor, chunk, load_rows, own_rows, require, rows_of, sbuf, store_rows

#: What a row of zeros is scaled by: the least magnitude that a row counts as.
LEAST = 2.0**-100
#: The largest finite element of each format (``float8_e4m3`` is IEEE's, with infinities).
LARGEST = {
    name: float(ml_dtypes.finfo(getattr(ml_dtypes, name)).max)  # type: ignore[no-untyped-call]
    for name in ("float8_e4m3", "float8_e4m3fn", "float8_e5m2")
}
#: Columns of x that one step of the MX kernel takes: four rows of 4 KiB in each partition.
COLUMNS = 2048


@nki.jit
def rows(x: Tensor, dtype: Any = nl.float8_e4m3) -> tuple[Tensor, Tensor]:
    """``x`` [rows, columns] as FP8 [rows, columns] and float32 scales [rows, 1], ``x ≈ q * scale``.

    The largest magnitude of a row becomes the largest of the format. VectorE finds it; two of three rows are multiplied
    by ScalarE, the third by VectorE.
    """
    columns = rows_of("quantise.rows", x, 16)
    require(str(dtype) in LARGEST, "quantise.rows", "dtype", str(dtype), " or ".join(LARGEST))
    q = nl.ndarray(x.shape, dtype=dtype, buffer=nl.shared_hbm)
    scale = nl.ndarray((x.shape[0], 1), dtype=nl.float32, buffer=nl.shared_hbm)
    share = own_rows(x.shape[0])
    if share.start == share.stop:
        return q, scale
    lie, whole = spread(share.stop - share.start), slice(0, columns)
    together = chunk(x, lie)
    scales = sbuf((lie.partitions(0), lie.steps, 1), nl.float32)
    for first in nl.affine_range(0, lie.steps, together):
        tile = load_rows(x[share, :], lie, whole, first, min(first + together, lie.steps))
        out = sbuf(tile.shape, dtype)
        for step in nl.affine_range(tile.shape[1]):
            deep = lie.partitions(first + step)
            factor = scales[0:deep, first + step, :]
            inverse = _scale(factor, tile[0:deep, step, :], LARGEST[str(dtype)])
            _multiplied(out[0:deep, step, :], tile[0:deep, step, :], inverse, first + step)
        store_rows(q[share, :], lie, whole, first, out)
    store_rows(scale[share, :], lie, slice(0, 1), 0, scales)
    return q, scale


def _scale(dst: Tensor, data: Tensor, largest: float) -> Tensor:
    """Largest magnitude of each row over ``largest``, and 1 over that."""
    deep = data.shape[0]
    # In the dtype of x a magnitude is exact; of 16 bits VectorE takes it at its fast rate.
    magnitudes, most = sbuf(data.shape, data.dtype), sbuf((deep, 1), data.dtype)
    inverse = sbuf((deep, 1), nl.float32)
    nisa.tensor_scalar_reduce(
        dst=magnitudes, data=data, op0=nl.abs, operand0=None, reduce_op=nl.maximum, reduce_res=most
    )
    nisa.tensor_scalar(
        dst=dst, data=most, op0=nl.maximum, operand0=LEAST, op1=nl.multiply, operand1=1 / largest,
        engine=nisa.vector_engine,
    )  # fmt: skip
    nisa.reciprocal(dst=inverse, data=dst)
    return inverse


def _multiplied(dst: Tensor, data: Tensor, factor: Tensor, turn: int) -> None:
    if turn % 3 == 2:
        nisa.tensor_scalar(dst=dst, data=data, op0=nl.multiply, operand0=factor, engine=nisa.vector_engine)
    else:
        nisa.activation(dst=dst, op=nl.copy, data=data, scale=factor)


@nki.jit
def mx(x: Tensor, dtype: Any = nl.float8_e4m3fn_x4) -> tuple[Tensor, Tensor]:
    """``x`` [k, columns], bf16 or fp16, as MXFP8 operands of ``gemm.matmul_mx`` (NeuronCore-v4).

    k is a multiple of 32. Containers are [partitions, steps, columns], scales uint8 [partitions / 8, steps, columns]:
    32 consecutive elements of k share a scale, and group g lies in step ``g % steps``, in the eight partitions from
    ``g // steps * 8`` on, as ``gemm_layout.mx_rows`` has it. Steps: k / 512, rounded up; groups that are not filled
    are zeros.
    """
    require(len(x.shape) == 2, "quantise.mx", "dimensions of x", len(x.shape), "2")
    k, columns = x.shape
    require(k % 32 == 0, "quantise.mx", "rows of x", k, "a multiple of 32")
    steps = up(k, 4 * PARTITIONS)
    partitions = 32 * up(k, 4 * steps * 32)
    data = nl.ndarray((partitions, steps, columns), dtype=dtype, buffer=nl.shared_hbm)
    scales = nl.ndarray((partitions // 8, steps, columns), dtype=nl.uint8, buffer=nl.shared_hbm)
    share = own_rows(up(columns, COLUMNS))
    for step in nl.affine_range(steps):
        for block in nl.affine_range(share.start, share.stop):
            part = slice(block * COLUMNS, min((block + 1) * COLUMNS, columns))
            tile = _groups(x, step, steps, partitions, part)
            width = part.stop - part.start
            packed, factors = sbuf((partitions, width), dtype), sbuf((partitions, width), nl.uint8)
            # Four elements of k side by side: the columns of x outside, its rows inside.
            nisa.quantize_mx(dst=packed, src=tile.permute((0, 2, 1)), dst_scale=factors)
            nisa.dma_copy(dst=data[:, step, part], src=packed)
            for quadrant in nl.affine_range(partitions // 32):
                nisa.dma_copy(
                    dst=scales[quadrant * 4 : quadrant * 4 + 4, step, part],
                    src=factors[quadrant * 32 : quadrant * 32 + 4, :],
                )
    return data, scales


def _groups(x: Tensor, step: int, steps: int, partitions: int, part: slice) -> Tensor:
    """The groups of a step, [partitions, 4 elements, columns], zeros where x has none."""
    width, groups = part.stop - part.start, x.shape[0] // 32
    tile = sbuf((partitions, 4, width), x.dtype)
    own = up(groups - step, steps)
    if own * 8 < partitions:
        nisa.memset(dst=tile, value=0.0)
    view = x.reshape((groups, 8, 4, x.shape[1]))[step : step + (own - 1) * steps + 1 : steps, :, :, part]
    nisa.dma_copy(dst=tile[0 : own * 8, :, :], src=view)
    return tile
