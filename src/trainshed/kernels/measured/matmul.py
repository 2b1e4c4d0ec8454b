"""Matrix products in the tilings of AWS's tutorial, as its figures on Trn1 and those of chipboost on Trn2 ran them.

All take ``lhsT`` [K, M] and ``rhs`` [K, N] in HBM and return [M, N] in the dtype of ``lhsT``; K and M are multiples of
128, N of 512. What differs is what is loaded how often, and what waits in SBUF.

Source of the tilings: NKI tutorial "Matrix multiplication"; for ``blocked_wide`` its revision of SDK 2.32 with float32
accumulators, as yahavb/trainium-agent-labs, projects/03-chipboost/kernels, measured it.
"""

from __future__ import annotations

import trainshed.nki as nki
import trainshed.nki.isa as nisa
import trainshed.nki.language as nl
from trainshed.kernels.measured.shapes import MOVING, PARTITIONS, Tensor, fitted, multiple, part, same


def _tiles(kernel: str, lhsT: Tensor, rhs: Tensor) -> tuple[int, int, int]:
    """Tiles along M, N and K."""
    k, m = lhsT.shape
    same(kernel, "K of rhs", rhs.shape[0], k)
    return (
        multiple(kernel, "M", m, PARTITIONS),
        multiple(kernel, "N", rhs.shape[1], MOVING),
        multiple(kernel, "K", k, PARTITIONS),
    )


def _result(lhsT: Tensor, rhs: Tensor) -> Tensor:
    return nl.ndarray((lhsT.shape[1], rhs.shape[1]), dtype=lhsT.dtype, buffer=nl.shared_hbm)


def _loaded(view: Tensor) -> Tensor:
    """A new SBUF tile with a view of HBM in it."""
    tile = nl.ndarray(view.shape, dtype=view.dtype, buffer=nl.sbuf)
    nisa.dma_copy(dst=tile, src=view)
    return tile


def _psum() -> Tensor:
    return nl.ndarray((PARTITIONS, MOVING), dtype=nl.float32, buffer=nl.psum)


def _stored(result: Tensor, m: int, n: int, product: Tensor) -> None:
    """One tile of the result out of PSUM, through SBUF, to its place."""
    tile = nl.ndarray(product.shape, dtype=result.dtype, buffer=nl.sbuf)
    nisa.tensor_copy(dst=tile, src=product)
    nisa.dma_copy(dst=result[part(m, PARTITIONS), part(n, MOVING)], src=tile)


@nki.jit
def tiled(lhsT: Tensor, rhs: Tensor) -> Tensor:
    """Both tiles loaded anew for every product; accumulation over K in PSUM."""
    tiles_m, tiles_n, tiles_k = _tiles("matmul.tiled", lhsT, rhs)
    result = _result(lhsT, rhs)
    for m in nl.affine_range(tiles_m):
        for n in nl.affine_range(tiles_n):
            product = _psum()
            for k in nl.affine_range(tiles_k):
                stationary = _loaded(lhsT[part(k, PARTITIONS), part(m, PARTITIONS)])
                moving = _loaded(rhs[part(k, PARTITIONS), part(n, MOVING)])
                nisa.nc_matmul(dst=product, stationary=stationary, moving=moving)
            _stored(result, m, n, product)
    return result


@nki.jit
def hoisted(lhsT: Tensor, rhs: Tensor) -> Tensor:
    """The loads of lhsT one loop further out: once for each row of result tiles."""
    return _free_blocks("matmul.hoisted", lhsT, rhs, 1, 1)


@nki.jit
def block_free(lhsT: Tensor, rhs: Tensor) -> Tensor:
    """Blocks of 2 tiles of M and 2 of N over the whole of K: 256 by 1024 elements of the result at a time."""
    return _free_blocks("matmul.block_free", lhsT, rhs, 2, 2)


def _free_blocks(kernel: str, lhsT: Tensor, rhs: Tensor, block_m: int, block_n: int) -> Tensor:
    """All K tiles of a block of lhsT stay in SBUF while those of each block of rhs pass by."""
    _, _, tiles_k = _tiles(kernel, lhsT, rhs)
    blocks_m = multiple(kernel, "M", lhsT.shape[1], PARTITIONS * block_m)
    blocks_n = multiple(kernel, "N", rhs.shape[1], MOVING * block_n)
    result = _result(lhsT, rhs)

    def columns(of: Tensor, tile: int, width: int) -> list[Tensor]:
        return [_loaded(of[part(k, PARTITIONS), part(tile, width)]) for k in nl.affine_range(tiles_k)]

    for outer in nl.affine_range(blocks_m):
        left = [columns(lhsT, outer * block_m + m, PARTITIONS) for m in range(block_m)]
        for inner in nl.affine_range(blocks_n):
            right = [columns(rhs, inner * block_n + n, MOVING) for n in range(block_n)]
            for m in range(block_m):
                for n in range(block_n):
                    product = _psum()
                    for k in nl.affine_range(tiles_k):
                        nisa.nc_matmul(dst=product, stationary=left[m][k], moving=right[n][k])
                    _stored(result, outer * block_m + m, inner * block_n + n, product)
    return result


@nki.jit
def blocked(
    lhsT: Tensor, rhs: Tensor, tiles_in_block_m: int = 16, tiles_in_block_n: int = 2, tiles_in_block_k: int = 8
) -> Tensor:
    """Blocks of M, N and K. Partial results wait in SBUF tiles of the input's dtype and are packed when stored.

    The block sizes are caps, fitted to the shape (:func:`trainshed.kernels.measured.shapes.fitted`).
    """
    tiles = _tiles("matmul.blocked", lhsT, rhs)
    caps = (tiles_in_block_m, tiles_in_block_n, tiles_in_block_k)
    return _blocks(lhsT, rhs, tiles, caps, packed=True)


@nki.jit
def blocked_wide(
    lhsT: Tensor, rhs: Tensor, tiles_in_block_m: int = 16, tiles_in_block_n: int = 2, tiles_in_block_k: int = 8
) -> Tensor:
    """As :func:`blocked`, but partial results are float32 rows of a whole block of N, which a DMA rounds and stores."""
    tiles = _tiles("matmul.blocked_wide", lhsT, rhs)
    caps = (tiles_in_block_m, tiles_in_block_n, tiles_in_block_k)
    return _blocks(lhsT, rhs, tiles, caps, packed=False)


def _blocks(
    lhsT: Tensor, rhs: Tensor, tiles: tuple[int, int, int], caps: tuple[int, int, int], *, packed: bool
) -> Tensor:
    sizes = [fitted(cap, count) for cap, count in zip(caps, tiles, strict=True)]
    block_m, block_n, block_k = sizes
    blocks_m, blocks_n, blocks_k = (count // size for count, size in zip(tiles, sizes, strict=True))
    result = _result(lhsT, rhs)
    for n in nl.affine_range(blocks_n):
        waiting = [_zeros(lhsT.dtype if packed else nl.float32, block_n, apart=packed) for _ in range(tiles[0])]
        for k in nl.sequential_range(blocks_k):
            right = _block(rhs, k, block_k, n, block_n * MOVING)
            for m in nl.affine_range(blocks_m):
                left = _block(lhsT, k, block_k, m, block_m * PARTITIONS)
                _add_products(left, right, waiting[m * block_m : (m + 1) * block_m], block_n)
        for row, tile in enumerate(waiting):
            if packed:
                tile = _packed(tile, block_n)
            out = result[part(row, PARTITIONS), part(n, block_n * MOVING)]
            nisa.dma_copy(dst=out, src=tile.reshape((PARTITIONS, block_n * MOVING)))
    return result


def _zeros(dtype: object, block_n: int, *, apart: bool) -> Tensor:
    """Result tiles of one row of a block, set to 0: each by itself, or all at once."""
    tile = nl.ndarray((PARTITIONS, block_n, MOVING), dtype=dtype, buffer=nl.sbuf)
    for view in [tile[:, n, :] for n in range(block_n)] if apart else [tile]:
        nisa.memset(dst=view, value=0.0)
    return tile


def _block(of: Tensor, k: int, block_k: int, column: int, width: int) -> list[Tensor]:
    """The K tiles of a block, each loaded by one DMA of whole rows of the block."""
    return [_loaded(of[part(k * block_k + step, PARTITIONS), part(column, width)]) for step in nl.affine_range(block_k)]


def _add_products(left: list[Tensor], right: list[Tensor], waiting: list[Tensor], block_n: int) -> None:
    """The products of one block of K, accumulated in PSUM and added to the tiles that wait in SBUF."""
    for n in range(block_n):
        for m, tile in enumerate(waiting):
            product = _psum()
            for stationary, moving in zip(left, right, strict=True):
                nisa.nc_matmul(
                    dst=product, stationary=stationary[:, part(m, PARTITIONS)], moving=moving[:, part(n, MOVING)]
                )
            nisa.tensor_tensor(dst=tile[:, n, :], data1=tile[:, n, :], data2=product, op=nl.add)


def _packed(tile: Tensor, block_n: int) -> Tensor:
    """The result tiles of a row side by side in float32, for one large DMA."""
    row = nl.ndarray((PARTITIONS, block_n * MOVING), dtype=nl.float32, buffer=nl.sbuf)
    for n in nl.affine_range(block_n):
        nisa.tensor_copy(dst=row[:, part(n, MOVING)], src=tile[:, n, :])
    return row
