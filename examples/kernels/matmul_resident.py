"""The matmul of matmul.py with rhs kept in SBUF: loaded once, in rows as long as rhs has them. What that gains:

trainshed kernel examples/kernels/matmul.py::matmul --inputs "lhsT=bf16[1024,512],rhs=bf16[1024,1024]" \
    --compare examples/kernels/matmul_resident.py::matmul
"""

import nki.isa as nisa

import nki
import nki.language as nl


@nki.jit
def matmul(lhsT, rhs):
    """K and M in tiles of 128, N in tiles of 512; all of rhs stays in SBUF, K/128 * N elements in each partition."""
    depth, rows = lhsT.shape
    inner, columns = rhs.shape
    tile_k, tile_m, tile_n = nl.tile_size.pmax, nl.tile_size.gemm_stationary_fmax, nl.tile_size.gemm_moving_fmax
    assert inner == depth, "lhsT and rhs share K"
    assert depth % tile_k == rows % tile_m == columns % tile_n == 0, "whole tiles only"
    result = nl.ndarray((rows, columns), dtype=lhsT.dtype, buffer=nl.shared_hbm)

    moving = nl.ndarray((tile_k, depth // tile_k, columns), dtype=rhs.dtype, buffer=nl.sbuf)
    for k in nl.affine_range(depth // tile_k):
        nisa.dma_copy(dst=moving[:, k, :], src=rhs[k * tile_k : (k + 1) * tile_k, :])
    for m in nl.affine_range(rows // tile_m):
        stationary = nl.ndarray((tile_k, depth // tile_k, tile_m), dtype=lhsT.dtype, buffer=nl.sbuf)
        for k in nl.affine_range(depth // tile_k):
            nisa.dma_copy(
                dst=stationary[:, k, :],
                src=lhsT[k * tile_k : (k + 1) * tile_k, m * tile_m : (m + 1) * tile_m],
            )
        for n in nl.affine_range(columns // tile_n):
            product = nl.ndarray((tile_m, tile_n), dtype=nl.float32, buffer=nl.psum)
            for k in nl.affine_range(depth // tile_k):
                nisa.nc_matmul(
                    dst=product,
                    stationary=stationary[:, k, :],
                    moving=moving[:, k, n * tile_n : (n + 1) * tile_n],
                    accumulate=k > 0,
                )
            tile = nl.ndarray((tile_m, tile_n), dtype=result.dtype, buffer=nl.sbuf)
            nisa.tensor_copy(dst=tile, src=product)
            nisa.dma_copy(
                dst=result[m * tile_m : (m + 1) * tile_m, n * tile_n : (n + 1) * tile_n],
                src=tile,
            )
    return result
