"""Tensors made in a kernel, ``nl.tile_size``, memories and dtypes."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

import trainshed.nki as nki
import trainshed.nki.language as nl
from trainshed.chip.errors import NkiValidationError


def _out(make, **options):
    """What ``make()`` returns in a kernel, as an array."""

    def kernel(x):
        tile = make()
        if not nl.is_on_chip(tile.buffer):
            return tile
        out = nl.ndarray(tile.shape, tile.dtype, nl.shared_hbm)
        nl.store(out, tile)
        return out

    return nki.simulate(kernel, **options)(np.zeros((1, 1), np.float32))


@pytest.mark.parametrize("buffer", [nl.sbuf, nl.psum, nl.shared_hbm, nl.hbm])
def test_filled_tensors(buffer):
    np.testing.assert_array_equal(_out(lambda: nl.zeros((4, 6), nl.float32, buffer)), np.zeros((4, 6), np.float32))
    np.testing.assert_array_equal(_out(lambda: nl.ones((4, 6), nl.float32, buffer)), np.ones((4, 6), np.float32))
    np.testing.assert_array_equal(_out(lambda: nl.full((4, 6), 7, nl.int32, buffer)), np.full((4, 6), 7, np.int32))


def test_likes_take_shape_dtype_and_memory():
    def make():
        first = nl.ones((4, 3), nl.bfloat16)
        empty = nl.empty_like(first)
        assert (empty.shape, empty.dtype, empty.buffer) == ((4, 3), nl.bfloat16, nl.sbuf)
        assert nl.empty_like(first, dtype=nl.int8, buffer=nl.hbm).buffer == nl.hbm
        return nl.zeros_like(first, dtype=nl.float32)

    np.testing.assert_array_equal(_out(make), np.zeros((4, 3), np.float32))


def test_ndarray_at_an_address_with_a_name():
    def make():
        tile = nl.ndarray((32, 8), nl.float32, nl.sbuf, name="scores", address=(64, 4096))
        assert tile.name == "scores"
        assert tile.start_partition == 64
        return nl.zeros((2, 2), nl.float32)

    _out(make)


@pytest.mark.parametrize(
    ("arguments", "rule"),
    [
        (((129, 4), "float32"), "partitions"), (((4,), "float32"), "shape"), (((4, 0), "float32"), "shape"),
        (((128, 65537), "float32"), "sbuf-capacity"), (((4, 4), "int64"), "dtype"),
        (((4, 4), "float32", "dram"), "memory"),
    ],
)  # fmt: skip
def test_what_cannot_be_allocated(arguments, rule):
    with pytest.raises(NkiValidationError) as caught:
        _out(lambda: nl.ndarray(*arguments))
    assert caught.value.rule == rule
    assert "test_creation.py:" in str(caught.value)


def test_nothing_is_allocated_outside_a_kernel():
    with pytest.raises(NkiValidationError, match="outside a kernel"):
        nl.ndarray((4, 4), nl.float32)


@pytest.mark.parametrize("dtype", [nl.uint8, nl.float32, nl.bfloat16])
def test_identity(dtype):
    np.testing.assert_array_equal(_out(lambda: nl.shared_identity_matrix(16, dtype)), np.eye(16, dtype=dtype.storage))


def test_constants_of_arrays_and_files(tmp_path, rng):
    values = rng.standard_normal((3, 5)).astype(np.float32)
    np.save(tmp_path / "constant.npy", values)
    np.testing.assert_array_equal(_out(lambda: nl.shared_constant(values)), values)
    np.testing.assert_array_equal(_out(lambda: nl.shared_constant(str(tmp_path / "constant.npy"))), values)
    half = _out(lambda: nl.shared_constant(values, dtype=nl.bfloat16))
    np.testing.assert_array_equal(half, values.astype(ml_dtypes.bfloat16))


@pytest.mark.parametrize(("target", "row"), [("trn1", 192), ("trn2", 192), ("trn3", 256)])
def test_tile_sizes_are_the_targets(target, row):
    seen = {}

    def kernel(x):
        seen.update(pmax=nl.tile_size.pmax, row=nl.tile_size.sbuf_fmax_bytes, all=nl.tile_size.sbuf_size_bytes,
                    elements=nl.tile_size.sbuf_fmax, old=nl.tile_size.total_available_sbuf_size)  # fmt: skip
        return x

    nki.simulate(kernel, target=target)(np.zeros((1, 1), np.float32))
    assert seen["row"] == seen["old"] == seen["elements"] * 4 == seen["all"] // 128
    assert seen["pmax"] == 128
    assert seen["row"] >= row * 1024
    size = nl.tile_size
    assert (size.psum_bank_fmax, size.psum_bank_fmax_bytes, size.psum_fmax) == (512, 2048, 512)
    assert (size.gemm_stationary_fmax, size.gemm_moving_fmax, size.bn_stats_fmax) == (128, 512, 512)


@pytest.mark.parametrize(("target", "value", "banks"), [
    ("trn3", None, 8), ("trn3", "true", 7), ("trn2", "1", 7), ("trn2", "false", 8), ("trn1", "true", 8),
])  # fmt: skip
def test_a_bank_is_kept_for_transposes(monkeypatch, target, value, banks):
    monkeypatch.setenv("NEURON_PLATFORM_TARGET_OVERRIDE", target)
    monkeypatch.delenv("NKI_DMA_TRANSPOSE_AS_PE_TRANSPOSE", raising=False)
    if value is not None:
        monkeypatch.setenv("NKI_DMA_TRANSPOSE_AS_PE_TRANSPOSE", value)
    assert nl.tile_size.psum_num_banks == banks


def test_memories():
    assert nl.hbm is nl.private_hbm
    assert [nl.is_hbm(b) for b in (nl.sbuf, nl.psum, nl.hbm, nl.shared_hbm)] == [False, False, True, True]
    assert [nl.is_on_chip(b) for b in (nl.sbuf, nl.psum, nl.hbm)] == [True, True, False]
    assert nl.is_sbuf(nl.sbuf)
    assert nl.is_psum(nl.psum)


def test_dtypes_equal_numpys_names_and_types():
    for same in ("bfloat16", ml_dtypes.bfloat16, np.dtype(ml_dtypes.bfloat16)):
        assert nl.bfloat16 == same
    for same in ("float32", np.float32, np.dtype("float32")):
        assert nl.float32 == same
    assert nl.float8_e4m3 != nl.float8_e4m3fn
    assert {nl.int8: 1}["int8"] == 1
