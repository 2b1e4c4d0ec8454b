"""A matrix product of 4096 cubed on a virtual NeuronCore, against NumPy's product of the same size in float32."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np

from trainshed import nki
from trainshed.nki import isa, language

SIZE, ROUNDS, ASKED = 4096, 3, 3.0
ROWS, COLUMNS, DEPTH, BLOCK = 128, 512, 128, 1024


def matmul(lhs: Any, rhs: Any) -> Any:
    """``lhs.T @ rhs`` of ``[K, M]`` and ``[K, N]``: a block of lhs stays in SBUF while all of rhs passes by it."""
    k, m = lhs.shape
    n = rhs.shape[1]
    out = language.ndarray((m, n), dtype=lhs.dtype, buffer=language.shared_hbm)
    depths, block = k // DEPTH, BLOCK
    for left in language.affine_range(m // block):
        stationary = language.ndarray((DEPTH, depths, block), dtype=lhs.dtype, buffer=language.sbuf)
        for depth in language.affine_range(depths):
            isa.dma_copy(
                dst=stationary[:, depth, :],
                src=lhs[depth * DEPTH : (depth + 1) * DEPTH, left * block : (left + 1) * block],
            )
        for right in language.affine_range(n // COLUMNS):
            moving = language.ndarray((DEPTH, depths, COLUMNS), dtype=rhs.dtype, buffer=language.sbuf)
            columns = slice(right * COLUMNS, (right + 1) * COLUMNS)
            for depth in language.affine_range(depths):
                isa.dma_copy(dst=moving[:, depth, :], src=rhs[depth * DEPTH : (depth + 1) * DEPTH, columns])
            for tile in language.affine_range(block // ROWS):
                rows = slice(tile * ROWS, (tile + 1) * ROWS)
                total = language.ndarray((ROWS, COLUMNS), dtype=language.float32, buffer=language.psum)
                for depth in language.affine_range(depths):
                    isa.nc_matmul(dst=total, stationary=stationary[:, depth, rows], moving=moving[:, depth, :])
                result = language.ndarray((ROWS, COLUMNS), dtype=out.dtype, buffer=language.sbuf)
                isa.tensor_copy(dst=result, src=total)
                start = left * block + tile * ROWS
                isa.dma_copy(dst=out[start : start + ROWS, columns], src=result)
    return out


def best(run: Callable[[], Any]) -> tuple[float, Any]:
    """Shortest of some runs, seconds, and the last result."""
    times: list[float] = []
    result = None
    for _ in range(ROUNDS):
        start = time.perf_counter()
        result = run()
        times.append(time.perf_counter() - start)
    return min(times), result


def main(size: int) -> None:
    random = np.random.default_rng(0)
    lhs, rhs = (random.standard_normal((size, size), np.float32).astype(ml_dtypes.bfloat16) for _ in range(2))
    wide = lhs.astype(np.float32).T.copy(), rhs.astype(np.float32)
    plain, expected = best(lambda: wide[0] @ wide[1])
    simulated = nki.simulate(matmul, target="trn2")
    took, got = best(lambda: simulated(lhs, rhs))
    error = float(np.abs(got.astype(np.float32) - expected).max() / np.abs(expected).max())
    recorded, _ = best(lambda: nki.simulate(matmul, target="trn2", values=False)(lhs, rhs))
    count = (size // ROWS) * (size // COLUMNS) * (size // DEPTH)
    print(f"matmul {size} cubed, bfloat16, {count:,} nc_matmul of [{DEPTH}, {ROWS}] by [{DEPTH}, {COLUMNS}]")
    print(f"    NumPy float32 {plain:.2f} s; simulated {took:.2f} s; ratio {took / plain:.2f}, asked {ASKED:.1f}")
    print(
        f"    records alone {recorded:.2f} s; of each nc_matmul {(took - plain) / count * 1e6:.0f} us beyond NumPy's"
        f" product; largest error {error:.1e} of the largest element"
    )


def _size(text: str) -> int:
    if not text.isdecimal() or int(text) < BLOCK or int(text) % BLOCK:
        raise argparse.ArgumentTypeError(f"{text!r}; expected a positive multiple of {BLOCK}")
    return int(text)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("size", nargs="?", type=_size, default=SIZE, help=f"rows and columns (default {SIZE})")
    main(parser.parse_args().size)
