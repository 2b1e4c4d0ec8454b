"""OCP microscaling: four elements to a container, one power-of-two scale to 32 elements.

On the chip a group of 32 is 8 partitions of 4 elements each. Scales are ``float8_e8m0fnu``: 2^(b - 127).

Source: OCP Microscaling Formats (MX) v1.0; ``nki.isa.quantize_mx``.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import ml_dtypes
import numpy as np

from trainshed.numerics.formats import PACKED

Array = np.ndarray[Any, Any]
#: Exponent of the largest power of two of each element format.
EMAX = {"float8_e4m3fn_x4": 8, "float8_e5m2_x4": 15, "float4_e2m1fn_x4": 2}
BIAS = 127
#: Elements taken at a time: what a pass over them makes stays in the processor's cache.
_PART = 1 << 15


@lru_cache
def _table(name: str) -> Array:
    """Every element of a format as float32, by its bits."""
    count = 16 if name == "float4_e2m1fn_x4" else 256
    elements: Array = np.arange(count, dtype=np.uint8).view(PACKED[name]).astype(np.float32)
    return elements


@lru_cache
def _quadruples() -> Array:
    """The four 4-bit elements of each container of ``float4_e2m1fn_x4``, float32 ``[65536, 4]``."""
    nibbles = (np.arange(65536, dtype=np.uint16)[:, None] >> np.arange(0, 16, 4, dtype=np.uint16)) & np.uint16(15)
    elements: Array = _table("float4_e2m1fn_x4").take(nibbles)
    return elements


@lru_cache
def _nearest(name: str) -> Array:
    """The bits of the element nearest to each float32 of 16 bits; larger magnitudes saturate."""
    most = float(ml_dtypes.finfo(PACKED[name]).max)  # type: ignore[no-untyped-call]
    tops = (np.arange(65536, dtype=np.uint32) << 16).view(np.float32)
    with np.errstate(invalid="ignore"):  # not-a-number stays what it is
        return np.clip(tops, -most, most).astype(PACKED[name]).view(np.uint8)


def unpack(containers: Array, name: str) -> Array:
    """Elements of packed containers as float32: ``[…]`` to ``[…, 4]``, the lowest bits first."""
    if name == "float4_e2m1fn_x4":
        quadruples: Array = _quadruples().take(containers, axis=0)
        return quadruples
    indices = np.ascontiguousarray(containers).view(np.uint8).reshape(*containers.shape, 4)
    elements: Array = _table(name).take(indices)
    return elements


def pack(elements: Array, name: str) -> Array:
    """Float32 elements ``[…, 4]`` rounded to a format and packed to ``[…]``; larger magnitudes saturate.

    The upper 16 bits decide, with any bit below making their last one odd: at most 3 of their 7 bits of mantissa
    are kept, so that one tells half from more than half.
    """
    bits = np.ascontiguousarray(elements, np.float32).view(np.uint32).reshape(-1)
    bytes_, nearest = np.empty(bits.size, np.uint8), _nearest(name)
    for start in range(0, bits.size, _PART):
        part = bits[start : start + _PART]
        tops = (part >> 16).astype(np.uint16)
        tops |= (part & 0xFFFF) != 0
        nearest.take(tops, out=bytes_[start : start + _PART], mode="clip")
    words: Array = bytes_.view(np.uint32).reshape(elements.shape[:-1])
    if name != "float4_e2m1fn_x4":
        return words
    packed = words & 0xF
    for place in (1, 2, 3):
        packed |= (words >> (4 * place)) & (0xF << (4 * place))
    return packed.astype(np.uint16)


def scale_values(scales: Array) -> Array:
    """2^(b - 127) of scale bytes, float32 (255 is not a number)."""
    values: Array = _scale_table().take(scales.view(np.uint8))
    return values


@lru_cache
def _scale_table() -> Array:
    powers = np.ldexp(1.0, np.arange(256) - BIAS)
    powers[255] = np.nan
    table: Array = powers.astype(np.float32)
    return table


def scale_rows(partitions: int) -> Array:
    """Rows of a scale tile that hold the scales of ``partitions`` data partitions, one to 8.

    Four to a quadrant of 32: rows 0 to 3, 32 to 35, 64 to 67, 96 to 99 for 128 partitions.
    """
    groups = np.arange(partitions // 8)
    rows: Array = groups // 4 * 32 + groups % 4
    return rows


def dequantise(containers: Array, scales: Array, name: str) -> Array:
    """Float32 values ``[P, F, 4]`` of containers ``[P, F]`` and their scales ``[P / 8, F]``."""
    values = unpack(containers, name)
    groups = values.reshape(len(scales), 8, *values.shape[1:])
    with np.errstate(over="ignore", invalid="ignore"):
        groups *= scale_values(scales)[:, None, :, None]
    return values


def quantise(values: Array, name: str, rule: str) -> tuple[Array, Array]:
    """Containers ``[P, F / 4]`` and scale bytes ``[P / 8, F / 4]`` of float32 ``values`` ``[P, F]``.

    The scale is 2^(floor(log2 amax) - EMAX) under rule ``"0.4"`` (OCP's), and twice that under ``"0.5"``, which
    halves what saturates. A group of zeros has scale byte 0.
    """
    partitions, free = values.shape
    groups = values.reshape(partitions // 8, 8, free // 4, 4)
    exponents = np.ascontiguousarray(values).view(np.uint32) >> 23 & 0xFF
    largest = exponents.reshape(groups.shape).max(axis=(1, 3)).astype(np.int32)
    scales = np.clip(largest - EMAX[name] + (rule != "0.4"), 0, 254).astype(np.uint8)
    with np.errstate(over="ignore", invalid="ignore"):
        scaled = groups / scale_values(scales)[:, None, :, None]
    return pack(scaled.reshape(partitions, free // 4, 4), name), scales
