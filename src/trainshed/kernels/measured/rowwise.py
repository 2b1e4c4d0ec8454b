"""Copies and norms that go by tiles of 128 rows, as chipboost measured them on Trn2.

Both take any number of rows; the last tile is as high as what is left.

Source of the tilings: yahavb/trainium-agent-labs, projects/03-chipboost/kernels, copy_tiled.py and rmsnorm_start.py.
"""

from __future__ import annotations

from collections.abc import Iterator

import trainshed.nki as nki
import trainshed.nki.isa as nisa
import trainshed.nki.language as nl
from trainshed.kernels.measured.shapes import PARTITIONS, Tensor, require, same

#: Added to the mean of squares. Source: configuration of Qwen3-8B, "rms_norm_eps".
EPSILON = 1e-6


def _row_tiles(rows: int) -> Iterator[slice]:
    for start in range(0, rows, PARTITIONS):
        yield slice(start, min(start + PARTITIONS, rows))


@nki.jit
def copy_tiled(x: Tensor) -> Tensor:
    """``x`` [rows, columns], 128 rows per DMA from HBM to SBUF and back."""
    require(len(x.shape) == 2, "copy_tiled", "dimensions of x", len(x.shape), "2")
    out = nl.ndarray(x.shape, dtype=x.dtype, buffer=nl.shared_hbm)
    for rows in _row_tiles(x.shape[0]):
        tile = nl.ndarray((rows.stop - rows.start, x.shape[1]), dtype=x.dtype, buffer=nl.sbuf)
        nisa.dma_copy(dst=tile, src=x[rows, :])
        nisa.dma_copy(dst=out[rows, :], src=tile)
    return out


@nki.jit
def rmsnorm(x: Tensor, weight: Tensor) -> Tensor:
    """``x / sqrt(mean(x²) + ε) * weight`` of each row; ``x`` [rows, columns], ``weight`` [1, columns].

    Naive: the weight is loaded once for each partition, the squares and their sum are one ScalarE pass in float32,
    the root another, and each multiplication is a VectorE pass.
    """
    require(len(x.shape) == 2, "rmsnorm", "dimensions of x", len(x.shape), "2")
    columns = x.shape[1]
    same("rmsnorm", "shape of weight", tuple(weight.shape), (1, columns))
    out = nl.ndarray(x.shape, dtype=x.dtype, buffer=nl.shared_hbm)
    weights = nl.ndarray((PARTITIONS, columns), dtype=weight.dtype, buffer=nl.sbuf)
    for partition in range(PARTITIONS):
        nisa.dma_copy(dst=weights[partition : partition + 1, :], src=weight)
    epsilon = epsilon_of(PARTITIONS)
    for rows in _row_tiles(x.shape[0]):
        height = rows.stop - rows.start
        tile = nl.ndarray((height, columns), dtype=x.dtype, buffer=nl.sbuf)
        nisa.dma_copy(dst=tile, src=x[rows, :])
        squares = nl.ndarray((height, columns), dtype=nl.float32, buffer=nl.sbuf)
        total = nl.ndarray((height, 1), dtype=nl.float32, buffer=nl.sbuf)
        nisa.activation_reduce(dst=squares, op=nl.square, data=tile, reduce_op=nl.add, reduce_res=total)
        scale = nl.ndarray((height, 1), dtype=nl.float32, buffer=nl.sbuf)
        bias = epsilon if isinstance(epsilon, float) else epsilon[0:height, :]
        nisa.activation(dst=scale, op=nl.rsqrt, data=total, scale=1.0 / columns, bias=bias)
        normed = nl.ndarray((height, columns), dtype=nl.float32, buffer=nl.sbuf)
        nisa.tensor_scalar(dst=normed, data=tile, op0=nl.multiply, operand0=scale)
        result = nl.ndarray((height, columns), dtype=x.dtype, buffer=nl.sbuf)
        nisa.tensor_tensor(dst=result, data1=normed, data2=weights[0:height, :], op=nl.multiply)
        nisa.dma_copy(dst=out[rows, :], src=result)
    return out


def epsilon_of(height: int) -> Tensor:
    """A number; before NeuronCore-v3 one for each partition, which alone ``activation`` takes as bias there."""
    if nisa.get_nc_version() >= nisa.nc_version.gen3:
        return EPSILON
    column = nl.ndarray((height, 1), dtype=nl.float32, buffer=nl.sbuf)
    nisa.memset(dst=column, value=EPSILON)
    return column
