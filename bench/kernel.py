"""Values and time of a matrix product of 4096 cubed on a virtual NeuronCore, against NumPy's product in float32.

And time alone, of that product and of a long loop: instructions per second, stepped and where repeats are told.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np

from trainshed import nki
from trainshed.chip.timing.clock import clocks
from trainshed.chip.timing.rates import rates
from trainshed.chip.timing.timing import timing
from trainshed.nki import isa, language

SIZE, ROUNDS, ASKED, ASKED_BOTH = 4096, 3, 3.0, 4.0
TRIPS, STEPPED, TOLD = 16384, 20_000, 200_000
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


def best(run: Callable[[], Any], clock: Callable[[], float] = time.perf_counter) -> tuple[float, Any]:
    """Shortest of some runs, seconds, and the last result."""
    times: list[float] = []
    result = None
    for _ in range(ROUNDS):
        start = clock()
        result = run()
        times.append(clock() - start)
    return min(times), result


def loop(x: Any, trips: int) -> Any:
    """``2 x`` of ``[rows, columns]``, 128 rows a trip, over and over."""
    out = language.ndarray(x.shape, dtype=x.dtype, buffer=language.shared_hbm)
    for trip in language.affine_range(trips):
        start = trip * ROWS % x.shape[0]
        tile = language.ndarray((ROWS, x.shape[1]), dtype=x.dtype, buffer=language.sbuf)
        isa.dma_copy(dst=tile, src=x[start : start + ROWS, :])
        isa.tensor_scalar(dst=tile, data=tile, op0=language.multiply, operand0=2.0)
        isa.dma_copy(dst=out[start : start + ROWS, :], src=tile)
    return out


def computed(size: int) -> None:
    """Values of a matmul, alone and with time, against NumPy's product."""
    random = np.random.default_rng(0)
    lhs, rhs = (random.standard_normal((size, size), np.float32).astype(ml_dtypes.bfloat16) for _ in range(2))
    wide = lhs.astype(np.float32).T.copy(), rhs.astype(np.float32)
    plain, expected = best(lambda: wide[0] @ wide[1])
    simulated = nki.simulate(matmul, target="trn2")
    took, got = best(lambda: simulated(lhs, rhs))
    both, _ = best(lambda: (simulated(lhs, rhs), simulated.timing))
    error = float(np.abs(got.astype(np.float32) - expected).max() / np.abs(expected).max())
    count = (size // ROWS) * (size // COLUMNS) * (size // DEPTH)
    print(f"matmul {size} cubed, bfloat16, {count:,} nc_matmul of [{DEPTH}, {ROWS}] by [{DEPTH}, {COLUMNS}]")
    print(f"    NumPy float32 {plain:.2f} s; largest error {error:.1e} of the largest element")
    print(f"    values {took:.2f} s; ratio {took / plain:.2f}, asked {ASKED:.1f}")
    print(f"    values and time {both:.2f} s; ratio {both / plain:.2f}, asked {ASKED_BOTH:.1f}")


def timed(name: str, kernel: Any, *arguments: Any) -> None:
    """Instructions per second of time alone, by its parts: the kernel's run, the clock, bounds and critical path.

    Seconds are the process's own, for one thread does it all.
    """
    simulated = nki.simulate(kernel, target="trn2", values=False)
    recorded, _ = best(lambda: simulated(*arguments), time.process_time)
    columns = simulated.columns
    count, of = sum(len(column.core.instructions) for column in columns), rates(columns[0].core.target.chip)
    stepped, one = best(lambda: clocks(columns, of, repeat=False), time.process_time)
    told, two = best(lambda: clocks(columns, of), time.process_time)
    rest, _ = best(lambda: timing(columns, of, two), time.process_time)
    whole, _ = best(lambda: (simulated(*arguments), simulated.timing), time.process_time)
    same = all(
        np.array_equal(getattr(a, field), getattr(b, field))
        for a, b in zip(one, two, strict=True)
        for field in ("start", "end", "ready", "release")
    )
    print(f"{name}, time alone: {count:,} instructions; told and stepped times {'equal' if same else 'DIFFER'}")
    for what, seconds, asked in (
        ("clock, every instruction stepped", stepped, STEPPED), ("clock, repeats told", told, TOLD),
        ("kernel's run, recorded", recorded, None), ("bounds, engines, critical path", rest, None),
        ("all from the call to its timing", whole, STEPPED),
    ):  # fmt: skip
        rate = count / seconds
        against = f"; ratio to the {asked:,} asked {rate / asked:.2f}" if asked else f"; {seconds / whole:.0%} of all"
        print(f"    {what}: {rate:,.0f} instructions/s{against}")


def main(size: int) -> None:
    computed(size)
    zeros = np.zeros((size, size), ml_dtypes.bfloat16)
    timed(f"matmul {size} cubed", matmul, zeros, zeros)
    timed(f"loop of {TRIPS:,} trips", loop, zeros[:2048, :2048], TRIPS)


def _size(text: str) -> int:
    if not text.isdecimal() or int(text) < BLOCK or int(text) % BLOCK:
        raise argparse.ArgumentTypeError(f"{text!r}; expected a positive multiple of {BLOCK}")
    return int(text)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("size", nargs="?", type=_size, default=SIZE, help=f"rows and columns (default {SIZE})")
    main(parser.parse_args().size)
