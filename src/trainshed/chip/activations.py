"""The activation functions of ScalarE, by the vendor's names, in float32.

The hardware approximates them with piecewise polynomials; here they are computed as exactly as float32 allows.
Outside a function's valid range the hardware's result is not defined: a kernel that goes there gets a finding.

Source: the table "Supported Activation Functions by NKI ISA" (``nki.api.shared``, ``tbl-act-func``).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from trainshed.chip.call import Call
from trainshed.chip.findings import note

Array = np.ndarray[Any, Any]
_F32 = np.float32
_SQRT_2 = _F32(math.sqrt(2))
_TWO_OVER_SQRT_PI = _F32(2 / math.sqrt(math.pi))


@dataclass(frozen=True, kw_only=True, slots=True)
class Activation:
    """One function, and where its result is valid: ``low <= x <= high`` (of ``|x|`` if ``magnitude``)."""

    name: str
    apply: Callable[[Array, Any], Array]
    """Of float32 values and the parameter that only ``prelu`` uses."""
    low: float = -math.inf
    high: float = math.inf
    magnitude: bool = False


def erf(x: Array) -> Array:
    """The error function: cubic Hermite interpolation of its values and slopes, 64 to the unit, error below 1e-9."""
    values, slopes = _erf_table()
    place = (np.clip(x, -_ERF_END, _ERF_END).astype(np.float64) + _ERF_END) * _ERF_STEPS
    place = np.nan_to_num(place, nan=0.0)
    index = np.minimum(place.astype(np.int32), len(values) - 2)
    t = place - index
    left, right = values[index], values[index + 1]
    s0, s1 = slopes[index], slopes[index + 1]
    square = t * t
    result = left + t * s0 + square * (3 * (right - left) - 2 * s0 - s1) + square * t * (2 * (left - right) + s0 + s1)
    return np.where(np.isnan(x), _F32(np.nan), result.astype(_F32))


_ERF_END, _ERF_STEPS = 6, 64


@lru_cache
def _erf_table() -> tuple[Array, Array]:
    grid = np.arange(-_ERF_END * _ERF_STEPS, _ERF_END * _ERF_STEPS + 1) / _ERF_STEPS
    values = np.array([math.erf(x) for x in grid])
    return values, 2 / math.sqrt(math.pi) * np.exp(-grid * grid) / _ERF_STEPS


def sigmoid(x: Array) -> Array:
    """1 / (1 + exp(-x)), without overflow."""
    small = np.exp(-np.abs(x))
    result: Array = np.where(x >= 0, 1, small) / (1 + small)
    return result


def _softplus(x: Array) -> Array:
    result: Array = np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))
    return result


def _gelu(x: Array) -> Array:
    return _F32(0.5) * x * (1 + erf(x / _SQRT_2))


def _gelu_dx(x: Array) -> Array:
    density = np.exp(_F32(-0.5) * x * x) * _F32(1 / math.sqrt(2 * math.pi))
    return _F32(0.5) * (1 + erf(x / _SQRT_2)) + x * density


def _gelu_tanh(x: Array) -> Array:
    inner = _F32(math.sqrt(2 / math.pi)) * (x + _F32(0.044715) * x * x * x)
    return _F32(0.5) * x * (1 + np.tanh(inner))


_SLOPE = _F32(1.702)


def _gelu_sigmoid(x: Array) -> Array:
    return x * sigmoid(_SLOPE * x)


def _gelu_sigmoid_dx(x: Array) -> Array:
    s = sigmoid(_SLOPE * x)
    return s + _SLOPE * x * s * (1 - s)


def _silu_dx(x: Array) -> Array:
    s = sigmoid(x)
    return s * (1 + x * (1 - s))


def _sin(x: Array) -> Array:
    """The sine; beyond pi the cubic around pi continues, as on the hardware: sin(9.0) gives 27.65.

    Source: the note below the table; that cubic around pi is what gives the published value.
    """
    inside = np.sin(x)
    beyond = np.abs(x) - _F32(math.pi)
    outside = np.sign(x) * (beyond * beyond * beyond / 6 - beyond)
    return np.where(np.abs(x) > _F32(math.pi), outside, inside).astype(_F32)


def _prelu(x: Array, slope: Any) -> Array:
    return np.where(x >= 0, x, slope * x).astype(_F32)


def _plain(function: Callable[[Array], Any]) -> Callable[[Array, Any], Array]:
    return lambda x, _: function(x)


def _one(name: str, function: Callable[[Array], Any], **limits: Any) -> Activation:
    return Activation(name=name, apply=_plain(function), **limits)


_FUNCTIONS = (
    _one("copy", lambda x: x), _one("square", np.square), _one("sigmoid", sigmoid),
    _one("relu", lambda x: np.maximum(x, _F32(0))), Activation(name="prelu", apply=_prelu),
    _one("gelu", _gelu), _one("gelu_dx", _gelu_dx), _one("gelu_apprx_tanh", _gelu_tanh),
    _one("gelu_apprx_sigmoid", _gelu_sigmoid), _one("gelu_apprx_sigmoid_dx", _gelu_sigmoid_dx),
    _one("silu", lambda x: x * sigmoid(x)), _one("silu_dx", _silu_dx), _one("tanh", np.tanh),
    _one("softplus", _softplus), _one("mish", lambda x: x * np.tanh(_softplus(x))),
    _one("erf", erf), _one("erf_dx", lambda x: _TWO_OVER_SQRT_PI * np.exp(-x * x)),
    _one("exp", np.exp), _one("sign", np.sign), _one("abs", np.abs),
    _one("log", np.log, low=2.0**-64, high=2.0**64),
    _one("sin", _sin, low=-math.pi, high=math.pi),
    _one("arctan", np.arctan, low=-math.pi / 2, high=math.pi / 2),
    _one("sqrt", np.sqrt, low=2.0**-116, high=2.0**118),
    _one("rsqrt", lambda x: 1 / np.sqrt(x), low=2.0**-87, high=2.0**97),
    _one("reciprocal", lambda x: 1 / x, low=2.0**-42, high=2.0**42, magnitude=True),
)  # fmt: skip
ACTIVATIONS: dict[str, Activation] = {item.name: item for item in _FUNCTIONS}
_ALIASES = {"identity": "copy", "absolute": "abs", "fabs": "abs", "gelu_apprx_tanh_fwd": "gelu_apprx_tanh"}


def activation_function(call: Call, op: Any) -> Activation:
    """The function that ``nl.exp``, ``np.exp`` or a name means."""
    name = op if isinstance(op, str) else getattr(op, "__name__", None)
    found = ACTIVATIONS.get(_ALIASES.get(name, name)) if name is not None else None
    if found is None:
        raise call.fail("op", "activation function", name or op, "one of the table 'tbl-act-func'", "operator")
    return found


def activate(call: Call, function: Activation, values: Array, parameter: Any = _F32(0)) -> Array:  # noqa: B008
    """The function of float32 values; values outside its valid range give one finding per line."""
    with np.errstate(all="ignore"):
        result = np.asarray(function.apply(values, parameter), _F32)
        if function.high != math.inf:
            seen = np.abs(values) if function.magnitude else values
            # A whole number of float32 steps at the ends: pi itself is no float32.
            slack = 1 + 1e-6
            low = function.low * slack if function.low < 0 else function.low / slack
            outside = (seen < low) | (seen > function.high * slack)
            # Zero is below the range of sqrt, and its result is known.
            if function.name == "sqrt":
                outside &= seen != 0
            if outside.any():
                note(
                    call.core, "activation-range",
                    f"inputs of {function.name} outside its valid range "
                    f"{'±' if function.magnitude else ''}[{function.low:.6g}, {function.high:.6g}]", call.source,
                )  # fmt: skip
    return result
