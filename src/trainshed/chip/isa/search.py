"""Search by eights on VectorE: ``max8``, ``nc_find_index8``, ``nc_match_replace8``."""

from __future__ import annotations

from typing import Any

import numpy as np

from trainshed.chip.call import Call
from trainshed.chip.operands import Array, direct, flat, per_partition, tiles
from trainshed.chip.record import Instruction
from trainshed.chip.tensor import NkiTensor
from trainshed.chip.words import engine
from trainshed.numerics.cast import from_float32


def _searched(call: Call, operand: str, data: NkiTensor) -> None:
    """What is searched has 8 to 16384 elements per partition, in up to 3 dimensions."""
    direct(call, **{operand: data})
    good = 8 <= data.free_size <= 16384
    call.require(good, operand, "elements per partition", data.free_size, "8 to 16384", "search-size")
    call.require(data.ndim <= 3, operand, "dimensions", data.ndim, "at most 3", "search-dimensions")


def max8(dst: NkiTensor, src: NkiTensor, name: str | None = None) -> Instruction:
    """The 8 largest values of each partition, in descending order, as float32. Source: ``nki.isa.max8``."""
    call = Call("max8", name)
    tiles(call, src=src, dst=dst)
    _searched(call, "src", src)
    per_partition(call, "dst", dst, src, 8)
    record = call.issue(engine.vector, (src,), (dst,), elements=src.free_size)
    if call.values:
        values = flat(call.read_float("src", src))
        top = np.partition(values, values.shape[1] - 8, axis=1)[:, -8:]
        call.write("dst", dst, np.sort(top, axis=1)[:, ::-1])
    return record


def _indices(call: Call, operand: str, tensor: NkiTensor, data: NkiTensor) -> None:
    per_partition(call, operand, tensor, data, 8)
    call.require(str(tensor.dtype) in ("uint16", "uint32"), operand, "dtype", tensor.dtype, "uint16 or uint32", "dtype")


def _values(call: Call, vals: NkiTensor, data: NkiTensor) -> None:
    """Eight values for every partition that is searched."""
    direct(call, vals=vals)
    if vals.shape[0] < data.shape[0] or vals.free_size != 8:
        raise call.fail("vals", "shape", vals.shape, f"({data.shape[0]}, 8)", "shape")


def _pair(call: Call, data: NkiTensor, vals: NkiTensor) -> tuple[Array, Array]:
    """Data and values to compare: integers of one dtype as they are, else as float32."""
    if data.dtype == vals.dtype and data.dtype.is_integer:
        first, second = call.read("data", data), call.read("vals", vals)
    else:
        first, second = call.read_float("data", data), call.read_float("vals", vals)
    return flat(first), flat(second)[: data.shape[0]]


def _match(data: Array, vals: Array, order: tuple[int, ...]) -> Array:
    """Where each value occurs, as ``[P, 8]`` int64, -1 for nowhere.

    Each element answers one value at most: of equal values, the first in ``order`` gets the first occurrence, the
    next the next one.
    """
    found = np.full((data.shape[0], 8), -1, np.int64)
    lanes = np.arange(data.shape[0])
    for place, item in enumerate(order):
        equal = data == vals[:, item : item + 1]
        rank = np.zeros(len(lanes), np.int64)
        for earlier in order[:place]:
            rank += vals[:, earlier] == vals[:, item]
        position = equal.argmax(axis=1)
        again = np.flatnonzero(rank)
        if again.size:
            counts = equal[again].cumsum(axis=1) == rank[again, None] + 1
            position[again] = counts.argmax(axis=1)
            present = equal[lanes, position]
            present[again] = counts.any(axis=1)
        else:
            present = equal[lanes, position]
        found[:, item] = np.where(present, position, -1)
    return found


_ASCENDING, _DESCENDING = tuple(range(8)), tuple(range(7, -1, -1))


def nc_find_index8(dst: NkiTensor, data: NkiTensor, vals: NkiTensor, name: str | None = None) -> Instruction:
    """The index in ``data`` of each of 8 values per partition; all ones where a value does not occur.

    Of equal values, the first column gets the first occurrence, the next the next one.
    Source: ``nki.isa.nc_find_index8``; release notes of 0.6 on duplicates.
    """
    call = Call("nc_find_index8", name)
    tiles(call, data=data, vals=vals, dst=dst)
    _searched(call, "data", data)
    _values(call, vals, data)
    _indices(call, "dst", dst, data)
    record = call.issue(engine.vector, (data, vals), (dst,), elements=data.free_size)
    if call.values:
        call.write("dst", dst, _match(*_pair(call, data, vals), _ASCENDING).astype(dst.dtype.storage))
    return record


def nc_match_replace8(
    dst: NkiTensor, data: NkiTensor, vals: NkiTensor, imm: float, dst_idx: NkiTensor | None = None,
    name: str | None = None,
) -> Instruction:  # fmt: skip
    """``data`` with the occurrence of each of 8 values per partition replaced by ``imm``; where, in ``dst_idx``.

    Of equal values, the last column gets the first occurrence, the one before it the next. A value that does not
    occur replaces nothing and has an index of all ones. Source: ``nki.isa.nc_match_replace8``.
    """
    call = Call("nc_match_replace8", name)
    tiles(call, data=data, vals=vals, dst=dst)
    _searched(call, "data", data)
    _values(call, vals, data)
    call.same_elements("dst", dst, data)
    direct(call, dst=dst, dst_idx=dst_idx)
    if dst_idx is not None:
        tiles(call, dst_idx=dst_idx)
        _indices(call, "dst_idx", dst_idx, data)
    record = call.issue(engine.vector, (data, vals), (dst, dst_idx), elements=data.free_size)
    if call.values:
        found = _match(*_pair(call, data, vals), _DESCENDING)
        read: Any = call.read if data.dtype == dst.dtype else call.read_float
        result = np.array(flat(read("data", data)))
        rows, columns = np.nonzero(found >= 0)
        value = np.asarray(imm, np.float32)
        result[rows, found[rows, columns]] = (
            value if result.dtype == np.float32 else from_float32(value, data.dtype).astype(result.dtype)
        )
        call.write("dst", dst, result)
        if dst_idx is not None:
            call.write("dst_idx", dst_idx, found.astype(dst_idx.dtype.storage))
    return record
