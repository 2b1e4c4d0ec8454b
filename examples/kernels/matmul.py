"""A tiled matmul for Trainium: C[M, N] = lhsT[K, M].T @ rhs[K, N]. Run it without the hardware:

trainshed kernel examples/kernels/matmul.py::matmul --inputs "lhsT=bf16[512,256],rhs=bf16[512,1024]" \
    --compare examples/kernels/matmul.py::reference
"""

import nki.isa as nisa
import numpy as np

import nki
import nki.language as nl


@nki.jit
def matmul(lhsT, rhs):
    """K and M in tiles of 128, N in tiles of 512; each output tile accumulates over K in one PSUM bank."""
    depth, rows = lhsT.shape
    inner, columns = rhs.shape
    tile_k, tile_m, tile_n = nl.tile_size.pmax, nl.tile_size.gemm_stationary_fmax, nl.tile_size.gemm_moving_fmax
    assert inner == depth, "lhsT and rhs share K"
    assert depth % tile_k == rows % tile_m == columns % tile_n == 0, "whole tiles only"
    result = nl.ndarray((rows, columns), dtype=lhsT.dtype, buffer=nl.shared_hbm)

    for m in nl.affine_range(rows // tile_m):
        # The stationary tiles of this row of the output stay in SBUF for all columns.
        stationary = nl.ndarray((tile_k, depth // tile_k, tile_m), dtype=lhsT.dtype, buffer=nl.sbuf)
        for k in nl.affine_range(depth // tile_k):
            nisa.dma_copy(
                dst=stationary[:, k, :],
                src=lhsT[k * tile_k : (k + 1) * tile_k, m * tile_m : (m + 1) * tile_m],
            )
        for n in nl.affine_range(columns // tile_n):
            product = nl.ndarray((tile_m, tile_n), dtype=nl.float32, buffer=nl.psum)
            for k in nl.affine_range(depth // tile_k):
                moving = nl.ndarray((tile_k, tile_n), dtype=rhs.dtype, buffer=nl.sbuf)
                nisa.dma_copy(
                    dst=moving,
                    src=rhs[k * tile_k : (k + 1) * tile_k, n * tile_n : (n + 1) * tile_n],
                )
                nisa.nc_matmul(dst=product, stationary=stationary[:, k, :], moving=moving, accumulate=k > 0)
            tile = nl.ndarray((tile_m, tile_n), dtype=result.dtype, buffer=nl.sbuf)
            nisa.tensor_copy(dst=tile, src=product)
            nisa.dma_copy(
                dst=result[m * tile_m : (m + 1) * tile_m, n * tile_n : (n + 1) * tile_n],
                src=tile,
            )
    return result


def reference(lhsT, rhs):
    """The same in float32."""
    return lhsT.astype(np.float32).T @ rhs.astype(np.float32)
