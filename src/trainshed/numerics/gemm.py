"""Float32 products of the sizes an instruction has.

OpenBLAS hands even a product of a few million operations to all its threads, which meet at a barrier that spins. Where
other processes want the cores too, one such meeting takes a time slice of the scheduler: 50 ms for a product of
0.2 ms. So products run on one thread of the library, and long ones on threads of our own, which sleep while they wait.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
#: Multiply-adds from which a product is shared among threads: some 2 ms of one core.
LONG = 1 << 26
_NAMES = ("scipy_openblas_{}64_", "scipy_openblas_{}", "openblas_{}64_", "openblas_{}")


@lru_cache
def _threads() -> tuple[Callable[[], int], Callable[[int], None]] | None:
    """How to ask and to set OpenBLAS's number of threads; None where NumPy uses another library."""
    package = Path(np.__file__).parent
    for folder in (package.parent / "numpy.libs", package / ".libs", package / ".dylibs"):
        for path in sorted(folder.glob("*openblas*")):
            library = ctypes.CDLL(str(path))
            for name in _NAMES:
                get = getattr(library, name.format("get_num_threads"), None)
                put = getattr(library, name.format("set_num_threads"), None)
                if get is not None and put is not None:
                    return get, put
    return None


@lru_cache
def _pool() -> ThreadPoolExecutor | None:
    """Threads for long products; none on one core."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return ThreadPoolExecutor(cores, thread_name_prefix="gemm") if cores > 1 else None


def product(first: Array, second: Array, out: Array | None = None) -> Array:
    """``first @ second`` of float32 matrices, into ``out`` if given."""
    rows, depth, columns = first.shape[0], first.shape[1], second.shape[1]
    threads = _threads()
    if threads is None:
        return np.matmul(first, second, out=out)
    get, put = threads
    before = get()
    if before == 1:
        return np.matmul(first, second, out=out)
    put(1)
    try:
        pool = _pool() if rows * depth * columns >= LONG else None
        if pool is None:
            return np.matmul(first, second, out=out)
        result = np.empty((rows, columns), np.float32) if out is None else out
        parts = min(before, pool._max_workers)
        bounds = [columns * i // parts for i in range(parts + 1)]
        jobs = [
            pool.submit(np.matmul, first, second[:, low:high], out=result[:, low:high])
            for low, high in pairwise(bounds[1:])
        ]
        np.matmul(first, second[:, : bounds[1]], out=result[:, : bounds[1]])
        for job in jobs:
            job.result()
        return result
    finally:
        put(before)
