"""The activation functions against formulas in double precision, at the ends of float32, and outside their ranges."""

import math

import numpy as np
import pytest

from trainshed.chip.activations import ACTIVATIONS, activate, activation_function
from trainshed.chip.call import Call
from trainshed.chip.errors import NkiValidationError


def _each(function):
    """A function of one Python float over arrays."""
    return lambda x: np.array([function(float(item)) for item in x])


def _sigmoid(x):
    return math.exp(x) / (1 + math.exp(x)) if x < 0 else 1 / (1 + math.exp(-x))


def _softplus(x):
    return max(x, 0.0) + math.log1p(math.exp(-abs(x)))


def _cdf(x):
    return math.erfc(-x / math.sqrt(2)) / 2


def _gelu_dx(x):
    return _cdf(x) + x * math.exp(-x * x / 2) / math.sqrt(2 * math.pi)


def _gelu_sigmoid_dx(x):
    s = _sigmoid(1.702 * x)
    return s * (1 + 1.702 * x * (1 - s))


#: By name: the formula, and the inputs between which it is compared.
FORMULAS = {
    "copy": (lambda x: x, -50, 50), "square": (lambda x: x * x, -50, 50), "sigmoid": (_sigmoid, -90, 90),
    "relu": (lambda x: max(x, 0.0), -50, 50), "gelu": (lambda x: x * _cdf(x), -12, 12), "gelu_dx": (_gelu_dx, -12, 12),
    "gelu_apprx_tanh": (
        lambda x: x / 2 * (1 + math.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))), -12, 12),
    "gelu_apprx_sigmoid": (lambda x: x * _sigmoid(1.702 * x), -50, 50),
    "gelu_apprx_sigmoid_dx": (_gelu_sigmoid_dx, -50, 50), "silu": (lambda x: x * _sigmoid(x), -90, 90),
    "silu_dx": (lambda x: _sigmoid(x) * (1 + x * (1 - _sigmoid(x))), -90, 90), "tanh": (math.tanh, -20, 20),
    "softplus": (_softplus, -80, 80), "mish": (lambda x: x * math.tanh(_softplus(x)), -80, 80),
    "erf": (math.erf, -7, 7), "erf_dx": (lambda x: 2 / math.sqrt(math.pi) * math.exp(-x * x), -4, 4),
    "exp": (math.exp, -87, 88), "sign": (lambda x: (x > 0) - (x < 0), -3, 3), "abs": (abs, -50, 50),
    "log": (math.log, 2.0**-64, 2.0**64), "sin": (math.sin, -3.1415925, 3.1415925),
    "arctan": (math.atan, -1.5707963, 1.5707963), "sqrt": (math.sqrt, 2.0**-116, 2.0**118),
    "rsqrt": (lambda x: 1 / math.sqrt(x), 2.0**-87, 2.0**97), "reciprocal": (lambda x: 1 / x, 2.0**-42, 2.0**42),
}  # fmt: skip
#: Where these are near 0, what counts is the error relative to the whole.
BOUNDED = ("gelu", "gelu_dx", "gelu_apprx_tanh", "gelu_apprx_sigmoid", "gelu_apprx_sigmoid_dx", "silu", "silu_dx",
           "mish", "softplus", "erf", "sin", "log")  # fmt: skip


def _inputs(low, high):
    """A grid, closer round 0; between powers of two where the range spans many."""
    if low > 0:
        return np.geomspace(low, high, 4001).astype(np.float32)
    near = np.geomspace(1e-6, high, 500)
    return np.concatenate((np.linspace(low, high, 4001), near, -near, [0.0])).astype(np.float32)


def _apply(name, x, parameter=0.0):
    with np.errstate(all="ignore"):
        return ACTIVATIONS[name].apply(np.asarray(x, np.float32), np.float32(parameter))


def test_every_function_has_a_formula():
    assert set(FORMULAS) | {"prelu"} == set(ACTIVATIONS)


@pytest.mark.parametrize("name", FORMULAS)
def test_values(name):
    formula, low, high = FORMULAS[name]
    x = _inputs(low, high)
    before = x.copy()
    found = _apply(name, x)
    assert found.dtype == np.float32
    assert np.array_equal(x, before)
    np.testing.assert_allclose(found, _each(formula)(x), rtol=2e-6, atol=1e-6 if name in BOUNDED else 1e-37)


@pytest.mark.parametrize("slope", [0.0, 0.25, -1.0])
def test_prelu(slope):
    x = _inputs(-5, 5)
    assert np.array_equal(_apply("prelu", x, slope), np.where(x >= 0, x, np.float32(slope) * x))


#: At minus infinity, at infinity.
ENDS = {
    "copy": (-np.inf, np.inf), "square": (np.inf, np.inf), "sigmoid": (0, 1), "relu": (0, np.inf), "gelu": (0, np.inf),
    "gelu_dx": (0, 1), "gelu_apprx_tanh": (0, np.inf), "gelu_apprx_sigmoid": (0, np.inf),
    "gelu_apprx_sigmoid_dx": (0, 1), "silu": (0, np.inf), "silu_dx": (0, 1), "tanh": (-1, 1), "softplus": (0, np.inf),
    "mish": (0, np.inf), "erf": (-1, 1), "erf_dx": (0, 0), "exp": (0, np.inf), "sign": (-1, 1), "abs": (np.inf, np.inf),
    "sqrt": (np.nan, np.inf), "rsqrt": (np.nan, 0), "log": (np.nan, np.inf), "reciprocal": (0, 0),
}  # fmt: skip


@pytest.mark.parametrize("name", ENDS)
def test_infinities_and_the_largest_numbers(name):
    np.testing.assert_array_equal(_apply(name, [-np.inf, np.inf]), np.float32(ENDS[name]))
    largest = np.finfo(np.float32).max
    found = _apply(name, [-largest, largest])
    assert np.isnan(found).tolist() == np.isnan(ENDS[name]).tolist()


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_nan_stays_and_no_zero_becomes_one(name):
    assert np.isnan(_apply(name, [np.nan])).all()
    assert not np.isnan(_apply(name, [0.0, -0.0])).any()


def test_the_sine_is_extrapolated_by_a_cubic():
    assert _apply("sin", [9.0])[0] == pytest.approx(27.65, abs=0.01)
    assert _apply("sin", [-9.0])[0] == pytest.approx(-27.65, abs=0.01)


@pytest.mark.parametrize(("name", "inside", "outside"), [
    ("log", [2.0**-64, 2.0**64], [2.0**-66, 2.0**65, -1.0, 0.0]), ("sin", [-math.pi, math.pi], [3.2, -3.2]),
    ("arctan", [-math.pi / 2, math.pi / 2], [1.6, -1.6]), ("sqrt", [0.0, 2.0**-116, 2.0**118], [-1.0, 2.0**119]),
    ("rsqrt", [2.0**-87, 2.0**97], [0.0, -1.0, 2.0**98]),
    ("reciprocal", [2.0**-42, -(2.0**-42), 2.0**42, -(2.0**42)], [0.0, 2.0**-43, -(2.0**43)]),
    ("exp", [-1e30, 1e30], []),
])  # fmt: skip
def test_inputs_outside_the_valid_range_are_a_finding(core, name, inside, outside):
    activate(Call("activation"), ACTIVATIONS[name], np.float32(inside))
    assert core.findings == []
    for count, value in enumerate(outside, 1):
        activate(Call("activation"), ACTIVATIONS[name], np.float32([inside[0], value]))
        assert sum(item.count for item in core.findings) == count
        assert (core.findings[0].rule, name in core.findings[0].message) == ("activation-range", True)


@pytest.mark.parametrize(("op", "name"), [
    ("identity", "copy"), (np.exp, "exp"), (np.absolute, "abs"), (np.fabs, "abs"), (np.arctan, "arctan"),
    ("gelu", "gelu"),
])  # fmt: skip
def test_functions_by_name(core, op, name):
    assert activation_function(Call("activation"), op).name == name


@pytest.mark.parametrize("op", ["power", np.floor, None, 3, "cosine"])
def test_unknown_functions(core, op):
    with pytest.raises(NkiValidationError, match="tbl-act-func") as caught:
        activation_function(Call("activation"), op)
    assert caught.value.rule == "operator"
