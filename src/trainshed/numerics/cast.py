"""Between storage formats and float32, rounded as the hardware rounds.

Floats round to nearest even, or up or down at random where a generator is given; integers round to nearest even and
saturate. tfloat32 keeps 10 bits of mantissa in a float32. 8-bit floats go through tables, exactly.

Source: ``nki.language``, the table of dtypes; the Neuron page on rounding modes.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import ml_dtypes
import numpy as np

from trainshed.numerics.formats import DType

Array = np.ndarray[Any, Any]
_BF16, _FLOAT32 = np.dtype(ml_dtypes.bfloat16), np.dtype(np.float32)
_FP8 = frozenset(np.dtype(kind) for kind in (ml_dtypes.float8_e4m3, ml_dtypes.float8_e4m3fn, ml_dtypes.float8_e5m2))
#: Bits of mantissa, and the exponent of the smallest normal number, of what is rounded stochastically.
_ROUNDED = {
    np.dtype(np.float16): (10, -14),
    np.dtype(ml_dtypes.float8_e4m3): (3, -6),
    np.dtype(ml_dtypes.float8_e4m3fn): (3, -6),
    np.dtype(ml_dtypes.float8_e5m2): (2, -14),
}
_TF32_DROPPED = 13
#: The largest float32 below 2^31 and 2^32: what is above saturates.
_LIMITS = {np.dtype(np.int32): np.float32(2147483520), np.dtype(np.uint32): np.float32(4294967040)}


def to_float32(values: Array, dtype: DType) -> Array:
    """Stored values as float32, the engines' internal format (tfloat32 included: its storage is float32)."""
    kind = values.dtype
    if kind == _FLOAT32:
        return values
    if kind in _FP8:
        wide: Array = _widened(kind).take(values.view(np.uint8))
        return wide
    return values.astype(_FLOAT32)


def from_float32(values: Array, dtype: DType, *, stochastic: np.random.Generator | None = None) -> Array:
    """Values in a storage format: round to nearest even, or stochastically where a generator is given.

    Values that already have the format's NumPy dtype pass unchanged; a wider integer saturates, one as wide keeps
    its bits, and not-a-number becomes 0 in an integer.
    """
    kind, have = dtype.storage, values.dtype
    if str.__eq__(dtype, "tfloat32"):
        return _tfloat32(np.asarray(values, np.float32), stochastic)
    if have == kind:
        return values
    if kind.kind in "iu":
        return _whole(values, kind)
    if stochastic is not None and have == _FLOAT32 and (kind == _BF16 or kind in _ROUNDED):
        return _bfloat16(values, stochastic) if kind == _BF16 else _stochastic(values, kind, stochastic)
    if have == _FLOAT32 and kind in _FP8:
        return _float8(values, kind)
    with np.errstate(over="ignore", invalid="ignore"):
        return values.astype(kind)


@lru_cache
def _widened(kind: np.dtype[Any]) -> Array:
    """Every 8-bit float of a format as float32."""
    return np.arange(256, dtype=np.uint8).view(kind).astype(np.float32)


@lru_cache
def _narrowed(kind: np.dtype[Any]) -> Array:
    """The bits of the 8-bit float nearest to each float32 of 16 bits."""
    tops = (np.arange(65536, dtype=np.uint32) << 16).view(np.float32)
    with np.errstate(over="ignore", invalid="ignore"):
        return tops.astype(kind).view(np.uint8)


def _float8(values: Array, kind: np.dtype[Any]) -> Array:
    """Float32 to an 8-bit float by the upper 16 bits; any bit below makes their last one odd.

    That is enough to round to nearest even: at most 3 of their 7 bits of mantissa are kept, so the last one never
    decides but between exactly half and more than half.
    """
    bits = np.ascontiguousarray(values).view(np.uint32)
    tops = (bits >> 16).astype(np.uint16)
    tops |= (bits & 0xFFFF) != 0
    narrow: Array = _narrowed(kind).take(tops)
    return narrow.view(kind)


def _whole(values: Array, kind: np.dtype[Any]) -> Array:
    """Anything to an integer."""
    have = values.dtype
    if have.kind == "b" or (have.kind in "iu" and have.itemsize == kind.itemsize):
        return values.astype(kind)
    low, high = int(np.iinfo(kind).min), int(np.iinfo(kind).max)
    if have.kind in "iu":
        bounds = np.iinfo(have)
        return np.clip(values, max(low, int(bounds.min)), min(high, int(bounds.max))).astype(kind)
    numbers = values.astype(np.float32, copy=False)
    rounded: Array = np.asarray(np.rint(numbers))
    if rounded.size and np.isnan(rounded.max()):
        rounded[np.isnan(rounded)] = 0
    limit = _LIMITS.get(kind)
    if limit is None:
        return np.clip(rounded, low, high, out=rounded).astype(kind)
    above = rounded > limit
    result: Array = np.clip(rounded, np.float32(low), limit, out=rounded).astype(kind)
    result[above] = high
    return result


def _tfloat32(values: Array, stochastic: np.random.Generator | None) -> Array:
    """Float32 with its lower 13 bits of mantissa rounded away; what is not finite stays as it is."""
    bits = values.view(np.uint32) if values.flags.c_contiguous else np.ascontiguousarray(values).view(np.uint32)
    if stochastic is None:
        added: Any = (bits >> _TF32_DROPPED & 1) + np.uint32((1 << _TF32_DROPPED - 1) - 1)
    else:
        added = stochastic.integers(0, 1 << _TF32_DROPPED, values.shape, np.uint32)
    rounded = (bits + added & np.uint32(0xFFFFE000)).view(np.float32)
    return np.where(np.isfinite(values), rounded, values)


def _bfloat16(values: Array, generator: np.random.Generator) -> Array:
    """Float32 to bfloat16, up with the probability that the dropped bits say."""
    bits = np.ascontiguousarray(values).view(np.uint32)
    moved = bits + generator.integers(0, 1 << 16, values.shape, np.uint32)
    rounded = (moved >> 16).astype(np.uint16).view(_BF16)
    finite = np.isfinite(values)
    return rounded if finite.all() else np.where(finite, rounded, values.astype(_BF16))


def _stochastic(values: Array, kind: np.dtype[Any], generator: np.random.Generator) -> Array:
    """Float32 to a narrow float, to one of its two neighbours, so that the expected value is the value.

    What lies beyond the largest finite number is cast as it is to nearest.
    """
    mantissa, least = _ROUNDED[kind]
    with np.errstate(over="ignore", invalid="ignore"):
        magnitude = np.abs(values).astype(np.float64)
        _, exponent = np.frexp(magnitude)
        step = np.ldexp(1.0, np.maximum(exponent - 1, least) - mantissa)
        chosen = np.copysign(np.floor(magnitude / step + generator.random(values.shape)) * step, values)
        inside = magnitude <= float(ml_dtypes.finfo(kind).max)  # type: ignore[no-untyped-call]
        return np.where(inside, chosen, values).astype(np.float32).astype(kind)
