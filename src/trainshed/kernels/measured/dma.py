"""Kernels that only move bytes: loads of one size, and loads whose place is found at run time."""

from __future__ import annotations

import trainshed.nki as nki
import trainshed.nki.isa as nisa
import trainshed.nki.language as nl
from trainshed.kernels.measured.shapes import PARTITIONS, Tensor, multiple, part, require, same


def _last(tile: Tensor) -> Tensor:
    """A kernel returns something: the last tile's first row."""
    result = nl.ndarray((1, tile.shape[1]), dtype=tile.dtype, buffer=nl.shared_hbm)
    nisa.dma_copy(dst=result, src=tile[0:1, :])
    return result


@nki.jit
def loads(x: Tensor) -> Tensor:
    """``x`` [rows, width] into SBUF, 128 rows per DMA: a descriptor for each partition. Returns [1, width]."""
    require(len(x.shape) == 2, "dma.loads", "dimensions of x", len(x.shape), "2")
    tile: Tensor = None
    for index in nl.affine_range(multiple("dma.loads", "rows", x.shape[0], PARTITIONS)):
        tile = nl.ndarray((PARTITIONS, x.shape[1]), dtype=x.dtype, buffer=nl.sbuf)
        nisa.dma_copy(dst=tile, src=x[part(index, PARTITIONS), :])
    return _last(tile)


@nki.jit
def indirect_loads(blocks: Tensor, numbers: Tensor) -> Tensor:
    """Blocks [count, 128, width] into SBUF by ``numbers`` [1, loads] int32; GpSimdE writes the descriptors.

    Returns [1, width].
    """
    require(len(blocks.shape) == 3, "dma.indirect_loads", "dimensions of blocks", len(blocks.shape), "3")
    same("dma.indirect_loads", "partitions of blocks", blocks.shape[1], PARTITIONS)
    width = blocks.shape[2]
    which = nl.ndarray(numbers.shape, dtype=numbers.dtype, buffer=nl.sbuf)
    nisa.dma_copy(dst=which, src=numbers)
    tile: Tensor = None
    for index in nl.affine_range(numbers.shape[1]):
        tile = nl.ndarray((PARTITIONS, width), dtype=blocks.dtype, buffer=nl.sbuf)
        place = blocks.ap(
            pattern=[[width, PARTITIONS], [1, width]], scalar_offset=which[0:1, index : index + 1], indirect_dim=0
        )
        nisa.dma_copy(dst=tile, src=place, dge_mode=nisa.dge_mode.swdge)
    return _last(tile)
