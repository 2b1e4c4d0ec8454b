"""Conversions between float32 and storage formats, against ml_dtypes, arithmetic in integers, and expectations."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainshed.numerics.cast import from_float32, to_float32
from trainshed.numerics.formats import DTYPES

FLOATS = ["bfloat16", "float16", "float8_e4m3", "float8_e4m3fn", "float8_e5m2"]
FP8 = FLOATS[2:]
words = st.integers(0, 2**32 - 1)


def _floats(bits: list[int]) -> np.ndarray[Any, Any]:
    return np.array(bits, np.uint32).view(np.float32)


def _same_bits(got: np.ndarray[Any, Any], expected: np.ndarray[Any, Any]) -> None:
    assert got.dtype == expected.dtype
    assert np.array_equal(got.view(np.uint8), expected.view(np.uint8))


@pytest.mark.parametrize("name", FP8)
def test_every_pair_of_upper_bits_and_a_remainder(name: str) -> None:
    kind = DTYPES[name].storage
    for low in (0, 1, 0x7FFF, 0x8000, 0x8001, 0xFFFF):
        values = (np.arange(65536, dtype=np.uint32) << 16 | np.uint32(low)).view(np.float32)
        with np.errstate(all="ignore"):
            _same_bits(from_float32(values, DTYPES[name]), values.astype(kind))


@pytest.mark.parametrize("name", FLOATS)
@given(st.lists(words, min_size=1, max_size=40))
def test_any_float32_rounds_as_ml_dtypes_rounds(name: str, bits: list[int]) -> None:
    values = _floats(bits)
    with np.errstate(all="ignore"):
        _same_bits(from_float32(values, DTYPES[name]), values.astype(DTYPES[name].storage))


@pytest.mark.parametrize("name", FLOATS)
def test_every_stored_value_comes_back(name: str) -> None:
    kind = DTYPES[name].storage
    raw = np.arange(256 ** min(kind.itemsize, 2), dtype=np.uint32)
    stored = raw.astype(np.uint8 if kind.itemsize == 1 else np.uint16).view(kind)
    with np.errstate(all="ignore"):
        wide = to_float32(stored, DTYPES[name])
        assert np.array_equal(wide, stored.astype(np.float32), equal_nan=True)
        number = ~np.isnan(wide)
        _same_bits(from_float32(wide, DTYPES[name])[number], stored[number])


@pytest.mark.parametrize("name", FP8)
def test_strided_values(name: str) -> None:
    values = np.random.default_rng(0).normal(size=(8, 12)).astype(np.float32).T[::2]
    _same_bits(from_float32(values, DTYPES[name]), np.ascontiguousarray(values).astype(DTYPES[name].storage))


@given(st.lists(words, min_size=1, max_size=40))
def test_bfloat16_rounds_to_even(bits: list[int]) -> None:
    values = _floats(bits)
    got = from_float32(values, DTYPES["bfloat16"]).view(np.uint16)
    for word, value, short in zip(bits, values, got, strict=True):
        if np.isnan(value):
            assert np.isnan(np.array(short, np.uint16).view(ml_dtypes.bfloat16).astype(np.float32))
            continue
        high, low = divmod(word, 0x10000)
        assert short == high + (low > 0x8000 or (low == 0x8000 and high % 2 == 1))


@given(st.lists(words, min_size=1, max_size=40))
def test_tfloat32_keeps_ten_bits_of_mantissa(bits: list[int]) -> None:
    values = _floats(bits)
    got = from_float32(values, DTYPES["tfloat32"]).view(np.uint32)
    for word, value, stored in zip(bits, values, got, strict=True):
        if not np.isfinite(value):
            assert stored == word
            continue
        high, low = divmod(word, 8192)
        assert stored == (high + (low > 4096 or (low == 4096 and high % 2 == 1))) * 8192
    again = from_float32(got.view(np.float32), DTYPES["tfloat32"]).view(np.uint32)
    assert np.array_equal(again, got)


@pytest.mark.parametrize("name", ["int8", "uint8", "int16", "uint16", "int32", "uint32"])
def test_integers_round_to_even_and_saturate(name: str) -> None:
    kind = DTYPES[name]
    low, high = int(np.iinfo(kind.storage).min), int(np.iinfo(kind.storage).max)
    values = np.array([0.5, 1.5, 2.5, -0.5, -1.5, 7, 100.49, 3e9, 5e9, -3e9, np.inf, -np.inf, 2**31, 2**32, 127.5],
                      np.float32)  # fmt: skip
    got = from_float32(values, kind)
    expected = [
        high if v == np.inf else low if v == -np.inf else min(max(round(v), low), high) for v in values.tolist()
    ]
    assert got.dtype == kind.storage
    assert got.tolist() == expected
    assert from_float32(np.array([np.nan, 3.0], np.float32), kind).tolist() == [0, 3]
    assert from_float32(np.array(2.5, np.float32), kind) == 2


@given(st.lists(st.floats(width=32, allow_nan=False), min_size=1, max_size=30), st.sampled_from(["int32", "uint32"]))
def test_words_of_any_float(values: list[float], name: str) -> None:
    low, high = int(np.iinfo(DTYPES[name].storage).min), int(np.iinfo(DTYPES[name].storage).max)
    expected = [high if v == np.inf else low if v == -np.inf else min(max(round(v), low), high) for v in values]
    assert from_float32(np.array(values, np.float32), DTYPES[name]).tolist() == expected


def test_integers_to_integers() -> None:
    wide = np.array([-1, 5, 300, -200], np.int32)
    assert from_float32(wide, DTYPES["uint32"]).tolist() == [2**32 - 1, 5, 300, 2**32 - 200]
    assert from_float32(wide, DTYPES["int8"]).tolist() == [-1, 5, 127, -128]
    assert from_float32(wide, DTYPES["uint8"]).tolist() == [0, 5, 255, 0]
    assert from_float32(np.array([200, 7], np.uint8), DTYPES["int32"]).tolist() == [200, 7]
    assert from_float32(np.array([True, False]), DTYPES["int16"]).tolist() == [1, 0]


def test_bool_is_whether_not_zero() -> None:
    got = from_float32(np.array([0.0, -0.0, 0.25, -3.0], np.float32), DTYPES["bool_"])
    assert got.dtype == np.bool_
    assert got.tolist() == [False, False, True, True]
    assert to_float32(got, DTYPES["bool_"]).tolist() == [0, 0, 1, 1]


def _neighbours(value: float, name: str) -> tuple[float, float]:
    """The stored values at and below, and at and above."""
    kind = DTYPES[name].storage
    size = kind.itemsize
    stored = np.arange(256**size, dtype=np.uint32).astype(np.uint8 if size == 1 else np.uint16).view(kind)
    with np.errstate(all="ignore"):
        numbers = stored.astype(np.float32)
    numbers = numbers[np.isfinite(numbers)]
    return float(numbers[numbers <= value].max()), float(numbers[numbers >= value].min())


@pytest.mark.parametrize("value", [1.3, -0.7071, 3e-8, 200.3, -5.5e-3, 1.0, 0.0])
@pytest.mark.parametrize("name", FLOATS)
def test_stochastic_rounding_is_unbiased_between_neighbours(name: str, value: float) -> None:
    count = 40_000
    value = float(np.float32(value))
    values = np.full(count, value, np.float32)
    got = from_float32(values, DTYPES[name], stochastic=np.random.default_rng(7)).astype(np.float32).astype(np.float64)
    low, high = _neighbours(value, name)
    assert set(np.unique(got)) <= {low, high}
    up = 0.0 if high == low else (value - low) / (high - low)
    share = float(np.mean(got == high)) if high != low else 0.0
    assert abs(share - up) <= 5 * np.sqrt(up * (1 - up) / count) + 1e-12


@pytest.mark.parametrize("name", [*FLOATS, "tfloat32"])
def test_stochastic_rounding_leaves_what_is_exact_and_what_is_no_number(name: str) -> None:
    values = np.array([np.inf, -np.inf, np.nan, 1.5, -0.0, 224.0], np.float32)
    with np.errstate(all="ignore"):
        got = from_float32(values, DTYPES[name], stochastic=np.random.default_rng(1))
        _same_bits(got, from_float32(values, DTYPES[name]))


def test_stochastic_tfloat32_is_unbiased() -> None:
    value = np.float32(1) + np.float32(3 * 2**-12)
    got = from_float32(np.full(40_000, value), DTYPES["tfloat32"], stochastic=np.random.default_rng(3))
    assert set(np.unique(got)) == {np.float32(1), np.float32(1 + 2**-10)}
    assert np.mean(got > 1) == pytest.approx(0.75, abs=0.01)


def test_one_seed_gives_one_result() -> None:
    values = np.random.default_rng(0).normal(size=500).astype(np.float32)
    first, second = (from_float32(values, DTYPES["bfloat16"], stochastic=np.random.default_rng(9)) for _ in range(2))
    _same_bits(first, second)


def test_same_dtype_passes_unchanged() -> None:
    values = np.ones(3, ml_dtypes.bfloat16)
    assert from_float32(values, DTYPES["bfloat16"]) is values
