"""Loads, stores, transposes, matmul, broadcasts and gathers."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

import trainshed.nki as nki
import trainshed.nki.isa as nisa
import trainshed.nki.language as nl
from trainshed.chip.errors import NkiValidationError


@pytest.mark.parametrize("dtype", [np.float32, ml_dtypes.bfloat16, np.int8, np.uint16, np.int32])
def test_load_copy_and_store(on_tiles, rng, dtype):
    x = rng.integers(0, 100, (128, 37)).astype(dtype)
    np.testing.assert_array_equal(on_tiles(nl.copy, x), x)
    assert on_tiles(lambda t: nl.copy(t, dtype=nl.float32), x).dtype == np.float32


def test_load_casts_and_rows_become_one_partition(on_tiles, rng):
    x = rng.standard_normal(64).astype(np.float32)

    def kernel(a):
        tile = nl.load(a, dtype=nl.bfloat16)
        assert tile.shape == (1, 64)
        out = nl.ndarray((64,), nl.bfloat16, nl.shared_hbm)
        nl.store(out, tile)
        return out

    np.testing.assert_array_equal(nki.simulate(kernel)(x), x.astype(ml_dtypes.bfloat16))


def test_load_and_store_are_of_hbm():
    def loads(a):
        nl.load(nl.load(a))

    def stores(a):
        tile = nl.load(a)
        nl.store(tile, tile)

    for kernel in (loads, stores):
        with pytest.raises(NkiValidationError, match="hbm") as caught:
            nki.simulate(kernel)(np.ones((4, 4), np.float32))
        assert caught.value.rule == "memory"


@pytest.mark.parametrize("dtype", [ml_dtypes.bfloat16, np.float16])
def test_load_transposed(rng, dtype):
    x = rng.standard_normal((64, 128)).astype(dtype)

    def kernel(a):
        tile = nl.load_transpose2d(a)
        out = nl.ndarray(tile.shape, tile.dtype, nl.shared_hbm)
        nl.store(out, tile)
        return out

    np.testing.assert_array_equal(nki.simulate(kernel)(x), x.T)


def test_load_transpose2d_takes_two_dimensions():
    def kernel(a):
        nl.load_transpose2d(a)

    with pytest.raises(NkiValidationError, match="dimensions"):
        nki.simulate(kernel)(np.ones((4, 4, 4), np.float16))


@pytest.mark.parametrize("dtype", [np.float32, ml_dtypes.bfloat16])
@pytest.mark.parametrize("shape", [(128, 128), (32, 96), (100, 7)])
def test_transpose(on_tiles, rng, shape, dtype):
    x = rng.standard_normal(shape).astype(dtype)
    np.testing.assert_array_equal(on_tiles(lambda t: nl.copy(nl.transpose(t)), x), x.T)


def test_matmul(on_tiles, rng):
    x, y = rng.standard_normal((96, 64)).astype(np.float32), rng.standard_normal((96, 200)).astype(np.float32)
    np.testing.assert_allclose(on_tiles(lambda a, b: nl.matmul(a, b, transpose_x=True), x, y), x.T @ y, rtol=1e-4,
                               atol=1e-4)  # fmt: skip
    with pytest.raises(NkiValidationError, match="transpose_x"):
        on_tiles(lambda a, b: nl.matmul(a, b), x, y)


@pytest.mark.parametrize(("shape", "wanted"), [((128, 1), (128, 40)), ((1, 40), (128, 40)), ((1, 1), (64, 5)),
                                               ((16, 1, 8), (16, 3, 8)), ((16, 8), (16, 8))])  # fmt: skip
def test_broadcast_to(on_tiles, rng, shape, wanted):
    x = rng.standard_normal(shape).astype(np.float32)
    np.testing.assert_array_equal(on_tiles(lambda t: nl.broadcast_to(t, wanted), x), np.broadcast_to(x, wanted))


def test_partitions_broadcast_in_one_transfer():
    def kernel(a):
        tile = nl.broadcast_to(nl.load(a), (128, 16))
        out = nl.ndarray(tile.shape, tile.dtype, nl.shared_hbm)
        nl.store(out, tile)
        return out

    simulated = nki.simulate(kernel)
    simulated(np.ones((1, 16), np.float32))
    assert [i.opcode for i in simulated.launch.cores[0].instructions].count("dma_copy") == 3


def test_broadcast_of_several_partitions_is_an_error(on_tiles):
    with pytest.raises(NkiValidationError, match="partitions"):
        on_tiles(lambda t: nl.broadcast_to(t, (8, 4)), np.ones((4, 4), np.float32))


def test_expand_dims(on_tiles, rng):
    x = rng.standard_normal((8, 6)).astype(np.float32)
    np.testing.assert_array_equal(on_tiles(lambda t: nl.expand_dims(t, 1), x), x[:, None])
    np.testing.assert_array_equal(on_tiles(lambda t: nl.expand_dims(t, (1, 3)), x), x[:, None, :, None])


@pytest.mark.parametrize("kind", [np.uint32, np.int32])
def test_gather_flattened(on_tiles, rng, kind):
    x = rng.standard_normal((128, 50)).astype(np.float32)
    places = rng.integers(0, 50, (128, 16)).astype(kind)
    found = on_tiles(nl.gather_flattened, x, places)
    np.testing.assert_array_equal(found, np.take_along_axis(x, places.astype(np.int64), axis=1))


def test_device_print_and_print(capsys):
    def kernel(a):
        tile = nl.load(a)
        nl.device_print("my tile", tile)
        partly = nl.ndarray((2, 2), nl.bfloat16)
        nisa.memset(partly[:, :1], 3)
        print(partly)
        return a

    nki.simulate(kernel)(np.array([[1.5, -2.0]], np.float32))
    shown = capsys.readouterr().out
    assert "my tile float32[1, 2]" in shown
    assert "1.5 -2." in shown
    assert "[3 ?]" in shown


def test_nothing_is_shown_of_a_run_without_values(capsys):
    def kernel(a):
        print(nl.load(a))
        return a

    nki.simulate(kernel, values=False)(np.ones((2, 2), np.float32))
    assert capsys.readouterr().out == "<sbuf tensor float32[2, 2]>\n"


def test_the_prefix_of_device_print_is_text():
    def kernel(a):
        nl.device_print(a, a)

    with pytest.raises(NkiValidationError, match="prefix"):
        nki.simulate(kernel)(np.ones((2, 2), np.float32))
