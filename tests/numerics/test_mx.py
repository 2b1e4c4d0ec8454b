"""Microscaling formats against plain loops over groups and elements."""

from __future__ import annotations

import math
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainshed.numerics import mx
from trainshed.numerics.formats import PACKED

Array = np.ndarray[Any, Any]
#: Largest value and largest exponent, from the OCP specification's tables.
MOST = {"float8_e4m3fn_x4": (448.0, 8), "float8_e5m2_x4": (57344.0, 15), "float4_e2m1fn_x4": (6.0, 2)}


def _element(bits: int, name: str) -> float:
    """An element by its sign, exponent and mantissa, as the specification defines it."""
    width, mantissa, bias = {
        "float8_e4m3fn_x4": (8, 3, 7), "float8_e5m2_x4": (8, 2, 15), "float4_e2m1fn_x4": (4, 1, 1),
    }[name]  # fmt: skip
    sign = -1.0 if bits >> (width - 1) else 1.0
    exponent, fraction = bits >> mantissa & ((1 << (width - 1 - mantissa)) - 1), bits & ((1 << mantissa) - 1)
    if name == "float8_e4m3fn_x4" and bits & 0x7F == 0x7F:
        return math.nan
    if name == "float8_e5m2_x4" and exponent == 31:
        return math.nan if fraction else sign * math.inf
    if exponent == 0:
        return sign * fraction * 2.0 ** (1 - bias - mantissa)
    return sign * (1 + fraction / 2**mantissa) * 2.0 ** (exponent - bias)


@pytest.mark.parametrize("name", PACKED)
def test_unpack_every_element_in_every_place(name: str) -> None:
    width = 4 if name == "float4_e2m1fn_x4" else 8
    expected = np.array([_element(bits, name) for bits in range(2**width)], np.float32)
    for place in range(4):
        containers = (np.arange(2**width, dtype=np.uint64) << width * place).astype(
            np.uint16 if width == 4 else np.uint32
        )
        got = mx.unpack(containers, name)
        assert got.shape == (2**width, 4)
        assert np.array_equal(got[:, place], expected, equal_nan=True)
        assert not np.delete(got, place, axis=1).any()


@pytest.mark.parametrize("name", PACKED)
def test_pack_undoes_unpack(name: str) -> None:
    kind = np.uint16 if name == "float4_e2m1fn_x4" else np.uint32
    containers = np.random.default_rng(0).integers(0, np.iinfo(kind).max, (64, 9), kind, endpoint=True)
    elements = mx.unpack(containers, name)
    good = np.isfinite(elements).all(axis=-1)
    assert good.any()
    assert np.array_equal(mx.pack(elements, name)[good], containers[good])


@pytest.mark.parametrize("name", PACKED)
def test_pack_saturates(name: str) -> None:
    most = MOST[name][0]
    got = mx.unpack(mx.pack(np.array([most * 1.9, -1e30, most, 0], np.float32), name), name)
    assert got.tolist() == [most, -most, most, 0]


def test_scales_are_powers_of_two() -> None:
    got = mx.scale_values(np.arange(256, dtype=np.uint8))
    assert np.isnan(got[255])
    assert got[:255].tolist() == [math.ldexp(1, b - 127) for b in range(255)]
    assert np.array_equal(got, np.arange(256, dtype=np.uint8).view(ml_dtypes.float8_e8m0fnu).astype(np.float32),
                          equal_nan=True)  # fmt: skip


@pytest.mark.parametrize(
    ("partitions", "rows"),
    [(32, [0, 1, 2, 3]), (64, [0, 1, 2, 3, 32, 33, 34, 35]),
     (128, [*range(4), *range(32, 36), *range(64, 68), *range(96, 100)])],
)  # fmt: skip
def test_four_scale_rows_to_a_quadrant(partitions: int, rows: list[int]) -> None:
    assert mx.scale_rows(partitions).tolist() == rows


def _quantised(values: Array, name: str, rule: str) -> tuple[Array, Array]:
    """Elements and scale exponents (None of zeros: the least), one group and one element at a time."""
    most, largest = MOST[name]
    elements = np.empty(values.shape, np.float32)
    scales = np.empty((values.shape[0] // 8, values.shape[1] // 4), np.int64)
    for p, f in np.ndindex(scales.shape):
        group = slice(8 * p, 8 * p + 8), slice(4 * f, 4 * f + 4)
        amax = float(np.abs(values[group]).max())
        exponent = math.frexp(amax)[1] - 1 - (largest - (1 if rule == "0.5" else 0)) if amax else -127
        scales[p, f] = exponent = max(exponent, -127)
        scaled = values[group].astype(np.float64) * 2.0**-exponent
        elements[group] = np.clip(scaled, -most, most).astype(np.float32).astype(PACKED[name])
    return elements, scales + 127


@pytest.mark.parametrize("rule", ["0.4", "0.5"])
@pytest.mark.parametrize("name", ["float8_e4m3fn_x4", "float8_e5m2_x4"])
@given(st.data())
def test_quantise_against_groups_one_by_one(name: str, rule: str, data: st.DataObject) -> None:
    seed = data.draw(st.integers(0, 2**32 - 1))
    random = np.random.default_rng(seed)
    values = random.normal(size=(16, 12)) * 2.0 ** random.integers(-60, 60, (16, 12))
    values[:8, :4] *= data.draw(st.sampled_from([0, 1]))
    values = values.astype(ml_dtypes.bfloat16).astype(np.float32)
    containers, scales = mx.quantise(values, name, rule)
    elements, exponents = _quantised(values, name, rule)
    assert np.array_equal(scales, exponents)
    assert np.array_equal(mx.unpack(containers, name).reshape(values.shape), elements)


@pytest.mark.parametrize("name", ["float8_e4m3fn_x4", "float8_e5m2_x4"])
def test_the_newer_rule_never_saturates(name: str) -> None:
    values = np.zeros((8, 4), np.float32)
    values[3, 2] = np.float32(1.9921875)
    for rule, expected in (("0.4", 1.75), ("0.5", 2.0)):
        containers, scales = mx.quantise(values, name, rule)
        assert mx.dequantise(containers, scales, name)[3, 0, 2] == expected


@pytest.mark.parametrize("name", PACKED)
def test_dequantise_is_element_times_scale(name: str) -> None:
    random = np.random.default_rng(3)
    kind = np.uint16 if name == "float4_e2m1fn_x4" else np.uint32
    containers = random.integers(0, np.iinfo(kind).max, (32, 5), kind, endpoint=True)
    scales = random.integers(117, 137, (4, 5), np.uint8)
    got = mx.dequantise(containers, scales, name)
    width = 4 if kind is np.uint16 else 8
    for p, f, i in np.ndindex(32, 5, 4):
        bits = int(containers[p, f]) >> width * i & (2**width - 1)
        expected = _element(bits, name) * 2.0 ** (int(scales[p // 8, f]) - 127)
        assert got[p, f, i] == expected or (math.isnan(expected) and math.isnan(got[p, f, i]))
