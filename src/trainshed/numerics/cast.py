"""Between storage formats and float32, rounded as the hardware rounds."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np

from trainshed.numerics.formats import DType

Array = np.ndarray[Any, Any]
_BF16 = np.dtype(ml_dtypes.bfloat16)


def to_float32(values: Array, dtype: DType) -> Array:
    """Stored values as float32, the engines' internal format (tfloat32 included: its storage is float32)."""
    if values.dtype == np.float32:
        return values
    if values.dtype == _BF16:
        return (values.view(np.uint16).astype(np.uint32) << 16).view(np.float32)
    return values.astype(np.float32)


def from_float32(values: Array, dtype: DType, *, stochastic: np.random.Generator | None = None) -> Array:
    """Values in a storage format: round to nearest even, or stochastically where a generator is given.

    Values that already have the format's NumPy dtype pass unchanged. Integers saturate.
    """
    kind = dtype.storage
    if values.dtype == kind:
        return values
    if kind.kind in "iu":
        if values.dtype.kind in "iub":
            return values.astype(kind)
        low, high = np.iinfo(kind).min, np.iinfo(kind).max
        whole: Array = np.clip(np.nan_to_num(np.rint(values.astype(np.float64))), low, high).astype(kind)
        return whole
    return values.astype(kind)
