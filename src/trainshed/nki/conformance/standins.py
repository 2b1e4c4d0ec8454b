"""What AWS's kernel library's suite imports and nobody publishes, as far as the suite uses it.

``neuron_dtypes`` and the compiler's ``static_cast`` convert arrays between formats; the rest is of runs on real
machines (locks, performance analysis), which a simulation never reaches.
"""

from __future__ import annotations

import enum
import sys
from types import ModuleType
from typing import Any

import ml_dtypes
import numpy as np
from numpy._core import _dtype as numpy_dtype

from trainshed.nki import typing as nki_typing
from trainshed.numerics.formats import DTYPES, PACKED, DType, lookup
from trainshed.numerics.mx import pack, unpack

Array = np.ndarray[Any, Any]


def _outside(dtype: Any) -> np.dtype[Any]:
    """The NumPy dtype of a user's array in a format named in any way."""
    ours = lookup(dtype)
    return ours.outside if ours is not None else np.dtype(dtype)


def _packed_name(dtype: np.dtype[Any]) -> str | None:
    """The packed format a structured dtype holds."""
    return dtype.names[0] if dtype.names and dtype.names[0] in PACKED else None


def static_cast(values: Any, dtype: Any) -> Array:
    """An array in another format, as ``astype``; packed formats hold four elements of the last dimension each.

    From a packed format ``[..., F / 4]`` gives ``[..., F]``, to one ``[..., F]`` gives ``[..., F / 4]`` (magnitudes
    too large saturate). Between a container of plain bits and a packed format of its size, bits are kept.
    """
    array = np.asarray(values)
    target = _outside(dtype)
    source = _packed_name(array.dtype)
    if array.dtype == target:
        return array
    if source is not None:
        bits = np.ascontiguousarray(array).view(DTYPES[source].storage)
        array = unpack(bits, source).reshape(*array.shape[:-1], -1)
    name = _packed_name(target)
    if name is not None:
        return _to_packed(array, DTYPES[name])
    return array.astype(target)


def _to_packed(array: Array, dtype: DType) -> Array:
    """Elements packed by four; arrays of the container's own integer type keep their bits."""
    if array.dtype == dtype.storage:
        return array.view(dtype.outside)
    if array.dtype.itemsize == 1 and dtype.itemsize == 4 and array.dtype.kind != "f":
        return np.ascontiguousarray(array).view(dtype.outside)  # elements of the format, or their bytes
    groups = array.astype(np.float32).reshape(*array.shape[:-1], array.shape[-1] // 4, 4)
    return pack(groups, str(dtype)).view(dtype.outside)


def sizeinbytes(dtype: Any) -> int:
    """Bytes of one element."""
    return _outside(dtype).itemsize


def finfo(dtype: Any) -> Any:
    """Limits of a floating-point format (of the elements, where it is packed)."""
    kind = _outside(dtype)
    limits: Any = ml_dtypes.finfo
    return limits(PACKED.get(_packed_name(kind) or "", kind))


def is_float_type(dtype: Any) -> bool:
    """Whether a format holds floating-point numbers."""
    ours = lookup(dtype)
    return ours.is_float if ours is not None else np.dtype(dtype).kind == "f"


class LockStatus(enum.Enum):
    """How the script that shares real machines out among users can end; no simulation runs it."""

    ALLOCATED = 0
    RELEASED = 1
    NO_CORES = 2
    DRAINING = 3
    DRAINED = 4
    UNDRAINED = 5
    ERROR = 6
    FLOCK_TIMEOUT = 7


class LockResult:
    """What that script returns."""


def analyze_trace(*args: Any, **kwargs: Any) -> None:
    """The vendor's analysis of a profile taken on hardware."""
    raise RuntimeError("analyze_trace: needs a profile taken on hardware; a simulation has none")


def _module(name: str, **content: Any) -> None:
    """A module of this name, where there is none, known to its parent."""
    module = sys.modules.setdefault(name, ModuleType(name))
    for key, value in content.items():
        if not hasattr(module, key):
            setattr(module, key, value)
    parent, _, child = name.rpartition(".")
    if parent in sys.modules and not hasattr(sys.modules[parent], child):
        setattr(sys.modules[parent], child, module)


def _name_packed_formats() -> None:
    """Let NumPy know packed formats by name and print that name, as it does with the vendor's own dtypes.

    ``np.zeros(…, dtype=nl.float8_e4m3fn_x4)`` makes one, and the suite tells them apart by ``str(array.dtype)``.
    """
    printed = numpy_dtype.__str__

    def name_of(dtype: np.dtype[Any]) -> str:
        return _packed_name(dtype) or printed(dtype)

    for name in PACKED:
        np.sctypeDict.setdefault(name, DTYPES[name].outside)  # type: ignore[arg-type]
    numpy_dtype.__str__ = name_of


def install() -> None:
    """Make every stand-in importable. What is really there stays."""
    _name_packed_formats()
    formats = {name: dtype.outside for name, dtype in DTYPES.items()}
    _module(
        "neuron_dtypes",
        static_cast=static_cast, sizeinbytes=sizeinbytes, finfo=finfo, is_float_type=is_float_type, **formats,
    )  # fmt: skip
    for parent in ("neuronxcc", "neuronxcc.starfish", "neuronxcc.starfish.support", "neuronxcc.nki"):
        _module(parent, __path__=[])
    _module("neuronxcc.starfish.support.dtype", static_cast=static_cast)
    _module("neuronxcc.nki.typing", mutable_tensor=nki_typing.mutable_tensor, tensor=nki_typing.tensor)
    _module("test.utils.perf_analysis_private", analyze_trace=analyze_trace)
    _module("test.utils.scripts", __path__=[])
    _module("test.utils.scripts.remote_lock_scripts", LockResult=LockResult, LockStatus=LockStatus)
