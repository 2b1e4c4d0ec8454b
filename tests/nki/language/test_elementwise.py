"""Element-wise functions against NumPy's, over dtypes, shapes and ways to give the operands."""

from __future__ import annotations

import math

import ml_dtypes
import numpy as np
import pytest

import trainshed.nki as nki
import trainshed.nki.language as nl
from trainshed.chip.errors import NkiValidationError

ARITHMETIC = {
    "add": np.add, "subtract": np.subtract, "multiply": np.multiply, "maximum": np.maximum, "minimum": np.minimum,
    "abs_max": lambda x, y: np.where(np.abs(x) > np.abs(y), x, y),
    "abs_min": lambda x, y: np.where(np.abs(x) < np.abs(y), x, y),
}  # fmt: skip
COMPARISONS = {
    "equal": np.equal, "not_equal": np.not_equal, "less": np.less, "less_equal": np.less_equal,
    "greater": np.greater, "greater_equal": np.greater_equal,
}  # fmt: skip
LOGICAL = {"logical_and": np.logical_and, "logical_or": np.logical_or, "logical_xor": np.logical_xor}
BITS = {"bitwise_and": np.bitwise_and, "bitwise_or": np.bitwise_or, "bitwise_xor": np.bitwise_xor}

_erf = np.vectorize(math.erf, otypes=[float])


def _sigmoid(x):
    return 1 / (1 + np.exp(-x))


def _density(x):
    return np.exp(-x * x / 2) / math.sqrt(2 * math.pi)


def _gelu_sigmoid_dx(x):
    s = _sigmoid(1.702 * x)
    return s + 1.702 * x * s * (1 - s)


#: name: formula, least and largest input.
UNARY = {
    "exp": (np.exp, -5, 5), "log": (np.log, 0.01, 50), "sqrt": (np.sqrt, 0, 50), "rsqrt": (lambda x: x**-0.5, 0.01, 50),
    "reciprocal": (lambda x: 1 / x, 0.1, 20), "square": (np.square, -5, 5), "abs": (np.abs, -5, 5),
    "negative": (np.negative, -5, 5), "sign": (np.sign, -5, 5), "tanh": (np.tanh, -3, 3),
    "arctan": (np.arctan, -1.5, 1.5), "sin": (np.sin, -20, 20), "cos": (np.cos, -20, 20), "tan": (np.tan, -1.4, 1.4),
    "ceil": (np.ceil, -9, 9), "floor": (np.floor, -9, 9), "trunc": (np.trunc, -9, 9),
    "relu": (lambda x: np.maximum(x, 0), -5, 5), "sigmoid": (_sigmoid, -5, 5),
    "silu": (lambda x: x * _sigmoid(x), -5, 5),
    "silu_dx": (lambda x: _sigmoid(x) * (1 + x * (1 - _sigmoid(x))), -5, 5),
    "gelu": (lambda x: x * (1 + _erf(x / math.sqrt(2))) / 2, -5, 5),
    "gelu_dx": (lambda x: (1 + _erf(x / math.sqrt(2))) / 2 + x * _density(x), -5, 5),
    "gelu_apprx_tanh": (
        lambda x: x / 2 * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))), -5, 5),
    "gelu_apprx_sigmoid": (lambda x: x * _sigmoid(1.702 * x), -5, 5),
    "gelu_apprx_sigmoid_dx": (_gelu_sigmoid_dx, -5, 5),
    "softplus": (lambda x: np.log1p(np.exp(x)), -5, 5),
    "mish": (lambda x: x * np.tanh(np.log1p(np.exp(x))), -5, 5),
    "erf": (_erf, -3, 3), "erf_dx": (lambda x: 2 / math.sqrt(math.pi) * np.exp(-x * x), -3, 3),
}  # fmt: skip


def _some(rng, shape, dtype):
    values = rng.uniform(-8, 8, shape)
    return values.astype(dtype) if np.dtype(dtype).kind != "i" else np.rint(values).astype(dtype)


@pytest.mark.parametrize("dtype", [np.float32, ml_dtypes.bfloat16, np.float16])
@pytest.mark.parametrize("name", [*ARITHMETIC, *COMPARISONS])
def test_two_tiles(on_tiles, rng, name, dtype):
    x, y = _some(rng, (128, 33), dtype), _some(rng, (128, 33), dtype)
    y[:, ::3] = x[:, ::3]
    found = on_tiles(getattr(nl, name), x, y)
    formula = {**ARITHMETIC, **COMPARISONS}[name]
    expected = formula(x.astype(np.float32), y.astype(np.float32)).astype(dtype)
    assert found.dtype == np.dtype(dtype)
    np.testing.assert_array_equal(found.astype(np.float32), expected.astype(np.float32))


@pytest.mark.parametrize("name", [*ARITHMETIC, *COMPARISONS])
def test_a_tile_and_a_number_on_either_side(on_tiles, rng, name):
    x = _some(rng, (64, 5, 7), np.float32)
    formula = {**ARITHMETIC, **COMPARISONS}[name]
    function = getattr(nl, name)
    np.testing.assert_array_equal(on_tiles(lambda t: function(t, 2.5), x), formula(x, np.float32(2.5)))
    np.testing.assert_array_equal(on_tiles(lambda t: function(2.5, t), x), formula(np.float32(2.5), x))


@pytest.mark.parametrize(("left", "right"), [((128, 8), (128, 1)), ((128, 1), (128, 8)), ((128, 8), (1, 8)),
                                             ((32, 1, 6), (32, 4, 1)), ((1, 6), (16, 6))])  # fmt: skip
def test_operands_broadcast(on_tiles, rng, left, right):
    x, y = _some(rng, left, np.float32), _some(rng, right, np.float32)
    np.testing.assert_array_equal(on_tiles(nl.subtract, x, y), x - y)


def test_power_of_tiles_and_numbers(on_tiles, rng):
    x, y = rng.uniform(0.5, 3, (16, 9)).astype(np.float32), rng.uniform(-2, 2, (16, 9)).astype(np.float32)
    np.testing.assert_allclose(on_tiles(nl.power, x, y), np.power(x, y), rtol=1e-5)
    np.testing.assert_allclose(on_tiles(lambda t: nl.power(t, 2.0), x), x * x, rtol=1e-5)


@pytest.mark.parametrize("name", LOGICAL)
def test_logical(on_tiles, rng, name):
    x, y = rng.integers(0, 2, (32, 16)).astype(np.uint8), rng.integers(0, 2, (32, 16)).astype(np.uint8)
    np.testing.assert_array_equal(on_tiles(getattr(nl, name), x, y), LOGICAL[name](x, y))
    np.testing.assert_array_equal(on_tiles(nl.logical_not, x), 1 - x)


@pytest.mark.parametrize("dtype", [np.int32, np.uint32, np.int16, np.uint16, np.int8, np.uint8])
@pytest.mark.parametrize("name", BITS)
def test_bits(on_tiles, rng, name, dtype):
    info = np.iinfo(dtype)
    x, y = (rng.integers(info.min, info.max, (32, 16), dtype=dtype, endpoint=True) for _ in range(2))
    np.testing.assert_array_equal(on_tiles(getattr(nl, name), x, y), BITS[name](x, y))
    np.testing.assert_array_equal(on_tiles(nl.invert, x), np.invert(x))


@pytest.mark.parametrize("dtype", [np.uint32, np.uint16, np.uint8])
def test_shifts(on_tiles, rng, dtype):
    x = rng.integers(0, np.iinfo(dtype).max, (32, 16), dtype=dtype)
    places = rng.integers(0, 8, (32, 16)).astype(dtype)
    np.testing.assert_array_equal(on_tiles(nl.left_shift, x, places), np.left_shift(x, places))
    np.testing.assert_array_equal(on_tiles(nl.right_shift, x, places), np.right_shift(x, places))
    np.testing.assert_array_equal(on_tiles(lambda t: nl.right_shift(t, 3), x), x >> dtype(3))


@pytest.mark.parametrize("name", UNARY)
def test_functions_of_one_tile(on_tiles, rng, name):
    formula, low, high = UNARY[name]
    x = rng.uniform(low, high, (128, 40)).astype(np.float32)
    found = on_tiles(getattr(nl, name), x)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, formula(x.astype(np.float64)), rtol=2e-4, atol=2e-5)


@pytest.mark.parametrize("name", ["exp", "silu", "floor", "sin", "abs", "reciprocal"])
def test_results_keep_the_dtype_or_take_the_one_asked_for(on_tiles, rng, name):
    formula, low, high = UNARY[name]
    x = rng.uniform(low, high, (16, 8)).astype(ml_dtypes.bfloat16)
    kept = on_tiles(getattr(nl, name), x)
    assert kept.dtype == ml_dtypes.bfloat16
    wide = on_tiles(lambda t: getattr(nl, name)(t, dtype=nl.float32), x)
    assert wide.dtype == np.float32
    np.testing.assert_allclose(wide, formula(x.astype(np.float64)), rtol=2e-4, atol=2e-5)
    np.testing.assert_allclose(kept.astype(np.float32), wide, rtol=2**-7)


@pytest.mark.parametrize("value", [-2.5, -0.5, -0.0, 0.5, 1.5, 3.0, 8388609.0])
def test_rounding_of_halves_and_whole_numbers(on_tiles, value):
    x = np.full((4, 4), value, np.float32)
    for name in ("floor", "ceil", "trunc"):
        np.testing.assert_array_equal(on_tiles(getattr(nl, name), x), getattr(np, name)(x))


def test_a_float_beats_an_integer_and_the_wider_the_narrower(on_tiles):
    ones = np.ones((4, 4))
    for left, right, expected in (
        (np.int32, ml_dtypes.bfloat16, ml_dtypes.bfloat16),
        (ml_dtypes.bfloat16, np.float32, np.float32),
        (np.int8, np.int32, np.int32),
    ):
        assert on_tiles(nl.add, ones.astype(left), ones.astype(right)).dtype == np.dtype(expected)


def test_where(on_tiles, rng):
    x, y = _some(rng, (64, 12), np.float32), _some(rng, (64, 12), np.float32)
    condition = (x > y).astype(np.float32)
    np.testing.assert_array_equal(on_tiles(nl.where, condition, x, y), np.where(x > y, x, y))
    np.testing.assert_array_equal(on_tiles(lambda c, a: nl.where(c, a, 0.0), condition, x), np.where(x > y, x, 0))
    whole = (x > y).astype(np.uint8)
    np.testing.assert_array_equal(on_tiles(lambda c, b: nl.where(c, 7.0, b), whole, y), np.where(x > y, 7, y))


@pytest.mark.parametrize("target", ["trn1", "trn2"])
def test_magnitudes_need_the_newest_core(on_tiles, target):
    x = np.ones((4, 4), np.float32)
    with pytest.raises(NkiValidationError, match="NeuronCore-v4 or newer"):
        on_tiles(nl.abs_max, x, x, target=target)


@pytest.mark.parametrize("name", ["divide", "mod", "fmod"])
def test_what_no_engine_does_says_what_to_write(on_tiles, name):
    x = np.ones((4, 4), np.float32)
    with pytest.raises(NkiValidationError, match=name) as caught:
        on_tiles(getattr(nl, name), x, x)
    assert caught.value.rule == "unsupported"


def test_tensors_in_hbm_are_no_tiles():
    def kernel(x):
        return nl.add(x, 1.0)

    with pytest.raises(NkiValidationError, match=r"nl\.load"):
        nki.simulate(kernel)(np.ones((4, 4), np.float32))


def test_two_numbers_are_no_operands(on_tiles):
    with pytest.raises(NkiValidationError, match="a tile"):
        on_tiles(lambda t: nl.add(1.0, 2.0), np.ones((4, 4), np.float32))


def test_two_tiles_in_psum(on_tiles, rng):
    x = rng.standard_normal((32, 32)).astype(np.float32)

    def function(t):
        product = nl.matmul(t, t, transpose_x=True)
        return nl.add(product, product)

    np.testing.assert_allclose(on_tiles(function, x), 2 * x.T @ x, rtol=1e-5, atol=1e-5)


def test_every_function_names_its_operator():
    for name in [*ARITHMETIC, *COMPARISONS, *LOGICAL, *BITS, "left_shift", "right_shift", *UNARY, "prelu", "power"]:
        assert getattr(nl, name).__name__ == name
