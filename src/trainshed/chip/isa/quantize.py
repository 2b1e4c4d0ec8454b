"""``quantize_mx``: VectorE makes MX data and scales (NeuronCore-v4)."""

from __future__ import annotations

import numpy as np

from trainshed.chip.call import SBUF, Array, Call, array
from trainshed.chip.memory import mark
from trainshed.chip.operands import flat
from trainshed.chip.record import Instruction
from trainshed.chip.tensor import NkiTensor
from trainshed.chip.undefined import elements
from trainshed.chip.words import engine, nc_version
from trainshed.numerics.mx import quantise, scale_rows

#: Containers quantize_mx can make, and dtypes scales may have.
CONTAINERS = ("float8_e4m3fn_x4", "float8_e5m2_x4")
SCALES = ("float8_e8m0fnu", "uint8")


def scale_view(call: Call, operand: str, scale: NkiTensor, partitions: int, free: int) -> list[NkiTensor]:
    """The rows of a scale tile that belong to data of ``partitions`` partitions, one view per quadrant.

    A scale tile may start at rows 0, 4, 8 or 12 of a quadrant, so that four of them share it.
    Source: ``nki.isa.quantize_mx``, "Layout".
    """
    if not isinstance(scale, NkiTensor) or scale.buffer.value != "sbuf":
        raise call.fail(operand, "operand", scale, "a tile in sbuf", "memory")
    call.require(str(scale.dtype) in SCALES, operand, "dtype", scale.dtype, " or ".join(SCALES), "dtype")
    needed = int(scale_rows(partitions)[-1]) + 1
    if scale.shape[0] < needed or scale.free_size != free:
        raise call.fail(operand, "shape", scale.shape, f"at least {needed} partitions of {free} elements", "mx-scale")
    if scale.start_partition % 4:
        raise call.fail(operand, "start partition", scale.start_partition, "a multiple of 4", "start-partition")
    rows = [scale[start : start + min(4, partitions // 8)] for start in range(0, needed, 32)]
    return rows


def quantize_mx(dst: NkiTensor, src: NkiTensor, dst_scale: NkiTensor, name: str | None = None) -> Instruction:
    """MXFP8 data and scales of ``src`` (SBUF, float16 or bfloat16, ``[P, F]``).

    ``dst`` is ``[P, F / 4]`` of packed containers, ``dst_scale`` holds one byte per 8 partitions and container, four
    rows to each quadrant. P is a multiple of 32, F of 4. Which release's scale rule holds is the run's option
    ``quantize_rule``. Source: ``nki.isa.quantize_mx``.
    """
    call = Call("quantize_mx", name)
    call.generation(nc_version.gen4)
    call.tile("src", src, SBUF)
    call.tile("dst", dst, SBUF)
    call.require(str(src.dtype) in ("float16", "bfloat16"), "src", "dtype", src.dtype, "float16 or bfloat16", "dtype")
    call.require(str(dst.dtype) in CONTAINERS, "dst", "dtype", dst.dtype, " or ".join(CONTAINERS), "dtype")
    partitions, free = src.shape[0], src.free_size
    call.require(partitions % 32 == 0, "src", "partitions", partitions, "a multiple of 32", "mx-layout")
    call.require(free % 4 == 0, "src", "elements per partition", free, "a multiple of 4", "mx-layout")
    if dst.shape[0] != partitions or dst.free_size != free // 4:
        raise call.fail("dst", "shape", dst.shape, f"({partitions}, {free // 4})", "shape")
    views = scale_view(call, "dst_scale", dst_scale, partitions, free // 4)
    record = call.issue(engine.vector, (src,), (dst, *views), elements=free)
    if call.values:
        rule = call.core.options.quantize_rule
        values = flat(call.read_float("src", src))
        undefined = (call.undefined or {}).get("src")
        if undefined is not None:  # whatever lies there, what the engine makes of it is finite
            values = np.where(flat(undefined), np.float32(0), values)
        data, scales = quantise(values, str(dst.dtype), rule)
        call.write("dst", dst, data.reshape(dst.shape))
        for i, view in enumerate(views):
            _store(view, scales[4 * i : 4 * i + view.shape[0]])
        _pad(dst_scale)
    return record


def _pad(scale: NkiTensor) -> None:
    """Rows of the scale tile between the scales read as 0 where nothing is written there.

    Source: AWS's kernel library 2.29, its test of ``quantize_mx`` ("remaining 28 rows are zero padding").
    """
    storage = scale.storage
    if storage.written is True:
        return
    array(scale).view(np.uint8)[elements(scale)] = 0
    storage.written = mark(storage.written, storage.nbytes, 1, scale.shape, scale.strides, scale.offset)


def _store(view: NkiTensor, scales: Array) -> None:
    """Scale bytes as they are, whatever dtype names them."""
    array(view)[...] = scales.view(view.dtype.storage).reshape(view.shape)
    storage = view.storage
    storage.written = mark(storage.written, storage.nbytes, 1, view.shape, view.strides, view.offset)
