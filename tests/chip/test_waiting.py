"""Matmuls that wait: whoever looks at PSUM finds what one after another would have left there."""

from __future__ import annotations

import numpy as np
import pytest

from trainshed.chip.isa.move import memset, tensor_copy
from trainshed.chip.isa.tensor import nc_matmul


@pytest.fixture
def operands():
    """Integers of 128 rows: [128, 128] and [128, 512], exact in any order of summation."""

    def make(seed):
        random = np.random.default_rng(seed)
        return (random.integers(-3, 4, (128, n)).astype(np.float32) for n in (128, 512))

    return make


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float8_e4m3"])
@pytest.mark.parametrize("count", [1, 7, 8, 9, 20])
def test_sums_of_few_and_of_many(core, tile, empty, values, operands, dtype, count):
    dst, expected = empty((128, 512), buffer="psum"), np.zeros((128, 512), np.float32)
    for seed in range(count):
        first, second = operands(seed)
        nc_matmul(dst, tile(first, dtype), tile(second, dtype))
        expected += first.T @ second
    assert dst.storage.waiting is not None
    assert np.array_equal(values(dst), expected)
    assert dst.storage.waiting is None


def test_operands_may_change_afterwards(core, tile, empty, values, operands):
    first, second = operands(0)
    dst, moving = empty((128, 512), buffer="psum"), tile(second)
    nc_matmul(dst, tile(first), moving)
    memset(moving, 0.0)
    assert np.array_equal(values(dst), first.T @ second)


def test_what_overwrites_counts_alone(core, tile, empty, values, operands):
    dst = empty((128, 512), buffer="psum")
    for seed in range(3):
        first, second = operands(seed)
        nc_matmul(dst, tile(first), tile(second), accumulate=False)
    assert np.array_equal(values(dst), first.T @ second)
    memset(dst, 2.0)
    nc_matmul(dst, tile(first), tile(second))
    nc_matmul(dst, tile(first), tile(second))
    assert np.array_equal(values(dst), 2 + 2 * (first.T @ second))
    nc_matmul(dst, tile(first), tile(second))
    memset(dst[:, 0:4], 7.0)
    got = values(dst)
    assert (got[:, :4] == 7).all()
    assert np.array_equal(got[:, 4:], (2 + 3 * (first.T @ second))[:, 4:])


def test_views_of_one_tile_in_turn(core, tile, empty, values, operands):
    dst = empty((128, 4, 512), buffer="psum")
    parts = [dst[:, 0], dst[:, 2], dst[:, 2].reshape((128, 2, 256)), dst[:, 1:2]]
    expected = np.zeros((128, 4, 512), np.float32)
    for seed in range(8):
        first, second = operands(seed)
        nc_matmul(parts[seed % 4], tile(first), tile(second))
        expected[:, (0, 2, 2, 1)[seed % 4]] += first.T @ second
    assert np.array_equal(values(dst[:, 0:3]), expected[:, 0:3])


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_slices_of_one_tile_are_one_product(core, tile, empty, values, dtype):
    """Contraction along partitions and a free dimension of an operand widened once; then it is written, and used."""
    random = np.random.default_rng(1)
    first, second = (random.integers(-3, 4, (128, 6, n)).astype(np.float32) for n in (256, 512))
    left, right = tile(first, dtype), tile(second, dtype)
    for columns in (slice(0, 128), slice(128, 256)):
        dst = empty((128, 512), buffer="psum")
        for depth in range(6):
            nc_matmul(dst, left[:, depth, columns], right[:, depth])
        assert np.array_equal(values(dst), np.einsum("pdm,pdn->mn", first[:, :, columns], second))
    assert (right.storage.wide is None) is (dtype == "float32")
    dst = empty((128, 512), buffer="psum")
    nc_matmul(dst, left[:, 0, 0:128], right[:, 0])
    memset(right[:, 0], 1.0)
    assert right.storage.wide is None
    nc_matmul(dst, left[:, 0, 0:128], right[:, 0])
    nc_matmul(dst, left[:, 1, 0:128], right[:, 1])
    expected = first[:, 0, :128].T @ (second[:, 0] + 1) + first[:, 1, :128].T @ second[:, 1]
    assert np.array_equal(values(dst), expected)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_operands_loaded_slice_by_slice(core, tile, empty, values, dtype):
    """Every load writes the storage whose earlier slices products wait for."""
    random = np.random.default_rng(2)
    first, second = (random.integers(-3, 4, (128, 8, n)).astype(np.float32) for n in (128, 512))
    left, right = empty((128, 8, 128), dtype), empty((128, 8, 512), dtype)
    dst = empty((128, 512), buffer="psum")
    for depth in range(8):
        for into, data in ((left, first), (right, second)):
            tensor_copy(into[:, depth], tile(data[:, depth], into.dtype))
        nc_matmul(dst, left[:, depth], right[:, depth])
    assert np.array_equal(values(dst), np.einsum("pdm,pdn->mn", first, second))


def test_small_products_do_not_wait(core, tile, empty):
    dst = empty((8, 16), buffer="psum")
    nc_matmul(dst, tile(np.ones((32, 8), np.float32)), tile(np.ones((32, 16), np.float32)))
    assert dst.storage.waiting is None


@pytest.mark.parametrize("rewritten", ["stationary", "moving"])
def test_bits_do_not_depend_on_copies(core, tile, empty, values, rewritten):
    """Fractions of one tensor, multiplied where they lie and, once one is written to, from copies."""
    random = np.random.default_rng(5)
    first, second = (random.standard_normal((128, 8, n)).astype(np.float32) for n in (128, 512))
    found = []
    for again in (False, True):
        dst, stationary, moving = empty((128, 512), buffer="psum"), tile(first), tile(second)
        for k in range(8):
            nc_matmul(dst, stationary[:, k, :], moving[:, k, :])
            if again and k in (3, 7):
                memset({"stationary": stationary, "moving": moving}[rewritten][:, k, :], 0.0)
        found.append(values(dst))
    assert found[0].tobytes() == found[1].tobytes()
    exact = np.einsum("kam,kan->mn", first, second, dtype=np.float64)
    assert np.allclose(found[0], exact, atol=1e-3)
