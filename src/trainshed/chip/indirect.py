"""Views that find their place at run time: resolved to addresses, gathered, scattered.

``scalar`` moves a whole view; ``vector`` gives every row of a DMA in HBM its own start; ``free`` picks columns of
every partition (tensor indirection of NeuronCore-v4). An index outside its dimension is an error, or, where the
instruction's ``oob_mode`` says so, skips what it names.

Source: the pages on access patterns (``nki-aps``), DGE (``nki-dge``) and ``NkiTensor.indirect``.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from trainshed.chip.call import Array, Call, array, region
from trainshed.chip.findings import note
from trainshed.chip.memory import mark
from trainshed.chip.registers import VirtualRegister
from trainshed.chip.tensor import NkiTensor
from trainshed.chip.undefined import poisoned
from trainshed.chip.words import engine, nc_version

#: Partitions that share a list of free offsets, by engine. Source: ``NkiTensor.indirect``.
GROUP = {engine.tensor: 32}
GROUP_OTHERS = 16
#: Instructions with operands that may be ``.indirect()`` views. Source: "Tensor indirection" on each of their pages.
TAKE_FREE = frozenset([
    "activate2", "activation", "activation_reduce", "exponential", "nc_matmul", "nc_matmul_mx", "tensor_copy",
    "tensor_copy_predicated", "tensor_reduce", "tensor_scalar", "tensor_scalar_cumulative", "tensor_scalar_reduce",
    "tensor_tensor",
])  # fmt: skip


def index_values(call: Call, operand: str, index: NkiTensor | VirtualRegister) -> Array:
    """The indices of an indirect view as int64."""
    if isinstance(index, VirtualRegister):
        return np.asarray([index.get()], np.int64)
    if index.buffer.value != "sbuf" and not (index.size == 1 and not index.buffer.on_chip):
        raise call.fail(operand, "memory of the index", index.buffer.value, "sbuf", "memory")
    if not index.dtype.is_integer:
        raise call.fail(operand, "dtype of the index", index.dtype, "an integer dtype", "dtype")
    return call.read(f"index of {operand}", index).astype(np.int64)


def scalar(call: Call, operand: str, tensor: NkiTensor, skip: bool = False) -> NkiTensor | None:
    """The direct view a scalar-indirect one means now; None when it is out of bounds and may be skipped."""
    indirection = tensor.indirection
    assert indirection is not None
    indices = index_values(call, operand, indirection.index)
    if indices.size != 1:
        raise call.fail(operand, "elements of the scalar offset", indices.size, "1", "indirection")
    index = int(indices.reshape(-1)[0])
    view = NkiTensor(
        tensor.shape, tensor.dtype, tensor.storage, tensor.strides, tensor.offset + index * indirection.stride
    )
    reach = sum((n - 1) * s for n, s in zip(view.shape, view.strides, strict=True))
    good = index >= 0 and view.offset + reach < view.storage.nbytes // view.itemsize
    if good and view.buffer.on_chip:
        column = view.offset % view.row
        inner = sum((n - 1) * s for n, s in zip(view.shape[1:], view.strides[1:], strict=True))
        good = column + inner < view.row and tensor.offset // view.row == view.offset // view.row
    if good:
        _remember(call, tensor, np.asarray([view.offset], np.int64), tensor.strides, tensor.shape)
        return view
    if skip:
        return None
    raise call.fail(operand, "index out of bounds", index, f"0 to {indirection.limit - 1}", "out-of-bounds")


def located(call: Call, operand: str, tensor: NkiTensor, skip: bool = False) -> tuple[Array, Array]:
    """The index of each row of a vector-indirect view, and which of them are in bounds."""
    indirection = tensor.indirection
    assert indirection is not None
    if tensor.buffer.on_chip:
        raise call.fail(operand, "memory under vector_offset", tensor.buffer.value, "hbm", "memory")
    indices = index_values(call, operand, indirection.index)
    flat = indices.reshape(-1) if indices.shape[-1] == 1 else indices.reshape(indices.shape[0], -1).T.reshape(-1)
    count = tensor.shape[0]
    if flat.size < count:
        raise call.fail(operand, "indices", flat.size, f"{count}, one for each row", "indirection")
    flat = flat[:count]
    starts = tensor.offset + flat * indirection.stride
    good = (flat >= 0) & (flat < indirection.limit)
    good &= starts + _reach(tensor) < tensor.storage.nbytes // tensor.itemsize
    if not good.all() and not skip:
        wrong = int(flat[~good][0])
        raise call.fail(operand, "index out of bounds", wrong, f"0 to {indirection.limit - 1}", "out-of-bounds")
    _remember(call, tensor, starts[good], tensor.strides[1:], tensor.shape[1:])
    return flat, good


def _reach(tensor: NkiTensor) -> int:
    """Elements from the first to the last of one row."""
    return sum((size - 1) * stride for size, stride in zip(tensor.shape[1:], tensor.strides[1:], strict=True))


def rows(call: Call, operand: str, tensor: NkiTensor, skip: bool = False) -> tuple[Array, Array]:
    """Element addresses of a vector-indirect view in its shape, and which rows are in bounds."""
    flat, good = located(call, operand, tensor, skip)
    return row_addresses(tensor, flat), good


def row_addresses(tensor: NkiTensor, indices: Array) -> Array:
    """Element addresses of the rows of a vector-indirect view that have these indices."""
    assert tensor.indirection is not None
    found = tensor.offset + indices * tensor.indirection.stride
    for size, stride in zip(tensor.shape[1:], tensor.strides[1:], strict=True):
        found = found[..., None] + np.arange(size) * stride
    return found


def _by_row(tensor: NkiTensor, data: Array) -> Array:
    """``data``, one item per element of the storage, as the rows that indices of a vector-indirect view choose from."""
    assert tensor.indirection is not None
    step, size = tensor.indirection.stride, data.itemsize
    count = max((data.size - 1 - tensor.offset - _reach(tensor)) // step + 1, 0)
    shape, strides = (count, *tensor.shape[1:]), (step, *tensor.strides[1:])
    return np.ndarray(
        shape,
        data.dtype,
        data.view(np.uint8).data,
        tensor.offset * size if count else 0,
        tuple(s * size for s in strides),
    )


def take_rows(call: Call, operand: str, tensor: NkiTensor, skip: bool) -> tuple[Array, Array | None]:
    """A vector-indirect view's values, and which rows are in bounds (None: all); the others are 0."""
    flat, good = located(call, operand, tensor, skip)
    everything = bool(good.all())
    if tensor.storage.written is not True:
        values = fetch(call, operand, tensor, row_addresses(tensor, flat), None if everything else good)
    elif everything:
        values = _by_row(tensor, flat_values(tensor))[flat]
    else:
        whole = flat_values(tensor)
        values = np.zeros(tensor.shape, whole.dtype)
        values[good] = _by_row(tensor, whole)[flat[good]]
    return values, None if everything else good


def put_rows(call: Call, tensor: NkiTensor, indices: Array, values: Array) -> None:
    """Write rows of a vector-indirect view, which are in bounds; of rows that meet the last stays."""
    if not indices.size:
        return
    storage, size = tensor.storage, tensor.itemsize
    place = _by_row(tensor, flat_values(tensor))
    marks: Array | None = None
    if storage.written is not True:
        if storage.written is False:
            storage.written = np.zeros(storage.nbytes, np.uint8)
        words: Array = storage.written[: storage.nbytes - storage.nbytes % size].view(f"u{size}")
        marks = _by_row(tensor, words)
    ones = int.from_bytes(b"\x01" * size)
    if storage.shared and call.core.cores > 1:
        known = marks is None or bool((marks[indices] == ones).all())
        call.fingerprint(storage, values.astype(place.dtype, copy=False), place[indices] if known else None)
    place[indices] = values
    if marks is not None:
        marks[indices] = ones


def rows_repeat(tensor: NkiTensor, indices: Array) -> int | None:
    """An address that two elements of these rows share, if any."""
    assert tensor.indirection is not None
    gaps = np.diff(np.sort(indices)) * tensor.indirection.stride
    inner = sorted(
        (stride, size) for size, stride in zip(tensor.shape[1:], tensor.strides[1:], strict=True) if size > 1
    )
    filled = 0  # the furthest element of the dimensions before
    for stride, size in inner:
        if stride <= filled:
            return repeated(row_addresses(tensor, indices))
        filled += (size - 1) * stride
    if gaps.size and int(gaps.min()) <= filled:
        return repeated(row_addresses(tensor, indices))
    return None


def _remember(call: Call, tensor: NkiTensor, starts: Array, strides: tuple[int, ...], shape: tuple[int, ...]) -> None:
    """Keep where an indirect view of shared HBM lay, for the search for races (``chip/hazards.py``).

    ``core.state["places"]``: by (instruction, region), the elements where a pattern starts, and that pattern.
    """
    core = call.core
    if core.cores > 1 and tensor.storage.shared:
        places: dict[Any, Any] = core.state.setdefault("places", {})
        places[len(core.instructions) - 1, region(tensor)] = (starts, tuple(zip(strides, shape, strict=True)))


def flat_values(tensor: NkiTensor) -> Array:
    """All elements of a tensor's storage as its dtype, in one dimension."""
    storage = tensor.storage
    if storage.scale != 1:
        return storage.data.view(np.float32)
    whole = storage.nbytes - storage.nbytes % tensor.itemsize
    return storage.data[:whole].view(tensor.dtype.storage)


def free(call: Call, operand: str, tensor: NkiTensor, on: engine) -> Array:
    """Element addresses of a free-indirect view as ``[P, num_elem]``.

    The i-th offset of a group of G partitions is ``index[i % G, i // G]`` of the group's rows; G is 32 on TensorE
    and 16 elsewhere. A last group of fewer partitions has as many offsets as it has rows (those of i < rows).
    """
    indirection = tensor.indirection
    assert indirection is not None
    assert isinstance(indirection.index, NkiTensor)
    call.generation(nc_version.gen4)
    if call.opcode not in TAKE_FREE:
        raise call.fail(operand, "view", "indirect", "one that is not indirect", "indirection")
    if indirection.index.start_partition % 32:
        raise call.fail(
            f"index of {operand}", "start partition", indirection.index.start_partition, "a multiple of 32",
            "start-partition",
        )  # fmt: skip
    indices = index_values(call, operand, indirection.index)
    partitions, count = tensor.shape
    indices, group = indices.reshape(partitions, -1), GROUP.get(on, GROUP_OTHERS)
    least = partitions % group or group * indices.shape[1]
    if count > least:
        raise call.fail(operand, "offsets asked of a group", count, f"at most {least}", "indirection")
    groups = -(-partitions // group)
    if partitions % group:
        indices = np.concatenate((indices, np.zeros((groups * group - partitions, indices.shape[1]), np.int64)))
    offsets = indices.reshape(groups, group, -1).transpose(0, 2, 1).reshape(groups, -1)[:, :count]
    if offsets.size and (offsets.min() < 0 or offsets.max() >= indirection.limit):
        wrong = offsets[(offsets < 0) | (offsets >= indirection.limit)][0]
        raise call.fail(operand, "index out of bounds", int(wrong), f"0 to {indirection.limit - 1}", "out-of-bounds")
    starts = tensor.offset + np.arange(partitions)[:, None] * tensor.strides[0]
    addresses: Array = starts + np.repeat(offsets, group, axis=0)[:partitions] * indirection.stride
    return addresses


def lacking(tensor: NkiTensor, addresses: Array) -> int:
    """How many elements at ``addresses`` were never written."""
    state: Any = tensor.storage.written
    if isinstance(state, bool):
        return 0 if state else int(addresses.size)
    marks = state[: state.size - state.size % tensor.itemsize].reshape(-1, tensor.itemsize)
    return int(np.count_nonzero(~marks[addresses].all(axis=-1)))


def fetch(call: Call, operand: str, tensor: NkiTensor, addresses: Array, where: Array | None = None) -> Array:
    """Elements at ``addresses``; ``where``: only those rows are read, the others are 0.

    Undefined elements are poison (``chip/undefined.py``); an operand that has nothing else is an error.
    """
    chosen = addresses if where is None else addresses[where]
    values = flat_values(tensor)[chosen]
    state: Any = tensor.storage.written
    undefined = None
    if state is not True:
        size = tensor.itemsize
        if state is False:
            raise call.unwritten(operand, tensor, int(chosen.size))
        marks = state[: state.size - state.size % size].view(f"u{size}")[chosen]
        undefined = marks != int.from_bytes(b"\x01" * size)
        if undefined.any():
            if undefined.all() and not (marks.view(np.uint8) == 2).any():
                raise call.unwritten(operand, tensor, int(chosen.size))
        else:
            undefined = None
    if where is not None:
        everywhere = np.zeros(addresses.shape, values.dtype)
        everywhere[where] = values
        values = everywhere
        if undefined is not None:
            mask = np.zeros(addresses.shape, np.bool_)
            mask[where] = undefined
            undefined = mask
    return values if undefined is None else poisoned(call, operand, tensor, values, undefined)


def addresses_of(call: Call, operand: str, tensor: NkiTensor) -> tuple[Array, Array]:
    """Element addresses of an indirect view, and which of them are in bounds."""
    assert tensor.indirection is not None
    if tensor.indirection.kind == "vector":
        found, good = rows(call, operand, tensor, skip=True)
        return found, np.broadcast_to(good.reshape(-1, *(1,) * (found.ndim - 1)), found.shape)
    if tensor.indirection.kind == "free":
        found = free(call, operand, tensor, _engine(call))
        return found, np.ones(found.shape, np.bool_)
    view = scalar(call, operand, tensor, skip=True)
    found = np.zeros((), np.int64)
    for size, stride in zip(tensor.shape, tensor.strides, strict=True):
        found = found[..., None] + np.arange(size) * stride
    return found + (0 if view is None else view.offset), np.full(found.shape, view is not None)


def put(call: Call, tensor: NkiTensor, addresses: Array, values: Array) -> None:
    """Write elements at ``addresses`` of a tensor's storage."""
    flat = flat_values(tensor)
    if tensor.storage.shared and call.core.cores > 1:
        before = None if lacking(tensor, addresses) else flat[addresses]
        call.fingerprint(tensor.storage, values.astype(flat.dtype, copy=False), before)
    flat[addresses] = values
    mark_written(tensor, addresses)


def mark_written(tensor: NkiTensor, addresses: Array) -> None:
    """Elements at ``addresses`` are written now."""
    storage = tensor.storage
    if storage.written is True:
        return
    if storage.written is False:
        storage.written = np.zeros(storage.nbytes, np.uint8)
    state = storage.written
    state[: state.size - state.size % tensor.itemsize].reshape(-1, tensor.itemsize)[addresses.reshape(-1)] = 1


def repeated(addresses: Array) -> int | None:
    """An address that occurs twice, if any does."""
    rows = addresses.reshape(len(addresses), -1)
    width = rows.shape[1]
    if width > 1 and rows.size and (np.diff(rows, axis=1) == 1).all():  # rows without gaps: their starts tell
        starts = np.sort(rows[:, 0])
        close = np.flatnonzero(np.diff(starts) < width)
        return int(starts[close[0] + 1]) if close.size else None
    flat = np.sort(addresses, axis=None)
    twice = flat[1:][flat[1:] == flat[:-1]]
    return int(twice[0]) if twice.size else None


def note_repeated(call: Call, twice: int | None) -> None:
    """A finding where two elements of one instruction go to the same place (kernels send padding to a spare row)."""
    if twice is not None:
        note(
            call.core, "duplicate-scatter",
            f"{call.opcode} scatters several elements to one place: which of them stays is not defined", call.source,
        )  # fmt: skip


def unique(call: Call, operand: str, twice: int | None, rule: str) -> None:
    """No two elements of one instruction go to the same place."""
    if twice is not None:
        raise call.fail(operand, "element written twice by one scatter", twice, "unique indices", rule)


def gather(call: Call, operand: str, tensor: NkiTensor) -> Array:
    """What ``Call.read`` returns of an indirect view."""
    assert tensor.indirection is not None
    if tensor.indirection.kind == "scalar":
        view = scalar(call, operand, tensor)
        assert view is not None
        return call.read(operand, view)
    if tensor.indirection.kind == "vector":
        return take_rows(call, operand, tensor, False)[0]
    addresses = free(call, operand, tensor, _engine(call))
    return fetch(call, operand, tensor, addresses)


def scatter(call: Call, operand: str, tensor: NkiTensor, values: Array) -> None:
    """What ``Call.write`` does to an indirect view (``values`` are cast already)."""
    assert tensor.indirection is not None
    if tensor.indirection.kind == "scalar":
        view = scalar(call, operand, tensor)
        assert view is not None
        array(view)[...] = values
        if view.storage.written is not True:
            view.storage.written = mark(
                view.storage.written, view.storage.nbytes, view.itemsize, view.shape, view.strides, view.offset
            )
        return
    if tensor.indirection.kind == "vector":
        indices, _ = located(call, operand, tensor)
        note_repeated(call, rows_repeat(tensor, indices))
        put_rows(call, tensor, indices, values)
        return
    addresses = free(call, operand, tensor, _engine(call))
    note_repeated(call, repeated(addresses))
    put(call, tensor, addresses, values)


def _engine(call: Call) -> engine:
    """The engine of the instruction being executed: its record is the core's last."""
    return call.core.instructions[-1].engine
