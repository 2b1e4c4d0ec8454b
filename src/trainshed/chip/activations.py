"""The activation functions of ScalarE, by the vendor's names, in float32.

The hardware approximates them with piecewise polynomials; here they are computed as exactly as float32 allows.
Outside a function's valid range the hardware's result is not defined: a kernel that goes there gets a finding.

Source: the table "Supported Activation Functions by NKI ISA" (``nki.api.shared``, ``tbl-act-func``).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from trainshed.chip.call import Call
from trainshed.chip.findings import note

Array = np.ndarray[Any, Any]
_F32 = np.float32
_LARGEST = np.finfo(np.float32).max
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


#: erf(x) = x P(x²) / Q(x²) up to |x| = 3.92, from where on it is 1 in float32: lowest coefficients first, our fit
#: (least squares on Chebyshev nodes, weights raised where the error is largest; exact to 2e-8, 4e-7 in float32).
_ERF_END = _F32(3.92)
_ERF_P = (1.1283791065216064, 0.190387561917305, 0.05274621769785881, 0.0037648046854883432, 0.0002848643925972283,
          2.0502316147030797e-06)  # fmt: skip
_ERF_Q = (1.0, 0.5020593404769897, 0.11410129070281982, 0.014967589639127254, 0.0011623385362327099,
          3.8092250179033726e-05)  # fmt: skip


def erf(x: Array) -> Array:
    """The error function, to 4e-7."""
    x = np.clip(x, -_ERF_END, _ERF_END)
    square = x * x
    x *= _polynomial(_ERF_P, square)
    x /= _polynomial(_ERF_Q, square)
    return np.clip(x, _F32(-1), _F32(1), out=x)


def _polynomial(coefficients: tuple[float, ...], x: Array) -> Array:
    """Lowest coefficient first; every step in place."""
    result = x * _F32(coefficients[-1])
    for item in coefficients[-2:0:-1]:
        result += _F32(item)
        result *= x
    result += _F32(coefficients[0])
    return result


def sigmoid(x: Array) -> Array:
    """1 / (1 + exp(-x)): where the exponential overflows, that is 0."""
    result: Array = np.negative(x)
    np.exp(result, out=result)
    result += _F32(1)
    np.divide(_F32(1), result, out=result)
    return result


def _softplus(x: Array) -> Array:
    """max(x, 0) + log(1 + y) with y = exp(-|x|), and what 1 + y rounds off (log1p would take several times longer)."""
    small = np.exp(-np.abs(x))
    whole = small + _F32(1)
    result: Array = whole - _F32(1)
    np.subtract(small, result, out=result)
    result /= whole
    result += np.log(whole)
    result += np.maximum(x, _F32(0))
    return result


def _times(x: Array, factor: Array) -> Array:
    """``x * factor`` where the factor vanishes as x goes to minus infinity: -inf gives -0."""
    factor *= np.maximum(x, -_LARGEST)
    return factor


def _vanishing(x: Array, factor: Array) -> Array:
    """``x * factor`` where the factor vanishes at both ends."""
    factor *= np.clip(x, -_LARGEST, _LARGEST)
    return factor


def _gelu(x: Array) -> Array:
    factor = erf(x * _F32(math.sqrt(0.5)))
    factor += _F32(1)
    factor *= _F32(0.5)
    return _times(x, factor)


def _gelu_dx(x: Array) -> Array:
    density = np.exp(_F32(-0.5) * (x * x)) * _F32(1 / math.sqrt(2 * math.pi))
    return _F32(0.5) * (1 + erf(x * _F32(math.sqrt(0.5)))) + _vanishing(x, density)


def _gelu_tanh(x: Array) -> Array:
    factor = np.tanh(_F32(math.sqrt(2 / math.pi)) * (x + _F32(0.044715) * x * x * x))
    factor += _F32(1)
    factor *= _F32(0.5)
    return _times(x, factor)


_SLOPE = _F32(1.702)


def _gelu_sigmoid(x: Array) -> Array:
    return _times(x, sigmoid(_SLOPE * x))


def _gelu_sigmoid_dx(x: Array) -> Array:
    s = sigmoid(_SLOPE * x)
    return s + _SLOPE * _vanishing(x, s * (1 - s))


def _silu(x: Array) -> Array:
    return _times(x, sigmoid(x))


def _silu_dx(x: Array) -> Array:
    s = sigmoid(x)
    return s + _vanishing(x, s * (1 - s))


def _mish(x: Array) -> Array:
    factor = _softplus(x)
    return _times(x, np.tanh(factor, out=factor))


def _sin(x: Array) -> Array:
    """The sine; beyond pi the cubic around pi continues, as on the hardware: sin(9.0) gives 27.65.

    Source: the note below the table; that cubic around pi is what gives the published value.
    """
    result: Array = np.asarray(np.sin(x))
    size = np.abs(x)
    outside = size > _F32(math.pi)
    if outside.any():
        beyond = size[outside] - _F32(math.pi)
        result[outside] = np.sign(x[outside]) * (beyond * (beyond * beyond / 6 - 1))
    return result


def _prelu(x: Array, slope: Any) -> Array:
    return np.where(x >= 0, x, x * slope)


def _plain(function: Callable[[Array], Any]) -> Callable[[Array, Any], Array]:
    return lambda x, _: function(x)


def _one(name: str, function: Callable[[Array], Any], **limits: Any) -> Activation:
    return Activation(name=name, apply=_plain(function), **limits)


_FUNCTIONS = (
    _one("copy", lambda x: x), _one("square", np.square), _one("sigmoid", sigmoid),
    _one("relu", lambda x: np.maximum(x, _F32(0))), Activation(name="prelu", apply=_prelu),
    _one("gelu", _gelu), _one("gelu_dx", _gelu_dx), _one("gelu_apprx_tanh", _gelu_tanh),
    _one("gelu_apprx_sigmoid", _gelu_sigmoid), _one("gelu_apprx_sigmoid_dx", _gelu_sigmoid_dx),
    _one("silu", _silu), _one("silu_dx", _silu_dx), _one("tanh", np.tanh),
    _one("softplus", _softplus), _one("mish", _mish),
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
