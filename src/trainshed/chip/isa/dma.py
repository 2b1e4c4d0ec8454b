"""Instructions of the DMA engines: copies, transposes, and sums of several sources."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from trainshed.chip.call import HBM, Array, Call
from trainshed.chip.indirect import check_written, flat_values, put, rows, scalar, unique
from trainshed.chip.record import Instruction
from trainshed.chip.tensor import NkiTensor
from trainshed.chip.words import MemoryRegion, engine, nc_version
from trainshed.chip.words import dge_mode as _dge
from trainshed.chip.words import oob_mode as _oob
from trainshed.numerics.cast import to_float32
from trainshed.numerics.formats import PACKED

dge_mode, oob_mode, _engine = _dge, _oob, engine  # parameters of the same names hide them
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


def _check_modes(call: Call, dge: Any, oob: Any, priority: int | None, asked: engine, indirect: bool) -> None:
    """Rules of descriptor generation, out-of-bounds handling and priorities (``nki.isa.dma_copy``, ``nki-dge``)."""
    if dge not in _dge:
        raise call.fail("dge_mode", "mode", dge, "a member of dge_mode", "dge-mode")
    if oob not in _oob:
        raise call.fail("oob_mode", "mode", oob, "a member of oob_mode", "oob-mode")
    if dge is _dge.hwdge and call.version < nc_version.gen3:
        raise call.fail("dge_mode", "hwdge on", f"NeuronCore-v{int(call.version)}", "NeuronCore-v3 or newer",
                        "generation")  # fmt: skip
    if asked is not _engine.unknown:
        legal = (_engine.sync, _engine.scalar, _engine.gpsimd)
        if asked not in legal:
            raise call.fail("engine", "engine that triggers the DMA", asked.name, "sync, scalar or gpsimd", "engine")
    if priority is not None:
        call.generation(nc_version.gen4)
        call.require(priority in (0, 1, 2, 3), "priority", "priority", priority, "0, 1, 2 or 3", "priority")
    if indirect and dge in (_dge.none, _dge.hwdge):
        raise call.fail("dge_mode", "mode under a vector_offset", dge.name, "swdge or unknown", "dge-mode")


def runs(tensor: NkiTensor) -> tuple[int, int]:
    """Contiguous runs of a view, and the bytes of each: what descriptors a DMA needs at the least."""
    length, expected = 1, 1
    dims = list(zip(tensor.shape, tensor.strides, strict=True))
    first = 1 if tensor.buffer.on_chip else 0
    for size, stride in reversed(dims[first:]):
        if size == 1:
            continue
        if stride != expected:
            break
        length *= size
        expected *= size
    return math.prod(tensor.shape) // length, length * tensor.itemsize


def _traffic(dst: NkiTensor, sources: Sequence[NkiTensor]) -> dict[str, int]:
    """What a DMA moves, in the record's words."""
    count, size = max([runs(dst), *(runs(s) for s in sources)], key=lambda pair: pair[0])
    return {
        "bytes": dst.nbytes,
        "descriptors": count,
        "descriptor_bytes": size,
        "hbm_read": sum(s.nbytes for s in sources if not s.buffer.on_chip),
        "hbm_write": 0 if dst.buffer.on_chip else dst.nbytes,
    }


def _vector(tensor: NkiTensor) -> bool:
    return tensor.indirection is not None and tensor.indirection.kind == "vector"


def _load(call: Call, operand: str, src: NkiTensor, skip: bool) -> tuple[Array | None, Array | None]:
    """A source's values, and which rows are in bounds (None: all); None for values that are skipped whole."""
    if src.indirection is None:
        return call.read(operand, src), None
    if not _vector(src):
        view = scalar(call, operand, src, skip)
        return (None, None) if view is None else (call.read(operand, view), None)
    addresses, good = rows(call, operand, src, skip)
    if good.all():
        check_written(call, operand, src, addresses)
        return flat_values(src)[addresses], None
    values = np.zeros(src.shape, flat_values(src).dtype)
    check_written(call, operand, src, addresses[good])
    values[good] = flat_values(src)[addresses[good]]
    return values, good


def _store(call: Call, operand: str, dst: NkiTensor, values: Array, kept: Array | None, skip: bool) -> None:
    """Write to a destination, only the rows of the source that were in bounds."""
    if dst.indirection is not None and not _vector(dst):
        view = scalar(call, operand, dst, skip)
        if view is None:
            return
        dst = view
    if not _vector(dst):
        if kept is None:
            call.write(operand, dst, values)
        elif kept.any():
            per_row = dst.size // len(kept)
            shaped = dst if dst.shape[0] == len(kept) else None
            if shaped is None:
                raise call.fail(operand, "rows under a source with skipped rows", dst.shape[0], str(len(kept)), "shape")
            for row in np.flatnonzero(kept):
                part = dst[int(row) : int(row) + 1]
                call.write(operand, part, values.reshape(len(kept), per_row)[row].reshape(part.shape))
        return
    addresses, good = rows(call, operand, dst, skip)
    if kept is not None:
        good = good & kept
    data = call.cast(dst, values).reshape(dst.shape)
    chosen = addresses[good]
    unique(call, operand, chosen)
    put(call, dst, chosen, data[good])


def dma_copy(
    dst: NkiTensor, src: NkiTensor, priority: int | None = None, oob_mode: oob_mode = _oob.error,
    dge_mode: dge_mode = _dge.unknown, engine: engine = _engine.unknown, name: str | None = None,
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
    _check_modes(call, dge_mode, oob_mode, priority, engine, _vector(src) or _vector(dst))
    record = call.issue(
        _engine.dma, (src, _index(src), _index(dst)), (dst,),
        attributes={"dge_mode": dge_mode.name, "queue": engine.name, "priority": priority},
        **_traffic(dst, (src,)),
    )  # fmt: skip
    if call.values:
        skip = oob_mode is _oob.skip
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
    dge_mode: dge_mode = _dge.unknown, oob_mode: oob_mode = _oob.error, name: str | None = None,
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
    call.require(dst.dtype.itemsize == src.dtype.itemsize, "dst", "dtype", dst.dtype, f"{src.dtype}, as src", "dtype")
    wanted = tuple(src.shape[axis] for axis in order)
    if dst.size != src.size or tuple(n for n in dst.shape if n != 1) != tuple(n for n in wanted if n != 1):
        raise call.fail("dst", "shape", dst.shape, str(wanted), "shape")
    indirect = _vector(src)
    _check_transpose(call, src, dge_mode, indirect)
    _check_modes(call, dge_mode, oob_mode, priority, _engine.unknown, indirect and dge_mode is not _dge.none)
    record = call.issue(
        _engine.dma, (src, _index(src)), (dst,),
        attributes={"dge_mode": dge_mode.name, "priority": priority, "transpose": order}, **_traffic(dst, (src,)),
    )  # fmt: skip
    if call.values:
        values, kept = _load(call, "src", src, oob_mode is _oob.skip)
        if values is not None:
            moved = values.transpose(order)
            if kept is not None:  # columns of skipped rows stay as they are
                moved = np.where(kept, moved, call.read("dst", dst).reshape(moved.shape))
            call.write("dst", dst, moved)
    return record


def _check_transpose(call: Call, src: NkiTensor, mode: _dge, indirect: bool) -> None:
    """Constraints of direct and indirect DMA transposes (``nki.isa.dma_transpose``)."""
    if indirect:
        call.generation(nc_version.gen3)
        call.require(mode in (_dge.unknown, _dge.swdge), "dge_mode", "mode", mode.name, "unknown or swdge", "dge-mode")
        call.require(src.itemsize == 2, "src", "dtype under a vector_offset", src.dtype, "2 bytes", "dtype")
        call.require(src.shape[-1] <= 128, "src", "last dimension", src.shape[-1], "at most 128", "shape")
        call.require(src.shape[0] % 16 == 0, "src", "rows", src.shape[0], "a multiple of 16", "shape")
    elif mode is _dge.hwdge:
        call.require(src.itemsize == 2, "src", "dtype under hwdge", src.dtype, "2 bytes", "dtype")
        call.require(src.shape[-1] <= 128, "src", "last dimension under hwdge", src.shape[-1], "at most 128", "shape")


def dma_compute(
    dst: NkiTensor, srcs: Sequence[NkiTensor], reduce_op: Any, scales: Sequence[float] | None = None,
    unique_indices: bool = True, oob_mode: oob_mode = _oob.error, name: str | None = None,
) -> Instruction:  # fmt: skip
    """``dst`` is the sum of up to 16 sources, in float32 inside the DMA engines.

    With ``vector_offset`` on ``dst`` and its own source it adds rows in place (scatter), with it on a source it adds
    gathered rows. Source: ``nki.isa.dma_compute``.
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
    factors = [1.0] * len(srcs) if scales is None else [float(scale) for scale in scales]
    call.require(len(factors) == len(srcs), "scales", "scales", len(factors), str(len(srcs)), "scales")
    indirect = _vector(dst) or any(_vector(item) for item in srcs)
    if indirect:
        call.require(len(srcs) == 2, "srcs", "sources of a gather or scatter", len(srcs), "2", "sources")
        call.require(bool(unique_indices), "unique_indices", "unique_indices", False, "True", "duplicate-index")
    record = call.issue(
        _engine.dma, (*srcs, *(_index(item) for item in srcs), _index(dst)), (dst,),
        attributes={"dge_mode": "swdge" if indirect else "none", "sources": len(srcs)}, **_traffic(dst, srcs),
    )  # fmt: skip
    if call.values:
        _sum(call, dst, srcs, factors, oob_mode is _oob.skip)
    return record


def _sum(call: Call, dst: NkiTensor, srcs: Sequence[NkiTensor], factors: Sequence[float], skip: bool) -> None:
    total: Array | None = None
    kept: Array | None = None
    for i, (item, factor) in enumerate(zip(srcs, factors, strict=True)):
        values, good = _load(call, f"srcs[{i}]", item, skip)
        if values is None:
            return
        if good is not None:
            kept = good if kept is None else kept & good
        term = to_float32(values, item.dtype).reshape(dst.shape)
        term = term if factor == 1.0 else term * np.float32(factor)
        total = term if total is None else total + term
    assert total is not None
    _store(call, "dst", dst, total, kept, skip)
