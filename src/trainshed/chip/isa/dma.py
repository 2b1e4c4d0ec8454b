"""Instructions of the DMA engines: copies, transposes, and sums of several sources."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, TypeVar

import numpy as np

from trainshed.chip.call import HBM, Array, Call
from trainshed.chip.indirect import located, note_repeated, put_rows, rows_repeat, scalar, take_rows, unique
from trainshed.chip.operands import write_where
from trainshed.chip.record import Instruction
from trainshed.chip.tensor import NkiTensor
from trainshed.chip.undefined import left_alone
from trainshed.chip.words import MemoryRegion, engine, nc_version
from trainshed.chip.words import dge_mode as _dge
from trainshed.chip.words import oob_mode as _oob
from trainshed.numerics.cast import to_float32
from trainshed.numerics.formats import PACKED

_engine = engine  # a parameter of the same name hides it
_Mode = TypeVar("_Mode", _dge, _oob)
_PLACES = (MemoryRegion.sbuf, *HBM)


def _place(call: Call, operand: str, tensor: Any) -> NkiTensor:
    """DMA reaches SBUF and HBM, at any partition. Source: ``nki.isa.dma_copy``, "Memory types"."""
    if not isinstance(tensor, NkiTensor):
        raise call.fail(operand, "operand", type(tensor).__name__, "a tensor", "operand")
    if tensor.buffer not in _PLACES:
        raise call.fail(operand, "memory", tensor.buffer.value, "sbuf or hbm (PSUM: tensor_copy first)", "memory")
    if tensor.indirection is not None and tensor.indirection.kind == "free":
        raise call.fail(operand, "view", "indirect", "one with scalar_offset or vector_offset", "indirection")
    return tensor


def _mode(call: Call, operand: str, value: Any, kind: type[_Mode]) -> _Mode:
    """A member of ``dge_mode`` or ``oob_mode``; AWS's library also writes their numbers."""
    if isinstance(value, kind):
        return value
    for member in kind:
        if type(value) is int and value == member.value:
            return member
    raise call.fail(operand, "mode", value, f"a member of {kind.__name__}", operand.replace("_", "-"))


def _check_modes(call: Call, dge: _dge, priority: int | None, asked: engine, indirect: bool) -> None:
    """Rules of descriptor generation and priorities (``nki.isa.dma_copy``, ``nki-dge``)."""
    if dge is _dge.hwdge and call.version < nc_version.gen3:
        raise call.fail("dge_mode", "hwdge on", f"NeuronCore-v{int(call.version)}", "NeuronCore-v3 or newer",
                        "generation")  # fmt: skip
    if asked is not _engine.unknown:
        if asked not in (_engine.sync, _engine.scalar):
            raise call.fail("engine", "engine that generates descriptors", asked.name, "sync or scalar", "engine")
        call.require(dge is _dge.hwdge, "engine", "engine under dge_mode", dge.name, "hwdge", "dge-mode")
    if priority is not None:
        call.generation(nc_version.gen4)
        call.require(priority in (0, 1, 2, 3), "priority", "priority", priority, "0, 1, 2 or 3", "priority")
    if indirect and dge in (_dge.none, _dge.hwdge):
        raise call.fail("dge_mode", "mode under a vector_offset", dge.name, "swdge or unknown", "dge-mode")


def runs(tensor: NkiTensor) -> tuple[int, int]:
    """Contiguous runs of a view, and the bytes of each: what descriptors a DMA needs at the least."""
    shape, strides = tensor.shape, tensor.strides
    length = 1
    first = 1 if tensor.storage.buffer.on_chip or _vector(tensor) else 0  # rows lie apart
    for dim in range(len(shape) - 1, first - 1, -1):
        size = shape[dim]
        if size != 1:
            if strides[dim] != length:
                break
            length *= size
    return math.prod(shape) // length, length * tensor.itemsize


def _traffic(dst: NkiTensor, sources: Sequence[NkiTensor]) -> dict[str, int]:
    """What a DMA moves, in the record's words."""
    count, size = runs(dst)
    read, moved = 0, dst.nbytes
    for source in sources:
        more, each = runs(source)
        if more > count:
            count, size = more, each
        if not source.storage.buffer.on_chip:
            read += source.nbytes
    return {
        "bytes": moved, "descriptors": count, "descriptor_bytes": size, "hbm_read": read,
        "hbm_write": 0 if dst.storage.buffer.on_chip else moved,
    }  # fmt: skip


def _vector(tensor: NkiTensor) -> bool:
    return tensor.indirection is not None and tensor.indirection.kind == "vector"


def _load(call: Call, operand: str, src: NkiTensor, skip: bool) -> tuple[Array | None, Array | None]:
    """A source's values, and which rows are in bounds (None: all); None for values that are skipped whole."""
    if src.indirection is None:
        return call.read(operand, src), None
    if not _vector(src):
        view = scalar(call, operand, src, skip)
        return (None, None) if view is None else (call.read(operand, view), None)
    return take_rows(call, operand, src, skip)


def _store(
    call: Call, operand: str, dst: NkiTensor, values: Array, kept: Array | None, skip: bool,
    rule: str | None = None,
) -> None:  # fmt: skip
    """Write to a destination, only the rows whose source was in bounds. ``rule`` makes a repeated row an error."""
    if dst.indirection is not None and not _vector(dst):
        view = scalar(call, operand, dst, skip)
        if view is None:
            return
        dst = view
    if not _vector(dst):
        if kept is None:
            call.write(operand, dst, values)
            return
        if dst.shape[0] != len(kept):
            raise call.fail(operand, "rows under a source with skipped rows", dst.shape[0], str(len(kept)), "shape")
        mask = np.broadcast_to(kept.reshape(-1, *(1,) * (dst.ndim - 1)), dst.shape)
        write_where(call, operand, dst, values.reshape(dst.shape), mask)
        if dst.buffer.on_chip:
            left_alone(call, operand, dst, ~mask)
        return
    indices, good = located(call, operand, dst, skip)
    if kept is not None:
        good = good & kept
    data = call.cast(dst, values).reshape(dst.shape)
    if not good.all():
        indices, data = indices[good], data[good]
    twice = rows_repeat(dst, indices)
    if rule is None:
        note_repeated(call, twice)
    else:
        unique(call, operand, twice, rule)
    put_rows(call, dst, indices, data)


def dma_copy(
    dst: NkiTensor, src: NkiTensor, priority: int | None = None, oob_mode: _oob = _oob.error,
    dge_mode: _dge = _dge.unknown, engine: engine = _engine.unknown, name: str | None = None,
) -> Instruction:  # fmt: skip
    """``dst = src`` between SBUF and HBM in any direction, elements in row-major order of each view.

    Different dtypes are converted by way of float32. Views with ``scalar_offset`` or ``vector_offset`` find their
    place at run time; an index out of bounds is an error, or under ``oob_mode.skip`` leaves its rows as they are.
    Source: ``nki.isa.dma_copy``.
    """
    call = Call("dma_copy", name)
    _place(call, "src", src)
    _place(call, "dst", dst)
    if dst.size != src.size:
        raise call.fail("src", "elements", src.size, f"{dst.size}, as many as dst {dst.shape}", "shape")
    same = dst.dtype == src.dtype
    if not same and (dst.dtype in PACKED or src.dtype in PACKED):
        raise call.fail("src", "dtype", src.dtype, f"{dst.dtype}: packed formats are copied bit by bit", "dtype")
    dge, skip = _mode(call, "dge_mode", dge_mode, _dge), _mode(call, "oob_mode", oob_mode, _oob) is _oob.skip
    _check_modes(call, dge, priority, engine, _vector(src) or _vector(dst))
    if not same and dge is _dge.hwdge:
        raise call.fail("src", "dtype under hwdge", src.dtype, f"{dst.dtype}, as dst", "hwdge-dtype")
    record = call.issue(
        _engine.dma, (src, _index(src), _index(dst)), (dst,),
        attributes={"dge_mode": dge.name, "queue": engine.name, "priority": priority},
        **_traffic(dst, (src,)),
    )  # fmt: skip
    if call.values:
        values, kept = _load(call, "src", src, skip)
        if values is not None:
            _store(call, "dst", dst, values if same else to_float32(values, src.dtype), kept, skip)
    return record


def _index(tensor: NkiTensor) -> Any:
    """The index tensor of an indirect view, which the DMA reads too."""
    return tensor.indirection.index if tensor.indirection is not None else None


_AXES = {2: (1, 0), 3: (2, 1, 0), 4: (3, 1, 2, 0)}


def dma_transpose(
    dst: NkiTensor, src: NkiTensor, axes: Sequence[int] | None = None, priority: int | None = None,
    dge_mode: _dge = _dge.unknown, oob_mode: _oob = _oob.error, name: str | None = None,
) -> Instruction:  # fmt: skip
    """``dst`` (SBUF) is ``src`` (HBM or SBUF) with its axes permuted: (1, 0), (2, 1, 0) or (3, 1, 2, 0).

    A source with ``vector_offset`` gathers rows first. Source: ``nki.isa.dma_transpose``.
    """
    call = Call("dma_transpose", name)
    _place(call, "src", src)
    _place(call, "dst", dst)
    order = _AXES.get(src.ndim)
    if order is None:
        raise call.fail("src", "dimensions", src.ndim, "2, 3 or 4", "dimensions")
    if axes is not None and tuple(axes) != order:
        raise call.fail("axes", "permutation", tuple(axes), str(order), "axes")
    call.require(dst.buffer is MemoryRegion.sbuf, "dst", "memory", dst.buffer.value, "sbuf", "memory")
    call.require(dst.dtype == src.dtype, "dst", "dtype", dst.dtype, f"{src.dtype}, as src", "dtype")
    wanted = tuple(src.shape[axis] for axis in order)
    if dst.size != src.size or tuple(n for n in dst.shape if n != 1) != tuple(n for n in wanted if n != 1):
        raise call.fail("dst", "shape", dst.shape, str(wanted), "shape")
    indirect = _vector(src)
    dge, skip = _mode(call, "dge_mode", dge_mode, _dge), _mode(call, "oob_mode", oob_mode, _oob) is _oob.skip
    _check_modes(call, dge, priority, _engine.unknown, indirect)
    if indirect:
        _check_gather(call, src)
    else:
        _check_direct(call, src, dge)
    if skip and src.indirection is None:
        raise call.fail("oob_mode", "skip with a source that is", "not indirect", "an indirect source", "oob-mode")
    record = call.issue(
        _engine.dma, (src, _index(src)), (dst,),
        attributes={"dge_mode": dge.name, "priority": priority, "transpose": order}, **_traffic(dst, (src,)),
    )  # fmt: skip
    if call.values:
        values, kept = _load(call, "src", src, skip)
        if values is not None:
            moved = values.transpose(order)
            if kept is not None:  # columns of skipped rows stay as they are
                moved = np.where(kept, moved, call.read("dst", dst).reshape(moved.shape))
            call.write("dst", dst, moved)
    return record


def _check_gather(call: Call, src: NkiTensor) -> None:
    """Constraints of indirect DMA transposes (``nki.isa.dma_transpose``, "DMA Indirect Transpose Constraints")."""
    call.generation(nc_version.gen3)
    call.require(src.itemsize == 2, "src", "dtype under a vector_offset", src.dtype, "2 bytes", "dtype")
    call.require(src.shape[-1] <= 128, "src", "last dimension", src.shape[-1], "at most 128", "shape")
    call.require(src.shape[0] % 16 == 0, "src", "rows", src.shape[0], "a multiple of 16", "shape")
    if src.ndim == 4 and 1 not in src.shape[1:3]:
        raise call.fail("src", "inner dimensions", src.shape[1:3], "one of them 1", "shape")
    index = src.indirection.index if src.indirection is not None else None
    assert isinstance(index, NkiTensor)
    call.require(index.ndim == 2, "index of src", "dimensions", index.ndim, "2", "dimensions")
    partitions, columns = index.shape
    call.require(partitions % 16 == 0, "index of src", "partitions", partitions, "a multiple of 16", "partitions")
    if columns > 1 and partitions != 128:
        raise call.fail("index of src", "partitions of several columns", partitions, "128", "partitions")


def _check_direct(call: Call, src: NkiTensor, mode: _dge) -> None:
    """Constraints of direct DMA transposes (``nki.isa.dma_transpose``, "DMA Direct Transpose Constraints")."""
    if src.indirection is None and mode is _dge.swdge:
        raise call.fail("dge_mode", "mode of a direct transpose", mode.name, "unknown, hwdge or none", "dge-mode")
    if mode is not _dge.hwdge:
        return
    call.require(src.itemsize == 2, "src", "dtype under hwdge", src.dtype, "2 bytes", "dtype")
    call.require(src.shape[-1] <= 128, "src", "last dimension under hwdge", src.shape[-1], "at most 128", "shape")
    if src.ndim == 2:
        call.require(src.shape[0] == 16, "src", "rows under hwdge", src.shape[0], "16", "shape")
    elif src.shape[0] not in (1, 2, 4, 8, 16) or src.shape[0] * src.shape[-2] % 16:
        raise call.fail("src", "shape under hwdge", src.shape, "1, 2, 4, 8 or 16 first, times the second-last a "
                        "multiple of 16", "shape")  # fmt: skip


def dma_compute(
    dst: NkiTensor, srcs: Sequence[NkiTensor], reduce_op: Any, scales: Sequence[float] | None = None,
    unique_indices: bool = True, oob_mode: _oob = _oob.error, name: str | None = None,
) -> Instruction:  # fmt: skip
    """``dst`` is the sum of up to 16 sources, in float32 inside the DMA engines.

    With ``vector_offset`` on ``dst`` and its own source it adds rows in place (scatter), with it on a source it adds
    gathered rows. Two equal indices of a scatter break the promise of ``unique_indices``: ``duplicate-index``.
    Source: ``nki.isa.dma_compute``.
    """
    call = Call("dma_compute", name)
    _place(call, "dst", dst)
    call.require(1 <= len(srcs) <= 16, "srcs", "sources", len(srcs), "1 to 16", "sources")
    op = reduce_op if isinstance(reduce_op, str) else getattr(reduce_op, "__name__", None)
    call.require(op == "add", "reduce_op", "operator", op, "add", "operator")
    for i, item in enumerate(srcs):
        _place(call, f"srcs[{i}]", item)
        if item.size != dst.size:
            raise call.fail(f"srcs[{i}]", "elements", item.size, f"{dst.size}, as many as dst", "shape")
    if scales is not None:
        good = len(scales) == len(srcs) and all(float(scale) == 1.0 for scale in scales)
        call.require(good, "scales", "scales", tuple(scales), f"{len(srcs)} times 1.0, or None", "scales")
    skip = _mode(call, "oob_mode", oob_mode, _oob) is _oob.skip
    indirect = _vector(dst) or any(_vector(item) for item in srcs)
    if indirect:
        call.require(bool(unique_indices), "unique_indices", "unique_indices", False, "True", "unique-indices")
        _check_update(call, dst, srcs)
    elif skip:
        raise call.fail("oob_mode", "skip without a vector_offset in", "any operand", "an indirect one", "oob-mode")
    record = call.issue(
        _engine.dma, (*srcs, *(_index(item) for item in srcs), _index(dst)), (dst,),
        attributes={"dge_mode": "swdge" if indirect else "none", "sources": len(srcs)}, **_traffic(dst, srcs),
    )  # fmt: skip
    if call.values:
        _sum(call, dst, srcs, skip)
    return record


def _check_update(call: Call, dst: NkiTensor, srcs: Sequence[NkiTensor]) -> None:
    """A read-modify-write adds to ``dst`` itself: rows of HBM that it scatters to, or a tile that gathered rows join.

    Source: ``nki.isa.dma_compute``, "Read-Modify-Write with vector_offset".
    """
    call.require(len(srcs) == 2, "srcs", "sources of a gather or scatter", len(srcs), "2", "sources")
    own = [item for item in srcs if item.storage is dst.storage]
    other = [item for item in srcs if item.storage is not dst.storage]
    if len(own) != 1 or _vector(own[0]) != _vector(dst):
        raise call.fail("srcs", "source that is dst, indirect as dst is", len(own), "exactly one", "read-modify-write")
    if _vector(dst) == _vector(other[0]):
        what = "indirect operands that are not dst"
        raise call.fail("srcs", what, int(_vector(other[0])), str(int(not _vector(dst))), "read-modify-write")
    near = other[0] if _vector(dst) else dst
    call.require(near.buffer.on_chip, "operand that is not indirect", "memory", near.buffer.value, "sbuf", "memory")


def _sum(call: Call, dst: NkiTensor, srcs: Sequence[NkiTensor], skip: bool) -> None:
    """Add the sources in order, in float32; rows whose index is out of bounds stay as they are."""
    total: Array | None = None
    kept: Array | None = None
    for i, item in enumerate(srcs):
        values, good = _load(call, f"srcs[{i}]", item, skip)
        if values is None:
            return
        if good is not None:
            kept = good if kept is None else kept & good
        term = to_float32(values, item.dtype).reshape(dst.shape)
        total = term if total is None else total + term
    assert total is not None
    _store(call, "dst", dst, total, kept, skip, "duplicate-index")
