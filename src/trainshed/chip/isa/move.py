"""Fill and copy tiles on chip: ``memset``, ``tensor_copy``, ``tensor_copy_predicated``, ``nc_stream_shuffle``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from trainshed.chip.call import ON_CHIP, Call
from trainshed.chip.numbers import wholes
from trainshed.chip.operands import (
    direct,
    in_psum,
    indirection,
    one_in_sbuf,
    tiles,
    word32,
    write_where,
)
from trainshed.chip.record import Instruction
from trainshed.chip.tensor import NkiTensor
from trainshed.chip.words import MemoryRegion, engine, nc_version
from trainshed.numerics.formats import PACKED

_engine = engine  # the parameter of the same name hides it


def memset(dst: NkiTensor, value: Any, engine: engine = _engine.unknown, name: str | None = None) -> Instruction:
    """Fill ``dst`` (SBUF or PSUM) with a constant. Packed formats take 0 only.

    Source: ``nki.isa.memset``. VectorE, or GpSimdE, which has no way to PSUM.
    """
    call = Call("memset", name)
    call.tile("dst", dst, ON_CHIP)
    allowed = (_engine.vector, _engine.gpsimd) if dst.buffer is MemoryRegion.sbuf else (_engine.vector,)
    on = call.on_engine(engine, allowed)
    try:
        float(value)
    except (TypeError, ValueError):
        raise call.fail("value", "value", value, "a number", "value") from None
    call.require(dst.dtype not in PACKED or value == 0, "value", f"value for {dst.dtype}", value, "0", "packed-memset")
    if dst.dtype.storage.kind in "iu":
        least, most = np.iinfo(dst.dtype.storage).min, np.iinfo(dst.dtype.storage).max
        call.require(least <= value <= most, "value", f"value for {dst.dtype}", value, f"{least} to {most}", "value")
    record = call.issue(on, (), (dst,), elements=dst.free_size)
    if call.values:
        call.write("dst", dst, np.full(dst.shape, value, dst.dtype.storage))
    return record


def tensor_copy(
    dst: NkiTensor, src: NkiTensor, engine: engine = _engine.unknown, name: str | None = None, dtype: Any = None
) -> Instruction:
    """Copy ``src`` to ``dst``, as many partitions and elements in each, whatever the free shapes.

    The same dtype is copied bit by bit, others pass through float32; ScalarE (from NeuronCore-v3 on) takes
    everything through float32, 32-bit integers too. GpSimdE has no way to PSUM. ``dtype``, which NKI 0.2 had, has
    no effect: ``dst`` has one.
    Source: ``nki.isa.tensor_copy``; the note on ``nl.copy`` in the release notes of 0.3.
    """
    call = Call("tensor_copy", name)
    tiles(call, src=src, dst=dst)
    call.same_elements("dst", dst, src)
    allowed = [_engine.vector]
    if call.version >= nc_version.gen3:
        allowed.append(_engine.scalar)
    if not in_psum(dst, src):
        allowed.append(_engine.gpsimd)
    on = call.on_engine(engine, tuple(allowed))
    indirection(call, on, (_engine.vector, _engine.scalar), dst, "src", src)
    packed = src.dtype in PACKED or dst.dtype in PACKED
    call.require(not packed or src.dtype == dst.dtype, "dst", "dtype", dst.dtype, f"{src.dtype}, packed", "dtype")
    record = call.issue(on, (src,), (dst,), elements=dst.free_size)
    if call.values:
        exact = src.dtype == dst.dtype and (on is not _engine.scalar or not word32(src))
        call.write("dst", dst, call.read("src", src) if exact else call.read_float("src", src))
    return record


def tensor_copy_predicated(
    dst: NkiTensor, src: float | NkiTensor, predicate: NkiTensor, reverse_pred: bool = False, name: str | None = None
) -> Instruction:
    """Copy ``src``, a tensor or a scalar, to ``dst`` where ``predicate`` is not zero (is zero: ``reverse_pred``).

    VectorE. ``src`` and ``predicate`` not both in PSUM. Source: ``nki.isa.tensor_copy_predicated``; a bool
    predicate, as Beta 1's example has it, is a uint8.
    """
    call = Call("tensor_copy_predicated", name)
    tiles(call, dst=dst, predicate=predicate)
    call.same_elements("predicate", predicate, dst)
    kinds = ("uint8", "uint16", "uint32", "bool_")
    call.require(str(predicate.dtype) in kinds, "predicate", "dtype", predicate.dtype, ", ".join(kinds[:3]), "dtype")
    if isinstance(src, NkiTensor):
        tiles(call, src=src)
        direct(call, src=src)
        call.same_elements("src", src, dst)
        call.require(src.dtype == dst.dtype, "src", "dtype", src.dtype, f"{dst.dtype}, that of dst", "dtype")
        one_in_sbuf(call, src=src, predicate=predicate)
    indirection(call, _engine.vector, (_engine.vector,), dst, "predicate", predicate)
    record = call.issue(_engine.vector, (src, predicate), (dst,), elements=dst.free_size)
    if call.values:
        mask = call.read("predicate", predicate) != 0
        mask = (~mask if reverse_pred else mask).reshape(dst.shape)
        values = call.read("src", src) if isinstance(src, NkiTensor) else np.full(1, src, np.float32)
        write_where(call, "dst", dst, values.reshape(dst.shape) if isinstance(src, NkiTensor) else values, mask)
    return record


def nc_stream_shuffle(
    dst: NkiTensor, src: NkiTensor, shuffle_mask: Sequence[int], name: str | None = None
) -> Instruction:
    """Within each quadrant of 32 partitions, partition ``i`` of ``dst`` takes partition ``shuffle_mask[i]`` of ``src``.

    255 leaves the partition as it is. In place is fine. VectorE. Source: ``nki.isa.nc_stream_shuffle``.
    """
    call = Call("nc_stream_shuffle", name)
    tiles(call, src=src, dst=dst)
    direct(call, src=src, dst=dst)
    call.require(src.dtype == dst.dtype, "dst", "dtype", dst.dtype, f"{src.dtype}, that of src", "dtype")
    if src.free_size != dst.free_size:
        raise call.fail("dst", "elements per partition", dst.free_size, str(src.free_size), "shape")
    mask = wholes(call.opcode, "shuffle_mask", shuffle_mask)
    call.require(len(mask) == 32, "shuffle_mask", "length", len(mask), "32", "shuffle-mask")
    wrong = [item for item in mask if not (0 <= item < 32 or item == 255)]
    call.require(not wrong, "shuffle_mask", "elements", wrong, "0 to 31, or 255", "shuffle-mask")
    active = -(-max(src.shape[0], dst.shape[0]) // 32) * 32
    for operand, tensor in (("src", src), ("dst", dst)):
        start = tensor.start_partition
        good = start == 0 or (active == 64 and start == 64) or (active == 32 and start % 32 == 0)
        legal = "0" if active > 64 else "0 or 64" if active == 64 else "0, 32, 64 or 96"
        call.require(good, operand, f"start partition of {active} active partitions", start, legal, "start-partition")
    rows = np.arange(dst.shape[0])
    picked = np.asarray(mask)[rows % 32]
    kept = picked == 255
    picked = np.where(kept, 0, picked + rows // 32 * 32)
    beyond = picked[~kept & (picked >= src.shape[0])]
    if beyond.size:
        raise call.fail("src", "partition the mask names", int(beyond[0]), f"below {src.shape[0]}", "shuffle-mask")
    record = call.issue(_engine.vector, (src,), (dst,), attributes={"mask": mask}, elements=dst.free_size)
    if call.values:
        values = call.read("src", src)[picked].reshape(dst.shape)
        if kept.any():
            write_where(call, "dst", dst, values, ~kept.reshape(-1, *(1,) * (dst.ndim - 1)))
        else:
            call.write("dst", dst, values)
    return record
