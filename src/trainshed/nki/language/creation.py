"""Tensors made in a kernel. Source: ``nki.language``, "Creation operations"."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from trainshed.chip.call import Call
from trainshed.chip.core import active
from trainshed.chip.errors import violation
from trainshed.chip.isa.move import memset
from trainshed.chip.numbers import wholes
from trainshed.chip.tensor import NkiTensor, as_dtype
from trainshed.chip.words import MemoryRegion
from trainshed.numerics.formats import DType, lookup, uint8

sbuf, psum = MemoryRegion.sbuf, MemoryRegion.psum
private_hbm, shared_hbm = MemoryRegion.private_hbm, MemoryRegion.shared_hbm
hbm = private_hbm


def as_buffer(value: Any) -> MemoryRegion:
    """The memory a user names: one of the constants."""
    if isinstance(value, MemoryRegion):
        return value
    raise violation(
        "ndarray", "buffer", "memory", value=value, rule="memory",
        expected="nl.sbuf, nl.psum, nl.hbm, nl.private_hbm or nl.shared_hbm",
    )  # fmt: skip


def _place(address: Any) -> tuple[int, int]:
    place = wholes("ndarray", "address", address)
    if len(place) != 2:
        raise violation("ndarray", "address", "address", value=address, rule="address",
                        expected="(first partition, byte in each partition)")  # fmt: skip
    return place[0], place[1]


def ndarray(
    shape: Sequence[int], dtype: Any, buffer: Any = sbuf, name: str | None = "", address: Sequence[int] | None = None
) -> NkiTensor:
    """A new tensor, not initialised. ``address`` is (first partition, byte in each partition) on chip."""
    sizes = wholes("ndarray", "shape", shape if isinstance(shape, tuple | list) else (shape,), "size")
    place = None if address is None else _place(address)
    return active().allocate(sizes, as_dtype(dtype, "ndarray"), as_buffer(buffer), name=name or "", address=place)


def _filled(shape: Sequence[int], value: Any, dtype: Any, buffer: Any, name: str) -> NkiTensor:
    tensor = ndarray(shape, dtype, buffer, name)
    if tensor.buffer.on_chip:
        memset(tensor, value)
    else:
        call = Call("memset_hbm", name or None)
        call.write("dst", tensor, np.full(tensor.shape, value, tensor.dtype.storage))
    return tensor


def zeros(shape: Sequence[int], dtype: Any, buffer: Any = sbuf, name: str = "") -> NkiTensor:
    """A new tensor of zeros."""
    return _filled(shape, 0, dtype, buffer, name)


def ones(shape: Sequence[int], dtype: Any, buffer: Any = sbuf, name: str = "") -> NkiTensor:
    """A new tensor of ones."""
    return _filled(shape, 1, dtype, buffer, name)


def full(shape: Sequence[int], fill_value: Any, dtype: Any, buffer: Any = sbuf, name: str = "") -> NkiTensor:
    """A new tensor of one value."""
    return _filled(shape, fill_value, dtype, buffer, name)


def zeros_like(x: NkiTensor, dtype: Any = None, buffer: Any = None, name: str = "") -> NkiTensor:
    """Zeros in the shape of ``x``, and in its dtype and memory unless given."""
    return zeros(x.shape, dtype or x.dtype, buffer or x.buffer, name)


def empty_like(x: NkiTensor, dtype: Any = None, buffer: Any = None, name: str = "") -> NkiTensor:
    """A new tensor in the shape of ``x``, and in its dtype and memory unless given."""
    return ndarray(x.shape, dtype or x.dtype, buffer or x.buffer, name)


def _read(file: str | os.PathLike[str]) -> np.ndarray[Any, Any]:
    try:
        return np.asarray(np.load(file))
    except (OSError, ValueError) as error:
        raise violation(
            "shared_constant", "constant", "file", value=str(file), expected=f"an .npy file ({error})", rule="file"
        ) from error  # fmt: skip


def shared_constant(constant: Any, dtype: Any = None) -> NkiTensor:
    """A tensor in shared HBM that holds a constant known when the kernel is compiled: an array or an ``.npy`` file."""
    values = _read(constant) if isinstance(constant, str | os.PathLike) else np.asarray(constant)
    kind: DType | None = as_dtype(dtype, "shared_constant") if dtype is not None else lookup(values.dtype)
    if kind is None:
        kind = DType("int32") if values.dtype.kind in "iu" else DType("float32")
    stored = np.array(values.astype(kind.storage), order="C").reshape(values.shape or (1,))
    return active().allocate(stored.shape, kind, shared_hbm, data=stored)


def shared_identity_matrix(n: int, dtype: Any = uint8, dst: NkiTensor | None = None) -> NkiTensor:
    """An identity matrix ``[n, n]`` in SBUF."""
    kind = as_dtype(dtype, "shared_identity_matrix")
    tensor = dst if dst is not None else ndarray((n, n), kind, sbuf)
    call = Call("identity")
    call.write("dst", tensor, np.eye(n, dtype=np.float32).astype(tensor.dtype.storage))
    return tensor
