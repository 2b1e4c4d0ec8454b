"""What the instructions of the compute engines ask of their operands, and operands made to fit each other."""

from __future__ import annotations

from typing import Any

import numpy as np

from trainshed.chip.call import Call, array
from trainshed.chip.memory import mark, window
from trainshed.chip.tensor import NkiTensor
from trainshed.chip.words import MemoryRegion, engine, nc_version
from trainshed.numerics.cast import from_float32

Array = np.ndarray[Any, Any]
_WORDS = frozenset(["int32", "uint32"])


def tiles(call: Call, **operands: Any) -> None:
    """Operands that must be tensors in SBUF or PSUM."""
    for name, item in operands.items():
        call.tile(name, item)


def direct(call: Call, **operands: Any) -> None:
    """Operands that may not be ``.indirect()`` views."""
    for name, item in operands.items():
        if isinstance(item, NkiTensor) and item.indirection is not None and item.indirection.kind == "free":
            raise call.fail(name, "view", "indirect", "one that is not indirect", "indirection")


def indirection(
    call: Call, on: engine, engines: tuple[engine, ...], dst: NkiTensor, operand: str, data: NkiTensor
) -> None:
    """Where ``dst`` or ``data`` (called ``operand``) is an ``.indirect()`` view: generation, engine, partitions.

    Data start where their index does, and what is scattered where the index of ``dst`` does; that counts where
    both are allocated by the kernel. Source: "Tensor indirection" on the pages of the instructions.
    """
    if dst.indirection is None and data.indirection is None:
        return
    from_index, to_index = _index(data), _index(dst)
    if from_index is None and to_index is None:
        return
    call.generation(nc_version.gen4)
    if on not in engines:
        raise call.fail("engine", "engine of indirect views", on.name, " or ".join(e.name for e in engines), "engine")
    if from_index is not None:
        _together(call, operand, data, f"index of {operand}", from_index)
    if to_index is None:
        return
    if on is engine.scalar and in_psum(dst):
        raise call.fail("dst", "memory of what ScalarE scatters to", "psum", "sbuf", "memory")
    if not in_psum(data):
        _together(call, "index of dst", to_index, operand, data)
    elif from_index is not None:
        _together(call, "index of dst", to_index, f"index of {operand}", from_index)


def _index(tensor: NkiTensor) -> NkiTensor | None:
    """The index of an ``.indirect()`` view."""
    found = tensor.indirection
    if found is None or found.kind != "free" or not isinstance(found.index, NkiTensor):
        return None
    return found.index


def _together(call: Call, operand: str, tensor: NkiTensor, other: str, like: NkiTensor) -> None:
    """Two operands with addresses of their own start on the same partition."""
    if tensor.storage.address is None or like.storage.address is None:
        return
    if tensor.start_partition != like.start_partition:
        expected = f"{like.start_partition}, that of the {other}"
        raise call.fail(operand, "start partition", tensor.start_partition, expected, "indirection")


def in_psum(*tensors: Any) -> bool:
    """Whether one of the operands is in PSUM, where GpSimdE cannot reach."""
    for item in tensors:  # noqa: SIM110 - half the time of any()
        if isinstance(item, NkiTensor) and item.storage.buffer is MemoryRegion.psum:
            return True
    return False


def one_in_sbuf(call: Call, **operands: Any) -> None:
    """VectorE reads at most one of two streams from PSUM."""
    for item in operands.values():
        if not in_psum(item):
            return
    raise call.fail(" and ".join(operands), "memory", "both psum", "at most one of them in psum", "both-psum")


def on_chip_reach(call: Call, on: engine, psum: bool) -> None:
    """GpSimdE has no way to PSUM. Source: the NeuronCore architecture guide, "NeuronCore engines"."""
    if psum and on is engine.gpsimd:
        raise call.fail("engine", "gpsimd with operands in", "psum", "sbuf", "gpsimd-psum")


def per_partition(call: Call, operand: str, tensor: NkiTensor, like: NkiTensor, count: int = 1) -> None:
    """An operand of ``count`` elements in each partition of another operand."""
    if tensor.shape[0] != like.shape[0] or tensor.free_size != count:
        raise call.fail(operand, "shape", tensor.shape, f"({like.shape[0]}, {count})", "shape")


def word32(*tensors: Any) -> bool:
    """Whether all tensors are int32 or uint32."""
    for item in tensors:  # noqa: SIM110 - half the time of all()
        if item.dtype not in _WORDS:
            return False
    return True


def shaped(values: Array, like: Array) -> Array:
    """The same elements in another operand's shape."""
    return values if values.shape == like.shape else values.reshape(like.shape)


def column(values: Array, ndim: int) -> Array:
    """A scalar or ``[P, 1]`` to broadcast over ``ndim`` dimensions."""
    return values if values.ndim == 0 or ndim == 2 else values.reshape(-1, *(1,) * (ndim - 1))


def flat(values: Array) -> Array:
    """As ``[P, N]``."""
    return values if values.ndim == 2 else values.reshape(values.shape[0], -1)


def destination(tensor: NkiTensor, shape: tuple[int, ...]) -> Array | None:
    """The storage of a float32 tensor to compute into, if it has the shape of the values; call :func:`done` then."""
    if tensor.indirection is not None or tensor.shape != shape or str.__ne__(tensor.dtype, "float32"):
        return None
    return array(tensor)


def done(call: Call, operand: str, tensor: NkiTensor, values: Array, out: Array | None) -> None:
    """What was computed is in ``out``, its destination, already, or is stored now."""
    if out is None or values is not out:
        call.write(operand, tensor, values)
    elif tensor.storage.written is not True:
        storage = tensor.storage
        storage.written = mark(
            storage.written, storage.nbytes, tensor.itemsize, tensor.shape, tensor.strides, tensor.offset
        )


def write_where(call: Call, operand: str, tensor: NkiTensor, values: Array, mask: Array) -> None:
    """Store ``values`` where ``mask`` is true; what is not written stays as it is, initialised or not.

    Both have the tensor's shape, or broadcast to it; ``values`` are float32 or of the tensor's dtype.
    """
    if tensor.indirection is not None:
        call.write(operand, tensor, np.where(mask, values, call.read(operand, tensor)))
        return
    storage = tensor.storage
    wide = storage.scale != 1
    data = values if wide else from_float32(values, tensor.dtype, stochastic=call._rounding(call.core.options))
    np.copyto(array(tensor), data, where=mask)
    if storage.written is True:
        return
    if np.all(mask):
        storage.written = mark(
            storage.written, storage.nbytes, tensor.itemsize, tensor.shape, tensor.strides, tensor.offset
        )
        return
    if storage.written is False:
        storage.written = np.zeros(storage.nbytes, np.uint8)
    words = window(storage.written, tensor.itemsize, tensor.shape, tensor.strides, tensor.offset)
    words[np.broadcast_to(mask, tensor.shape)] = {1: 0x01, 2: 0x0101, 4: 0x01010101}[tensor.itemsize]
