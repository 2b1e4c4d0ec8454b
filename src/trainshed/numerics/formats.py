"""The storage formats of a NeuronCore's memories, by the vendor's names.

A :class:`DType` is a string, as in NKI 0.6, so that ``tensor.dtype == "bfloat16"``, a dictionary key and
``str(dtype)`` all work; it also equals the NumPy dtype of the same values. Packed MX formats hold four
elements in one container, which NumPy cannot name: outside the chip they are structured dtypes with one
field of that name (``np.dtype([("float8_e4m3fn_x4", "u4")])``), inside it plain unsigned integers.
"""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np

_KNOWN: dict[str, DType] = {}


class DType(str):
    """The name of a storage format, comparable with NumPy's and PyTorch's name for the same format."""

    __slots__ = ()

    def __new__(cls, name: object) -> DType:
        """One object per name: what looks a format up finds it by identity."""
        text = str(name)
        made = _KNOWN.get(text)
        if made is None:
            made = _KNOWN[text] = super().__new__(cls, text)
        return made

    def __getnewargs__(self) -> tuple[str]:
        return (str(self),)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, str):
            return str.__eq__(self, other)
        known = lookup(other)
        return known is not None and str.__eq__(self, known)

    def __ne__(self, other: object) -> bool:
        return not self == other

    __hash__ = str.__hash__

    @property
    def itemsize(self) -> int:
        """Bytes of one element (of one container for packed formats)."""
        return _STORAGE[self].itemsize

    @property
    def storage(self) -> np.dtype[Any]:
        """The NumPy dtype that holds it inside the chip."""
        return _STORAGE[self]

    @property
    def outside(self) -> np.dtype[Any]:
        """The NumPy dtype a user's array has."""
        return np.dtype([(str(self), self.storage)]) if self in PACKED else self.storage

    @property
    def is_float(self) -> bool:
        return self in _FLOATS

    @property
    def is_integer(self) -> bool:
        return self.storage.kind in "iub"


bool_ = DType("bool_")
int8, int16, int32 = DType("int8"), DType("int16"), DType("int32")
uint8, uint16, uint32 = DType("uint8"), DType("uint16"), DType("uint32")
float16, float32, bfloat16, tfloat32 = DType("float16"), DType("float32"), DType("bfloat16"), DType("tfloat32")
float8_e4m3, float8_e4m3fn, float8_e5m2 = DType("float8_e4m3"), DType("float8_e4m3fn"), DType("float8_e5m2")
float8_e8m0fnu = DType("float8_e8m0fnu")
float8_e4m3fn_x4, float8_e5m2_x4 = DType("float8_e4m3fn_x4"), DType("float8_e5m2_x4")
float4_e2m1fn_x4 = DType("float4_e2m1fn_x4")

#: ``float8_e4m3`` is the IEEE-style format with infinities (largest 240), ``float8_e4m3fn`` OCP's (largest 448).
_STORAGE: dict[str, np.dtype[Any]] = {
    name: np.dtype(kind)
    for name, kind in (
        (bool_, np.bool_), (int8, np.int8), (int16, np.int16), (int32, np.int32),
        (uint8, np.uint8), (uint16, np.uint16), (uint32, np.uint32),
        (float16, np.float16), (float32, np.float32), (tfloat32, np.float32), (bfloat16, ml_dtypes.bfloat16),
        (float8_e4m3, ml_dtypes.float8_e4m3), (float8_e4m3fn, ml_dtypes.float8_e4m3fn),
        (float8_e5m2, ml_dtypes.float8_e5m2), (float8_e8m0fnu, ml_dtypes.float8_e8m0fnu),
        (float8_e4m3fn_x4, np.uint32), (float8_e5m2_x4, np.uint32), (float4_e2m1fn_x4, np.uint16),
    )
}  # fmt: skip

#: The format of the four elements inside a packed container.
PACKED: dict[str, Any] = {
    "float8_e4m3fn_x4": ml_dtypes.float8_e4m3fn,
    "float8_e5m2_x4": ml_dtypes.float8_e5m2,
    "float4_e2m1fn_x4": ml_dtypes.float4_e2m1fn,
}
_FLOATS = frozenset(
    ["float16", "float32", "bfloat16", "tfloat32", "float8_e4m3", "float8_e4m3fn", "float8_e5m2", "float8_e8m0fnu"]
)
#: Other spellings met in kernels and frameworks.
_ALIASES = {
    "bool": "bool_", "fp32": "float32", "fp16": "float16", "half": "float16", "float": "float32", "bf16": "bfloat16",
    "tf32": "tfloat32", "float8e4": "float8_e4m3", "float8e5": "float8_e5m2", "fp8_e4m3": "float8_e4m3",
    "fp8_e5m2": "float8_e5m2", "fp8_e4m3fn": "float8_e4m3fn", "int64": "int32", "float64": "float32",
}  # fmt: skip
DTYPES: dict[str, DType] = {name: DType(name) for name in _STORAGE}
_BY_NUMPY: dict[Any, DType] = {
    dtype: DTYPES[name] for name, dtype in reversed(_STORAGE.items()) if name not in PACKED and name != "tfloat32"
}


def lookup(value: object) -> DType | None:
    """The format that a name, a NumPy dtype or scalar type, or a PyTorch dtype means; None when there is none.

    64-bit types are not the chip's: they are None here, and 32-bit only where a user's array is taken in.
    """
    if isinstance(value, DType):
        return value
    if isinstance(value, str):
        name = value.rsplit(".", 1)[-1]
        return DTYPES.get(name) or DTYPES.get(_ALIASES.get(name, "") if name not in ("int64", "float64") else "")
    if isinstance(value, np.dtype):
        if value.names and len(value.names) == 1 and value.names[0] in PACKED:
            return DTYPES[value.names[0]]
        return _BY_NUMPY.get(value)
    if isinstance(value, type):
        try:
            return _BY_NUMPY.get(np.dtype(value))
        except TypeError:
            return None
    if type(value).__module__ == "torch":
        return lookup(str(value))
    return None
