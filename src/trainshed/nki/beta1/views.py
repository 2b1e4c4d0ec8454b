"""Moves and views of the chip's tensors for Beta 1: copies between any two memories, boxes, repeats."""

from __future__ import annotations

import math

import numpy as np

from trainshed.chip.call import array
from trainshed.chip.core import active
from trainshed.chip.memory import covers, mark, missing, window
from trainshed.chip.tensor import NkiTensor
from trainshed.chip.words import MemoryRegion
from trainshed.nki.beta1.index import Box
from trainshed.nki.beta1.today import nisa

SBUF, PSUM = MemoryRegion.sbuf, MemoryRegion.psum


def undefined(tensor: NkiTensor) -> None:
    """What a mask leaves out is undefined, not an error to read: NaN, or 0 in integers, where nothing was written."""
    storage = tensor.storage
    if missing(storage.written, tensor.itemsize, tensor.shape, tensor.strides, tensor.offset):
        data = array(tensor)
        if storage.written is False:
            holes = np.ones(tensor.shape, bool)
        else:
            seen = window(storage.written, tensor.itemsize, tensor.shape, tensor.strides, tensor.offset)  # type: ignore[arg-type]
            holes = seen == 0
        data[holes] = np.nan if tensor.dtype.is_float else 0
        full = covers(storage.nbytes // tensor.itemsize, tensor.shape, tensor.strides, tensor.offset)
        storage.written = full or mark(
            storage.written, storage.nbytes, tensor.itemsize, tensor.shape, tensor.strides, tensor.offset
        )


def copy(dst: NkiTensor, src: NkiTensor) -> None:
    """Move values between any two places, shapes differing by sizes of 1 only."""
    if src.shape != dst.shape and not src.is_indirect():
        src = _like(src, dst.shape)
    if dst.buffer.on_chip and src.buffer.on_chip:
        nisa.tensor_copy(dst, src)
        return
    if PSUM in (src.buffer, dst.buffer):  # DMA does not reach PSUM
        kept = active().allocate(two(src.shape), src.dtype, SBUF)
        if src.buffer is PSUM:
            nisa.tensor_copy(kept, src)
            nisa.dma_copy(dst, kept)
        else:
            nisa.dma_copy(kept, src)
            nisa.tensor_copy(dst, kept)
        return
    nisa.dma_copy(dst, src)


def narrow(tensor: NkiTensor, box: Box | None) -> NkiTensor:
    """The part of a tensor in a box; axes of size 1 stand for all of theirs."""
    if box is None:
        return tensor
    keys = [
        slice(0, size) if size == 1 or (part.start == 0 and part.stop >= size) else part
        for size, part in zip(tensor.shape, box, strict=False)
    ]
    return tensor[tuple(keys)] if keys else tensor


def spread(tensor: NkiTensor, shape: tuple[int, ...]) -> NkiTensor:
    """A view repeated along its axes of size 1, the partitions by a copy."""
    while tensor.ndim < len(shape):
        tensor = tensor.expand_dim(1)
    for dim in range(1, len(shape)):
        if tensor.shape[dim] == 1 and shape[dim] != 1:
            tensor = tensor.broadcast(dim, shape[dim])
    if tensor.shape[0] == 1 and shape[0] != 1:
        kept = active().allocate(shape, tensor.dtype, SBUF)
        repeated = tensor.ap([[0, shape[0]], *tensor.get_pattern()[1:]])
        nisa.dma_copy(kept, repeated)
        return kept
    return tensor


def to_sbuf(view: NkiTensor) -> NkiTensor:
    kept = active().allocate(two(view.shape), view.dtype, SBUF)
    nisa.tensor_copy(kept, view)
    return kept


def same(one: NkiTensor, other: NkiTensor) -> bool:
    return (
        one.storage is other.storage and one.offset == other.offset
        and one.shape == other.shape and one.strides == other.strides
    )  # fmt: skip


def _like(tensor: NkiTensor, shape: tuple[int, ...]) -> NkiTensor:
    """Axes of size 1 added or left out, or one value repeated, so that a source has its destination's shape."""
    if tuple(s for s in tensor.shape if s != 1) == tuple(s for s in shape if s != 1):
        if tensor.buffer.on_chip and tensor.shape[0] != shape[0]:
            return tensor
        return tensor.reshape(shape)
    if math.prod(tensor.shape) == math.prod(shape) and (not tensor.buffer.on_chip or tensor.shape[0] == shape[0]):
        return tensor.reshape(shape)
    return spread(tensor, shape) if tensor.buffer.on_chip else tensor


def two(shape: tuple[int, ...]) -> tuple[int, ...]:
    return shape if len(shape) > 1 else (*shape, 1)
