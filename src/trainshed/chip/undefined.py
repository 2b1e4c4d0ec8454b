"""Values that depend on bytes never written, followed through a kernel as a memory checker does.

To move or compute on undefined elements is no mistake as long as nothing depends on them: kernels pad tiles. So an
operand *none* of whose elements was ever written is an error at once; where only some are, they are computed with as
poison (NaN, and 4 in integers, as the vendor's simulator fills memory), what follows from them is marked, and a
result that holds marked elements is the error.

Marks live in ``Storage.written``: a byte is 0 never written, 1 written, 2 written with something undefined.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from trainshed.chip.errors import violation
from trainshed.chip.findings import note
from trainshed.chip.memory import window

if TYPE_CHECKING:
    from trainshed.chip.call import Call
    from trainshed.chip.tensor import NkiTensor

Array = np.ndarray[Any, Any]
_TAINT: dict[int, Any] = {1: np.uint8(2), 2: np.uint16(0x0202), 4: np.uint32(0x02020202)}
_ONES: dict[int, Any] = {1: np.uint8(1), 2: np.uint16(0x0101), 4: np.uint32(0x01010101)}


def poisoned(call: Call, operand: str, tensor: NkiTensor, values: Array, undefined: Array) -> Array:
    """An operand with its undefined elements replaced by poison, which the call then spreads to what it writes."""
    call.undefined = {**(call.undefined or {}), operand: undefined}
    call.core.pending = call
    call.origin = tensor.storage.origin or (call.opcode, operand, call.source)
    note(
        call.core, "undefined-elements",
        f"{call.opcode} reads elements of {operand} that nothing has written", call.source,
    )  # fmt: skip
    result = np.array(values)
    poison: Any = 4 if result.dtype.kind in "iu" else result.dtype.type(np.nan) if result.dtype.kind != "b" else False
    result[undefined] = poison
    return result


def elements(tensor: NkiTensor) -> Array:
    """Which elements of a direct view are undefined (never written, or with something undefined)."""
    state = tensor.storage.written
    if isinstance(state, bool):
        return np.full(tensor.shape, not state)
    size = tensor.itemsize
    differs: Array = window(state, size, tensor.shape, tensor.strides, tensor.offset) != _ONES[size]
    return differs


def left_alone(call: Call, operand: str, tensor: NkiTensor, mask: Array) -> None:
    """Elements of ``tensor`` that an instruction skips on purpose: those never written are undefined from here on.

    AWS's MoE kernels gather no row for a token that is not routed, and multiply what is there by an affinity of 0.
    """
    storage = tensor.storage
    if storage.written is True:
        return
    if storage.written is False:
        storage.written = np.zeros(storage.nbytes, np.uint8)
    size = tensor.itemsize
    words = window(storage.written, size, tensor.shape, tensor.strides, tensor.offset)
    words[mask & (words != _ONES[size])] = _TAINT[size]
    storage.origin = storage.origin or (call.opcode, operand, call.source)


def tainted(tensor: NkiTensor) -> bool:
    """Whether any element of a direct view was written with something undefined."""
    state = tensor.storage.written
    if isinstance(state, bool):
        return False
    size = tensor.itemsize
    words = window(state, size, tensor.shape, tensor.strides, tensor.offset)
    return bool(np.any((words & _TAINT[size]) != 0))


def propagate(call: Call) -> None:
    """Mark what an executed instruction wrote from undefined elements."""
    undefined, call.undefined = call.undefined, None
    record = call.core.instructions[-1] if call.record is None else call.record
    for tensor in call.writes:
        mask = np.zeros(tensor.shape, np.bool_)
        for operand, source in (undefined or {}).items():
            mask |= _spread(record.opcode, record.attributes, operand, source, tensor)
        if mask.any():
            _taint(call, tensor, mask)
            tensor.storage.origin = tensor.storage.origin or call.origin


def _spread(opcode: str, attributes: dict[str, Any], operand: str, mask: Array, dst: NkiTensor) -> Array:
    """Which elements of ``dst`` follow from the undefined elements of an operand."""
    if opcode in ("nc_matmul", "nc_matmul_mx") and not operand.startswith("dst"):
        return _of_matmul(attributes, operand, mask, dst)
    if opcode == "nc_transpose":
        turned: Array = mask.reshape(mask.shape[0], -1).T.reshape(dst.shape)
        return turned
    if opcode == "quantize_mx":
        return _of_groups(mask, dst)
    if opcode == "dma_transpose":
        return mask.transpose(attributes["transpose"]).reshape(dst.shape)
    if opcode in ("nc_stream_shuffle", "nonzero_with_count", "topk", "tensor_partition_reduce"):
        return _of_partitions(opcode, attributes, mask, dst)
    if mask.size == dst.size:
        return mask.reshape(dst.shape)
    if mask.shape[0] == dst.shape[0]:
        lanes = mask.reshape(mask.shape[0], -1).any(axis=1)
        return np.broadcast_to(lanes.reshape(-1, *(1,) * (dst.ndim - 1)), dst.shape)
    return np.broadcast_to(mask.any(), dst.shape)


def _of_groups(mask: Array, dst: NkiTensor) -> Array:
    """Of ``quantize_mx``: a group is 8 partitions of 4 elements; its scale is a row in its quadrant of partitions."""
    partitions = mask.shape[0]
    groups: Array = np.asarray(mask.reshape(partitions // 8, 8, -1, 4).any(axis=(1, 3)))
    if dst.shape[0] == partitions:
        return np.repeat(groups, 8, axis=0).reshape(dst.shape)
    first = 4 * (dst.start_partition // 32 % (partitions // 32))
    return groups[first : first + dst.shape[0]].reshape(dst.shape)


def _of_partitions(opcode: str, attributes: dict[str, Any], mask: Array, dst: NkiTensor) -> Array:
    """Instructions whose results lie in other partitions than their operands."""
    if opcode == "tensor_partition_reduce":
        column: Array = mask.any(axis=0).reshape(dst.shape)
        return column
    rows, lanes = np.arange(dst.shape[0]), np.any(mask.reshape(mask.shape[0], -1), axis=1)
    if opcode == "nc_stream_shuffle":  # 255 leaves a partition as it is
        picked = np.asarray(attributes["mask"])[rows % 32]
        lanes = (picked != 255) & lanes[np.where(picked == 255, 0, picked + rows // 32 * 32)]
    elif opcode == "nonzero_with_count":  # it reads and writes every 16th partition
        lanes = (rows % 16 == 0) & lanes[rows // 16]
    else:  # 16 partitions share what they hold
        lanes = np.repeat(lanes.reshape(-1, 16).any(axis=1), 16)
    return np.broadcast_to(lanes.reshape(-1, *(1,) * (dst.ndim - 1)), dst.shape)


def of_product(masks: dict[str, Array], first: Array, second: Array) -> Array:
    """Which elements of ``first.T @ second`` follow from undefined ones, where a factor of exactly 0 hides them.

    ``masks`` of MX data ``[K, F]`` and scales, ``first`` and ``second`` decoded to ``[4 * K, F]``. AWS's MX kernels
    quantise rows that nothing wrote (which gives finite numbers) and multiply them by weights of zero.
    """
    result = np.zeros((first.shape[1], second.shape[1]), np.bool_)
    for operand, mask in masks.items():
        if operand.startswith("dst"):
            continue
        rows = mask.reshape(mask.shape[0], -1)
        lanes = rows.any(axis=1)
        factor = (second if operand == "stationary" else first)[np.repeat(lanes, 4)] != 0
        if factor.any():
            undefined, others = np.repeat(rows[lanes], 4, axis=0).astype(np.float32), factor.astype(np.float32)
            result |= (undefined.T @ others if operand == "stationary" else others.T @ undefined) > 0
    return result


def _of_matmul(attributes: dict[str, Any], operand: str, mask: Array, dst: NkiTensor) -> Array:
    rows, columns = dst.shape[0], dst.free_size
    depth = mask.shape[0] * (2 if attributes.get("perf_mode") == "double_row" else 1)
    flat = mask.reshape(depth, -1)
    if attributes.get("transpose") and operand == "stationary" and depth == columns:
        return flat.T.reshape(dst.shape)
    contracted = np.any(flat, axis=0)
    spread = contracted[:, None] if operand.startswith("stationary") else contracted[None, :]
    return np.broadcast_to(spread, (rows, columns)).reshape(dst.shape)


def _taint(call: Call, tensor: NkiTensor, mask: Array) -> None:
    storage, size = tensor.storage, tensor.itemsize
    if isinstance(storage.written, bool):
        storage.written = np.full(storage.nbytes, storage.written, np.uint8)
    if tensor.indirection is None:
        window(storage.written, size, tensor.shape, tensor.strides, tensor.offset)[mask] = _TAINT[size]
        return
    from trainshed.chip.indirect import addresses_of

    found, good = addresses_of(call, "dst", tensor)
    words = storage.written[: storage.nbytes - storage.nbytes % size].reshape(-1, size)
    words[found[mask & good]] = 2


def check_result(tensor: NkiTensor) -> None:
    """The error of a result that holds something undefined."""
    state = tensor.storage.written
    if isinstance(state, bool):
        return
    count = int(np.count_nonzero(state == 2)) // tensor.itemsize
    if not count:
        return
    opcode, operand, at = tensor.storage.origin
    raise violation(
        opcode, operand, f"uninitialised read, and elements of the result {tensor!r} follow from it", value=count,
        expected="every element written before it is read", rule="uninitialised-read", at=at,
    )  # fmt: skip
