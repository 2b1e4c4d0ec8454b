"""How operands of matrix products are laid out in HBM beforehand, in NumPy: blocks of columns, and MX containers."""

from __future__ import annotations

from typing import Any

import numpy as np

from trainshed.kernels.blocks import Blocks
from trainshed.numerics.formats import PACKED
from trainshed.numerics.mx import pack, quantise

Array = np.ndarray[Any, Any]


def arranged(w: Array, cut: Blocks) -> Array:
    """``w`` [..., n] in the blocks of columns of a product, [blocks, ..., width], zeros behind the last column.

    A partition then finds the rows of a block one behind the other: DMA rows of several KiB.
    """
    padded = np.zeros((*w.shape[:-1], cut.columns * cut.width), w.dtype)
    padded[..., : w.shape[-1]] = w
    blocks = padded.reshape(*w.shape[:-1], cut.columns, cut.width)
    return np.ascontiguousarray(np.moveaxis(blocks, -2, 0))


def mx_rows(x: Array, cut: Blocks, dtype: str) -> tuple[Array, Array]:
    """``x`` [k, columns] as MX: containers [partitions, steps, columns] and scales [partitions / 8, steps, columns].

    Each group of 32 consecutive elements of k has a scale. Group g lies in step ``g % steps``, in the eight partitions
    from ``g // steps * 8`` on. ``dtype``: ``float8_e4m3fn_x4``, ``float8_e5m2_x4`` or ``float4_e2m1fn_x4``.
    """
    flat = _fours(x.astype(np.float32), cut)
    data, scales = _fp4(flat) if dtype == "float4_e2m1fn_x4" else quantise(flat, dtype, "0.5")
    shape, kind = (cut.steps, x.shape[1]), np.dtype([(dtype, data.dtype)])
    return data.view(kind).reshape(cut.depth, *shape), scales.reshape(cut.depth // 8, *shape)


def fp8_rows(x: Array, cut: Blocks) -> Array:
    """``x`` [k, columns] in ``float8_e4m3fn``, in the containers of :func:`mx_rows`, for products without scales."""
    kind = np.dtype([("float8_e4m3fn_x4", np.uint32)])
    return _fours(x.astype(PACKED["float8_e4m3fn_x4"]), cut).view(kind).reshape(cut.depth, cut.steps, x.shape[1])


def _fours(x: Array, cut: Blocks) -> Array:
    """Rows of partitions: by step and column four elements of k."""
    columns = x.shape[1]
    padded = np.zeros((cut.depth * cut.steps * 4, columns), x.dtype)
    padded[: x.shape[0]] = x
    # [eighths, steps, 8 partitions, 4 elements, columns] to rows of partitions, columns of steps and elements
    groups = padded.reshape(cut.depth // 8, cut.steps, 8, 4, columns).transpose(0, 2, 1, 4, 3)
    return np.ascontiguousarray(groups).reshape(cut.depth, cut.steps * columns * 4)


def _fp4(values: Array) -> tuple[Array, Array]:
    """MXFP4 containers and scales of [partitions, 4 F], as checkpoints have them (no instruction makes any)."""
    partitions, free = values.shape
    groups = values.reshape(partitions // 8, 8, free // 4, 4)
    largest = np.abs(groups).max(axis=(1, 3))
    most = float(PACKED["float4_e2m1fn_x4"](6.0))
    with np.errstate(divide="ignore"):
        exponents = np.ceil(np.log2(largest / most))
    scales = np.clip(np.where(largest > 0, exponents, -127) + 127, 0, 254).astype(np.uint8)
    scaled = groups / np.ldexp(np.float32(1), scales.astype(np.int32) - 127)[:, None, :, None]
    return pack(scaled.reshape(partitions, free // 4, 4).astype(np.float32), "float4_e2m1fn_x4"), scales


def mx_values(data: Array, scales: Array | None) -> Array:
    """The float64 values [partitions * steps * 4, columns] that MX containers and scales mean, by plain arithmetic.

    Without scales these are 1.
    """
    partitions, steps, columns = data.shape
    (name,) = data.dtype.names or ("",)
    plain = np.ascontiguousarray(data).view(data.dtype[0])
    if name == "float4_e2m1fn_x4":
        bits = (plain[..., None] >> (4 * np.arange(4, dtype=np.uint16)) & np.uint16(15)).astype(np.uint8)
    else:
        bits = plain.view(np.uint8).reshape(partitions, steps, columns, 4)
    values = bits.view(PACKED[name]).astype(np.float64)
    if scales is not None:
        exponents = np.repeat(scales.view(np.uint8), 8, axis=0).astype(np.int64) - 127
        values = values * np.ldexp(1.0, exponents)[..., None]
    groups = values.reshape(partitions // 8, 8, steps, columns, 4).transpose(0, 2, 1, 4, 3)
    return np.ascontiguousarray(groups).reshape(partitions * steps * 4, columns)
