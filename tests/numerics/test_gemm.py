"""Products, short and shared among threads, and the library's number of threads afterwards."""

from __future__ import annotations

import numpy as np
import pytest

from trainshed.numerics import gemm


@pytest.mark.parametrize(("rows", "depth", "columns"), [(1, 1, 1), (3, 128, 7), (128, 128, 512), (128, 1024, 513)])
def test_product_is_the_matrix_product(rows: int, depth: int, columns: int) -> None:
    random = np.random.default_rng(rows)
    first = random.integers(-4, 5, (depth, rows)).astype(np.float32)
    second = random.integers(-4, 5, (depth, columns)).astype(np.float32)
    expected = first.astype(np.int64).T @ second.astype(np.int64)
    assert np.array_equal(gemm.product(first.T, second), expected)
    out = np.full((rows, columns + 3), np.float32(7))
    assert gemm.product(first.T, second, out[:, :columns]).base is out
    assert np.array_equal(out[:, :columns], expected)
    assert (out[:, columns:] == 7).all()


def test_the_librarys_threads_are_as_before() -> None:
    threads = gemm._threads()
    if threads is None:
        pytest.skip("NumPy is built on another library")
    before = threads[0]()
    gemm.product(np.ones((4, 4), np.float32), np.ones((4, 4), np.float32))
    with pytest.raises(ValueError, match="mismatch"):
        gemm.product(np.ones((4, 4), np.float32), np.ones((5, 4), np.float32))
    assert threads[0]() == before
