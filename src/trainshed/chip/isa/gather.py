"""Gathers and searches of GpSimd, whose eight cores each see 16 partitions."""

from __future__ import annotations

from typing import Any

import numpy as np

from trainshed.chip.alu import operator
from trainshed.chip.call import SBUF, Array, Call
from trainshed.chip.operands import flat
from trainshed.chip.record import Instruction
from trainshed.chip.tensor import NkiTensor
from trainshed.chip.words import engine, nc_version

GROUP = 16


def _index_error(call: Call, operand: str, indices: Array, limit: int) -> None:
    if indices.size and (indices.min() < 0 or indices.max() >= limit):
        wrong = indices[(indices < 0) | (indices >= limit)].reshape(-1)[0]
        raise call.fail(operand, "index out of bounds", int(wrong), f"0 to {limit - 1}", "out-of-bounds")


def local_gather(
    dst: NkiTensor, src_buffer: NkiTensor, index: NkiTensor, num_elem_per_idx: int = 1,
    num_valid_indices: int | None = None, name: str | None = None,
) -> Instruction:  # fmt: skip
    """Each group of 16 partitions gathers columns of ``src_buffer`` at its own indices.

    ``index`` is uint16 ``[P, K]``, read partition by partition first: the i-th index of a group is
    ``index[i % 16, i // 16]``, the element of a partition's row where ``num_elem_per_idx`` elements begin.
    ``dst`` is ``[P, valid * num_elem_per_idx]``. Source: ``nki.isa.local_gather`` and its Beta 1 test, which hands
    over row numbers times the elements of a row.
    """
    call = Call("local_gather", name)
    for operand, tensor in (("src_buffer", src_buffer), ("index", index), ("dst", dst)):
        call.tile(operand, tensor, SBUF)
    partitions, width = src_buffer.shape[0], int(num_elem_per_idx)
    call.require(str(index.dtype) == "uint16", "index", "dtype", index.dtype, "uint16", "dtype")
    call.require(
        dst.dtype == src_buffer.dtype, "dst", "dtype", dst.dtype, f"{src_buffer.dtype}, as src_buffer", "dtype"
    )
    call.require(partitions % GROUP == 0, "src_buffer", "partitions", partitions, "a multiple of 16", "gather")
    call.require(index.shape[0] == partitions, "index", "partitions", index.shape[0], str(partitions), "shape")
    call.require(width in (1, 2, 4, 8, 16, 32), "num_elem_per_idx", "elements", width, "1, 2, 4, 8, 16 or 32", "gather")
    most = GROUP * index.free_size
    valid = most if num_valid_indices is None else int(num_valid_indices)
    call.require(
        0 < valid <= min(most, 4096), "num_valid_indices", "indices", valid, f"1 to {min(most, 4096)}", "gather"
    )
    if dst.shape[0] != partitions or dst.free_size != valid * width:
        raise call.fail("dst", "shape", dst.shape, f"({partitions}, {valid * width})", "shape")
    record = call.issue(
        engine.gpsimd, (src_buffer, index), (dst,), elements=valid * width, indices=valid,
        attributes={"num_elem_per_idx": width},
    )  # fmt: skip
    if call.values:
        groups = partitions // GROUP
        lists = flat(call.read("index", index)).reshape(groups, GROUP, -1).transpose(0, 2, 1).reshape(groups, -1)
        starts = lists[:, :valid].astype(np.int64)
        columns = (starts[..., None] + np.arange(width)).reshape(groups, -1)
        _index_error(call, "index", columns, src_buffer.free_size)
        data = flat(call.read("src_buffer", src_buffer))
        result = np.take_along_axis(data, np.repeat(columns, GROUP, axis=0), axis=1)
        call.write("dst", dst, result.reshape(dst.shape))
    return record


def nc_n_gather(dst: NkiTensor, data: NkiTensor, indices: NkiTensor, name: str | None = None) -> Instruction:
    """Each partition gathers elements of its own (flattened) row: ``dst[p, i] = data[p, indices[p, i]]``.

    ``indices`` is uint32. Source: ``nki.isa.nc_n_gather``.
    """
    call = Call("nc_n_gather", name)
    for operand, tensor in (("data", data), ("indices", indices), ("dst", dst)):
        call.tile(operand, tensor, SBUF)
    call.require(str(indices.dtype) == "uint32", "indices", "dtype", indices.dtype, "uint32", "dtype")
    call.require(dst.dtype == data.dtype, "dst", "dtype", dst.dtype, f"{data.dtype}, as data", "dtype")
    call.require(
        indices.shape[0] == data.shape[0], "indices", "partitions", indices.shape[0], str(data.shape[0]), "shape"
    )
    call.same_elements("dst", dst, indices)
    count = indices.free_size
    record = call.issue(engine.gpsimd, (data, indices), (dst,), elements=count, instructions=-(-count // 512))
    if call.values:
        chosen = flat(call.read("indices", indices)).astype(np.int64)
        _index_error(call, "indices", chosen, data.free_size)
        result = np.take_along_axis(flat(call.read("data", data)), chosen, axis=1)
        call.write("dst", dst, result.reshape(dst.shape))
    return record


def sequence_bounds(dst: NkiTensor, segment_ids: NkiTensor, name: str | None = None) -> Instruction:
    """Where the segment of each element begins and ends (exclusive): ``[1, n]`` gives ``[1, 2, n]``.

    Padding (id 0) gets n and -1. float32 or int32. Source: ``nki.isa.sequence_bounds``.
    """
    call = Call("sequence_bounds", name)
    for operand, tensor in (("segment_ids", segment_ids), ("dst", dst)):
        call.tile(operand, tensor, SBUF)
        call.require(
            str(tensor.dtype) in ("float32", "int32"), operand, "dtype", tensor.dtype, "float32 or int32", "dtype"
        )
        call.require(tensor.shape[0] == 1, operand, "partitions", tensor.shape[0], "1", "shape")
    count = segment_ids.free_size
    call.require(dst.free_size == 2 * count, "dst", "shape", dst.shape, f"(1, 2, {count})", "shape")
    record = call.issue(engine.gpsimd, (segment_ids,), (dst,), elements=count)
    if call.values:
        ids = call.read_float("segment_ids", segment_ids).reshape(-1)
        if ids.size and ids.min() < 0:
            raise call.fail("segment_ids", "segment id", float(ids.min()), "not negative", "segment-id")
        starts, ends = _bounds(ids)
        call.write("dst", dst, np.stack([starts, ends]).astype(np.float32).reshape(dst.shape))
    return record


def _bounds(ids: Array) -> tuple[Array, Array]:
    """First index of each element's run of equal ids, and one past its last; n and -1 for padding."""
    edges = np.flatnonzero(np.concatenate(([True], ids[1:] != ids[:-1], [True])))
    lengths = np.diff(edges)
    padding = ids == 0
    return np.where(padding, ids.size, np.repeat(edges[:-1], lengths)), np.where(
        padding, -1, np.repeat(edges[1:], lengths)
    )


def nonzero_with_count(
    dst: NkiTensor, src: NkiTensor, index_offset: Any = 0, padding_val: int = -1, name: str | None = None
) -> Instruction:
    """Indices of the nonzero elements of partitions 0, 16, …, then padding, then their count.

    ``src`` is float32 or int32 ``[P, T]``, ``dst`` int32 ``[P, T + 1]``; other partitions of ``dst`` stay as they
    are. Source: ``nki.isa.nonzero_with_count``.
    """
    call = Call("nonzero_with_count", name)
    call.generation(nc_version.gen3)
    call.tile("src", src, SBUF)
    call.tile("dst", dst, SBUF)
    call.require(str(src.dtype) in ("float32", "int32"), "src", "dtype", src.dtype, "float32 or int32", "dtype")
    call.require(str(dst.dtype) == "int32", "dst", "dtype", dst.dtype, "int32", "dtype")
    count = src.free_size
    if dst.shape[0] != src.shape[0] or dst.free_size != count + 1:
        raise call.fail("dst", "shape", dst.shape, f"({src.shape[0]}, {count + 1})", "shape")
    record = call.issue(engine.gpsimd, (src,), (dst,), elements=count)
    if call.values:
        lanes = slice(0, src.shape[0], GROUP)
        data = flat(call.read("src", src[lanes]))
        out = np.full((data.shape[0], count + 1), padding_val, np.int32)
        for row, result in zip(data, out, strict=True):
            found = np.flatnonzero(row)
            result[: found.size] = found + int(index_offset)
            result[-1] = found.size
        call.write("dst", dst[lanes], out)
    return record


def topk(val_dst: NkiTensor, idx_dst: NkiTensor, src: NkiTensor, n: int, name: str | None = None) -> Instruction:
    """The K largest of the n values that 16 partitions hold in snake order, ascending, and their indices.

    ``src`` is bfloat16 ``[P, ceil(n / 16)]``: element i of a group lies in partition ``i % 16``, column ``i // 16``.
    Every partition of a group gets the same result: ``val_dst`` bfloat16 and ``idx_dst`` uint32 ``[P, K]``.
    Of equal values the later index comes first out. Source: ``nki.isa.topk`` (ties are not published).
    """
    call = Call("topk", name)
    for operand, tensor, kind in (
        ("src", src, "bfloat16"),
        ("val_dst", val_dst, "bfloat16"),
        ("idx_dst", idx_dst, "uint32"),
    ):
        call.tile(operand, tensor, SBUF)
        call.require(str(tensor.dtype) == kind, operand, "dtype", tensor.dtype, kind, "dtype")
    partitions, k = val_dst.shape[0], val_dst.free_size
    call.require(partitions % GROUP == 0, "val_dst", "partitions", partitions, "a multiple of 16", "topk")
    call.require(src.shape[0] == partitions, "src", "partitions", src.shape[0], str(partitions), "shape")
    call.require(idx_dst.shape[0] == partitions and idx_dst.free_size == k, "idx_dst", "shape", idx_dst.shape,
                 f"({partitions}, {k})", "shape")  # fmt: skip
    call.require(8 <= n < 65536, "n", "elements", n, "8 to 65535", "topk")
    call.require(1 <= k <= min(n, 32767), "val_dst", "K", k, f"1 to {min(n, 32767)}", "topk")
    call.require(
        src.free_size * GROUP >= n, "src", "elements of 16 partitions", src.free_size * GROUP, f"at least {n}", "topk"
    )
    record = call.issue(engine.gpsimd, (src,), (val_dst, idx_dst), elements=n, k=k)
    if call.values:
        stored = flat(call.read("src", src))
        groups = (
            stored.reshape(partitions // GROUP, GROUP, -1).transpose(0, 2, 1).reshape(partitions // GROUP, -1)[:, :n]
        )
        order = np.argsort(groups.astype(np.float32), axis=1, kind="stable")[:, -k:]
        values = np.take_along_axis(groups, order, axis=1)
        call.write("val_dst", val_dst, np.repeat(values, GROUP, axis=0).reshape(val_dst.shape))
        call.write("idx_dst", idx_dst, np.repeat(order.astype(np.uint32), GROUP, axis=0).reshape(idx_dst.shape))
    return record


def tensor_partition_reduce(dst: NkiTensor, op: Any, data: NkiTensor, name: str | None = None) -> Instruction:
    """The reduction across partitions, in the one partition of ``dst``: add, average, max, bitwise_or, bitwise_and.

    Source: ``nki.isa.tensor_partition_reduce``.
    """
    call = Call("tensor_partition_reduce", name)
    call.tile("data", data, SBUF)
    call.tile("dst", dst, SBUF)
    word = op if isinstance(op, str) else getattr(op, "__name__", None)
    average = word in ("average", "mean")
    function = operator(call, "op", "add" if average else op)
    legal = ("add", "maximum", "bitwise_or", "bitwise_and")
    call.require(function.name in legal, "op", "reduction", function.name, "add, average, max, bitwise_or, bitwise_and",
                 "reduction")  # fmt: skip
    if dst.shape[0] != 1 or dst.size != data.free_size:
        raise call.fail("dst", "shape", dst.shape, f"(1, {data.free_size})", "shape")
    record = call.issue(
        engine.gpsimd, (data,), (dst,), elements=data.free_size, partitions=data.shape[0],
        attributes={"op": "average" if average else function.name},
    )  # fmt: skip
    if call.values:
        values = flat(call.read("data", data)) if function.bitvec else flat(call.read_float("data", data))
        result = function.reduce(values, 0)
        call.write("dst", dst, (result / np.float32(data.shape[0]) if average else result).reshape(dst.shape))
    return record
