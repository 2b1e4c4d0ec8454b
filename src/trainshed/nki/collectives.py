"""``nki.collectives``: exchange between ranks.

Every call is checked and recorded. Values move when the ranks run together (``nki.simulate_ranks``), or when the
group is one rank alone; otherwise a group of several ranks is refused with one sentence, since a kernel alone has
nobody to exchange with. Values go the way of the fabric's schedules (``nki.collectives_values``), time is the fabric's.

Source: the type stubs of ``nki.collectives`` (NKI 0.6).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from trainshed.chip.call import HBM, SBUF, Call
from trainshed.chip.core import active
from trainshed.chip.record import Instruction
from trainshed.chip.registers import VirtualRegister
from trainshed.chip.tensor import NkiTensor
from trainshed.chip.words import NKIObject, engine, nc_version
from trainshed.core import total
from trainshed.fabric import CollectiveCost
from trainshed.nki.collectives_values import moved
from trainshed.numerics.cast import to_float32

Array = np.ndarray[Any, Any]
Combine = Callable[[list[Any], CollectiveCost], list[Any]]
"""What each member of a collective gets, from what each brought and what the fabric says of it."""
#: Channels of a ring: "4 for replica groups containing all devices inside a node and 2 for other" groups.
CHANNELS = 4
_ALONE = CollectiveCost(time=total("rank alone", [], unit="s"))
_REDUCTIONS: dict[str, Any] = {"add": np.add, "minimum": np.minimum, "maximum": np.maximum}


class ReplicaGroup(NKIObject):
    """Groups of ranks that exchange among themselves: ``ReplicaGroup([[0, 1], [2, 3]])``."""

    def __init__(self, groups: Any = None, **kwargs: Any) -> None:
        listed = groups if groups is not None else kwargs.get("replica_groups", kwargs.get("replica_group", [[0]]))
        self.groups = tuple(tuple(int(rank) for rank in group) for group in listed)

    @property
    def size(self) -> int:
        """Ranks of one group."""
        return len(self.groups[0]) if self.groups else 0

    def __repr__(self) -> str:
        return f"ReplicaGroup({[list(group) for group in self.groups]})"


# --- checks ---------------------------------------------------------------------------------------------------


def _begin(opcode: str, name: str | None, priority: int | None) -> Call:
    call = Call(opcode, name)
    if priority is not None:
        call.generation(nc_version.gen4)
        call.require(priority in (0, 1, 2, 3), "priority", "priority", priority, "0, 1, 2 or 3", "priority")
    return call


def _group(call: Call, group: Any) -> ReplicaGroup:
    if not isinstance(group, ReplicaGroup):
        raise call.fail("replica_group", "operand", type(group).__name__, "an nki.collectives.ReplicaGroup", "operand")
    ranks = [rank for members in group.groups for rank in members]
    if not ranks or len(set(ranks)) != len(ranks):
        raise call.fail("replica_group", "ranks", group.groups, "groups without a common rank", "replica-group")
    if len({len(members) for members in group.groups}) != 1:
        raise call.fail("replica_group", "sizes of the groups", group.groups, "groups of one size", "replica-group")
    return group


def _members(call: Call, group: ReplicaGroup) -> tuple[int, ...]:
    """The ranks that this one exchanges with, itself among them, in the group's order."""
    launch = call.core.launch
    world = launch.world if launch is not None else None
    if world is None:
        call.require(
            group.size == 1, "replica_group", "ranks", group.size,
            "1, or nki.simulate_ranks: a kernel alone has no other rank to exchange with", "multi-rank",
        )  # fmt: skip
        return group.groups[0]
    for members in group.groups:
        if launch.rank in members:
            call.require(max(members) < len(world.launches), "replica_group", "rank", max(members),
                         f"0 to {len(world.launches) - 1}", "replica-group")  # fmt: skip
            return members
    raise call.fail("replica_group", f"rank {launch.rank} in", group.groups, "a group with it", "replica-group")


def _tensors(call: Call, operand: str, tensors: Any, buffers: Any = (*HBM, *SBUF), most: int = 0) -> list[NkiTensor]:
    """A list of tensors, all of HBM or one of SBUF; at most ``most`` where not 0."""
    listed = list(tensors) if isinstance(tensors, list | tuple) else [tensors]
    call.require(bool(listed), operand, "tensors", 0, "at least 1", "shape")
    for tensor in listed:
        call.tile(operand, tensor, buffers)
    places = {tensor.buffer.on_chip for tensor in listed}
    call.require(len(places) == 1, operand, "memories", "hbm and sbuf", "all in hbm, or all in sbuf", "memory")
    call.require(places == {False} or len(listed) == 1, operand, "tensors in sbuf", len(listed), "1", "coalesced")
    call.require(not most or len(listed) <= most, operand, "tensors", len(listed), str(most), "coalesced")
    return listed


def _pairs(call: Call, srcs: list[NkiTensor], dsts: list[NkiTensor], grow: int, shrink: int) -> None:
    """Each destination holds its source ``grow`` times over, divided by ``shrink``, in the same dtype and memory."""
    call.require(len(srcs) == len(dsts), "dsts", "tensors", len(dsts), str(len(srcs)), "shape")
    for src, dst in zip(srcs, dsts, strict=True):
        call.require(src.size * grow == dst.size * shrink, "dsts", "elements", dst.size,
                     f"{src.size * grow // shrink} for a source of {src.shape}", "shape")  # fmt: skip
        call.require(src.dtype == dst.dtype, "dsts", "dtype", dst.dtype, str(src.dtype), "dtype")
        call.require(src.buffer.on_chip == dst.buffer.on_chip, "dsts", "memory", dst.buffer.value,
                     f"that of srcs, {src.buffer.value}", "memory")  # fmt: skip


def _dim(call: Call, dim: Any, tensors: list[NkiTensor], allowed: tuple[int, ...]) -> int:
    call.require(dim in allowed, "collective_dim", "dimension", dim, " or ".join(map(str, allowed)), "collective-dim")
    if tensors[0].buffer.on_chip:
        call.require(all(t.ndim == 2 for t in tensors), "srcs", "dimensions in sbuf", tensors[0].ndim, "2", "shape")
    return int(dim)


def _reduction(call: Call, op: Any) -> str:
    name = op if isinstance(op, str) else getattr(op, "__name__", str(op))
    call.require(name in _REDUCTIONS, "op", "reduction", name, "add, minimum or maximum", "reduction")
    return str(name)


def _issue(call: Call, srcs: list[NkiTensor], dsts: list[NkiTensor], extra: tuple[NkiTensor, ...] = (),
           **attributes: Any) -> Instruction:  # fmt: skip
    return call.issue(
        engine.sync, (*srcs, *extra), tuple(dsts), attributes=attributes, bytes=sum(tensor.nbytes for tensor in srcs)
    )


# --- exchange -------------------------------------------------------------------------------------------------


def _exchange(call: Call, record: Instruction, members: Sequence[int], value: Any, combine: Combine) -> Any:
    """What this rank gets; see ``World.exchange``. A rank alone exchanges with itself."""
    launch = call.core.launch
    if launch is None or launch.world is None:
        return None if value is None else combine([value], _ALONE)[0]
    return launch.world.exchange(call.core, record, tuple(members), value, combine)


def _given(call: Call, srcs: list[NkiTensor]) -> list[Array] | None:
    return [np.array(call.read("srcs", src)) for src in srcs] if call.values else None


def _each(kind: str, op: str | None = None) -> Combine:
    """A collective of the fabric, tensor by tensor."""

    def combine(every: list[Any], cost: CollectiveCost) -> list[Any]:
        by_tensor = [moved(kind, cost, list(arrays), op) for arrays in zip(*every, strict=True)]
        return [list(arrays) for arrays in zip(*by_tensor, strict=True)]

    return combine


def _write(call: Call, targets: list[NkiTensor], found: list[Array] | None) -> None:
    if found is not None:
        for target, values in zip(targets, found, strict=True):
            call.write("dsts", target, values)


def all_reduce(
    srcs: Any, dsts: Any, replica_group: Any, op: Any, priority: int | None = None, name: str | None = None
) -> Instruction:
    """Every rank gets the reduction of all ranks' tensors."""
    call = _begin("all_reduce", name, priority)
    group, kind = _group(call, replica_group), _reduction(call, op)
    sources, targets = _tensors(call, "srcs", srcs), _tensors(call, "dsts", dsts)
    _pairs(call, sources, targets, 1, 1)
    record = _issue(call, sources, targets, groups=group.groups, op=kind)
    given = _given(call, sources)
    _write(call, targets, _exchange(call, record, _members(call, group), given, _each("all_reduce", kind)))
    return record


def all_gather(
    srcs: Any, dsts: Any, replica_group: Any, collective_dim: int, priority: int | None = None, name: str | None = None
) -> Instruction:
    """Every rank gets all ranks' tensors, one after another along ``collective_dim`` (0, or 1 in SBUF)."""
    call = _begin("all_gather", name, priority)
    group = _group(call, replica_group)
    sources, targets = _tensors(call, "srcs", srcs), _tensors(call, "dsts", dsts)
    dim = _dim(call, collective_dim, sources, (0, 1) if sources[0].buffer.on_chip else (0,))
    _pairs(call, sources, targets, group.size, 1)
    record = _issue(call, sources, targets, groups=group.groups, dim=dim)
    found = _exchange(call, record, _members(call, group), _given(call, sources), _each("all_gather"))
    if found is not None:
        parts = [item.reshape(group.size, *source.shape) for item, source in zip(found, sources, strict=True)]
        _write(call, targets, [np.concatenate(list(part), axis=dim) for part in parts])
    return record


def reduce_scatter(
    srcs: Any, dsts: Any, replica_group: Any, collective_dim: int, op: Any, priority: int | None = None,
    name: str | None = None,
) -> Instruction:  # fmt: skip
    """Every rank gets its part (of dimension 0) of the reduction of all ranks' tensors."""
    call = _begin("reduce_scatter", name, priority)
    group, kind = _group(call, replica_group), _reduction(call, op)
    sources, targets = _tensors(call, "srcs", srcs), _tensors(call, "dsts", dsts)
    dim = _dim(call, collective_dim, sources, (0,))
    _pairs(call, sources, targets, 1, group.size)
    _split(call, sources, group.size)
    record = _issue(call, sources, targets, groups=group.groups, dim=dim, op=kind)
    given = _given(call, sources)
    _write(call, targets, _exchange(call, record, _members(call, group), given, _each("reduce_scatter", kind)))
    return record


def all_to_all(
    srcs: Any, dsts: Any, replica_group: Any, collective_dim: int, priority: int | None = None, name: str | None = None
) -> Instruction:
    """Every rank sends the i-th part (of dimension 0) of its tensor to the i-th rank. HBM only."""
    call = _begin("all_to_all", name, priority)
    group = _group(call, replica_group)
    sources, targets = _tensors(call, "srcs", srcs, HBM), _tensors(call, "dsts", dsts, HBM)
    dim = _dim(call, collective_dim, sources, (0,))
    _pairs(call, sources, targets, 1, 1)
    _split(call, sources, group.size)
    record = _issue(call, sources, targets, groups=group.groups, dim=dim)
    given = _given(call, sources)
    _write(call, targets, _exchange(call, record, _members(call, group), given, _each("all_to_all")))
    return record


def _split(call: Call, sources: list[NkiTensor], ranks: int) -> None:
    """Dimension 0 has a part of each rank."""
    for source in sources:
        call.require(source.shape[0] % ranks == 0, "srcs", "dimension 0", source.shape[0],
                     f"a multiple of the {ranks} ranks", "shape")  # fmt: skip


def _place(call: Call, members: Sequence[int]) -> int:
    """This rank's place in its group."""
    launch = call.core.launch
    return members.index(launch.rank) if launch is not None and launch.world is not None else 0


# --- of lengths known when it runs ------------------------------------------------------------------------------


def _metadata(call: Call, metadata: Any, ranks: int, displacements: bool) -> Array | None:
    """The rows of counts and displacements, checked; None when nothing is computed."""
    call.tile("metadata_tensor", metadata, (*HBM, *SBUF))
    rows = (4 if displacements else 3), ranks
    shapes = ((1, *rows),) if metadata.buffer.on_chip else (rows, (4, ranks))
    call.require(metadata.shape in shapes, "metadata_tensor", "shape", metadata.shape, str(shapes[0]), "shape")
    call.require(metadata.dtype == "uint32", "metadata_tensor", "dtype", metadata.dtype, "uint32", "dtype")
    if not call.values:
        return None
    return np.array(call.read("metadata_tensor", metadata)).reshape(metadata.shape[-2:]).astype(np.int64)


def _chunk(call: Call, flat: Array, start: int, count: int, operand: str) -> Array:
    call.require(start >= 0 and start + count <= flat.size, operand, "elements up to", start + count,
                 f"at most {flat.size}", "metadata")  # fmt: skip
    return flat[start : start + count]


def _whole_chips(call: Call, group: ReplicaGroup) -> None:
    """Behind NeuronSwitches ``all_to_all_v`` takes ranks of LNC 2, all those of several chips, one after another.

    On other systems its groups are of one rank each of several instances. Source: ``nki.collectives.all_to_all_v``.
    """
    launch = call.core.launch
    if launch is None or launch.world is None or group.size == 1:
        return
    links = launch.world.links
    switched = any(level.interconnect == "neuronlink-v4" for level in links.system.levels)
    if not switched:
        ranks = links.per_chip * links.system.instance_chips
        good = all(len({rank % ranks for rank in members}) == 1 for members in group.groups)
        call.require(good, "replica_group", "ranks of one instance", group.groups,
                     f"ranks {ranks} apart, of different instances", "replica-group")  # fmt: skip
        return
    call.require(call.core.cores == 2, "", "cores of the launch", call.core.cores, "2: kernel[2]", "lnc")
    for members in group.groups:
        first, count = members[0], len(members)
        good = members == tuple(range(first, first + count)) and first % links.per_chip == count % links.per_chip == 0
        call.require(good and count > links.per_chip, "replica_group", "ranks", members,
                     f"all ranks of two chips or more, {links.per_chip} to a chip", "replica-group")  # fmt: skip


def _varied(call: Call, srcs: Any, dsts: Any, group: ReplicaGroup, metadata: Any, known: bool, displacements: bool,
            gather: bool) -> Instruction:  # fmt: skip
    """What ``all_to_all_v`` and ``all_gather_v`` have in common: flat buffers, and counts in a tensor."""
    (source,), (target,) = _tensors(call, "srcs", srcs, HBM, 1), _tensors(call, "dsts", dsts, HBM, 1)
    call.require(source.dtype == target.dtype, "dsts", "dtype", target.dtype, str(source.dtype), "dtype")
    rows = _metadata(call, metadata, group.size, displacements)
    written = [target] if known else [target, metadata]
    record = _issue(call, [source], written, (metadata,), groups=group.groups)
    if rows is not None:  # the links carry what there is to send
        record.work["bytes"] = int(rows[0, : 1 if gather else None].sum()) * source.itemsize
    members = _members(call, group)
    parts: list[Array] | None = None
    if rows is not None:
        flat = np.array(call.read("srcs", source)).reshape(-1)
        columns = [0] * group.size if gather else range(group.size)
        parts = [_chunk(call, flat, int(rows[1, i]), int(rows[0, i]), "metadata_tensor") for i in columns]
    received = _exchange(call, record, members, parts, lambda every, _: [list(got) for got in zip(*every, strict=True)])
    if rows is None:
        return record
    held = target.storage.written is not False
    filled = np.array(call.read("dsts", target)).reshape(-1) if held else np.zeros(target.size, target.dtype.storage)
    for i, part in enumerate(received):
        start = int(rows[3, i]) if displacements else target.size // group.size * i
        _chunk(call, filled, start, part.size, "dsts")[...] = part
    call.write("dsts", target, filled.reshape(target.shape))
    if not known:
        rows[2] = [part.size for part in received]
        call.write("metadata_tensor", metadata, rows.astype(np.uint32).reshape(metadata.shape))
    return record


def all_to_all_v(
    srcs: Any, dsts: Any, replica_group: Any, metadata_tensor: Any, recv_counts_known: bool = False,
    has_rdispls: bool = False, priority: int | None = None, name: str | None = None,
) -> Instruction:  # fmt: skip
    """``all_to_all`` of as many elements as ``metadata_tensor`` says when it runs.

    Rows of ``metadata_tensor`` (uint32, ``(3 or 4, ranks)`` in HBM, ``(1, 3 or 4, ranks)`` in SBUF): elements sent to
    each rank; where they begin in ``srcs``; elements received (written unless ``recv_counts_known``); with
    ``has_rdispls`` where they begin in ``dsts``, else in equal slots.
    """
    call = _begin("all_to_all_v", name, priority)
    group = _group(call, replica_group)
    _whole_chips(call, group)
    return _varied(call, srcs, dsts, group, metadata_tensor, recv_counts_known, has_rdispls, gather=False)


def all_gather_v(
    srcs: Any, dsts: Any, replica_group: Any, metadata_tensor: Any, recv_counts_known: bool = False,
    has_rdispls: bool = False, priority: int | None = None, name: str | None = None,
) -> Instruction:  # fmt: skip
    """``all_gather`` of as many elements of each rank as its ``metadata_tensor`` says when it runs.

    One chunk (first column of rows 0 and 1: count, start) goes to every rank, into slots of equal size. For now:
    LNC 2, groups of exactly 4 ranks, no ``has_rdispls``.
    """
    call = _begin("all_gather_v", name, priority)
    group = _group(call, replica_group)
    call.require(not has_rdispls, "has_rdispls", "has_rdispls", True, "False (not supported yet)", "unsupported")
    call.require(call.core.cores == 2, "", "cores of the launch", call.core.cores, "2: kernel[2]", "lnc")
    call.require(group.size == 4, "replica_group", "ranks", group.size, "4, of one chip", "replica-group")
    return _varied(call, srcs, dsts, group, metadata_tensor, recv_counts_known, False, gather=True)


# --- between pairs and in rings -----------------------------------------------------------------------------------


def collective_permute(
    srcs: Any, dsts: Any, source_target_pairs: Any, priority: int | None = None, name: str | None = None
) -> Instruction:
    """Rank ``source`` sends to rank ``target`` for each pair. One tensor, in HBM; who gets nothing keeps its own."""
    call = _begin("collective_permute", name, priority)
    sources, targets = _tensors(call, "srcs", srcs, HBM, 1), _tensors(call, "dsts", dsts, HBM, 1)
    pairs = [(int(a), int(b)) for a, b in source_target_pairs]
    for column, side in enumerate(("sources", "targets")):
        ranks = [pair[column] for pair in pairs]
        call.require(len(set(ranks)) == len(ranks), "source_target_pairs", side, ranks, "each rank once", "pairs")
    _pairs(call, sources, targets, 1, 1)
    record = _issue(call, sources, targets, pairs=tuple(pairs))
    ranks = sorted({rank for pair in pairs for rank in pair})
    launch = call.core.launch
    if launch is None or launch.world is None:
        _members(call, ReplicaGroup([ranks or [0]]))
    elif launch.rank not in ranks:
        return record
    origin = {target: source for source, target in pairs}
    found = _exchange(
        call, record, ranks, _given(call, sources),
        lambda every, _: [every[ranks.index(origin[one])] if one in origin else None for one in ranks],
    )  # fmt: skip
    _write(call, targets, found)
    return record


def _channels(call: Call, channel_ids: Sequence[int], **lists: Any) -> None:
    ids = [int(channel) for channel in channel_ids]
    call.require(ids == list(range(len(ids))) and 0 < len(ids) <= CHANNELS, "channel_ids", "channels", ids,
                 f"consecutive from 0, at most {CHANNELS}", "channels")  # fmt: skip
    for operand, listed in lists.items():
        call.require(len(listed) == len(ids), operand, "channels", len(listed), str(len(ids)), "channels")


def _ring(
    opcode: str, operands: dict[str, Any], dsts_by_channel: Any, group: Any, channel_ids: Sequence[int], op: Any,
    priority: int | None, name: str | None,
) -> list[Instruction]:  # fmt: skip
    call = _begin(opcode, name, priority)
    checked = _group(call, group)
    kind = _reduction(call, op) if op is not None else None
    _channels(call, channel_ids, **operands, dsts_by_channel=dsts_by_channel)
    members = _members(call, checked)
    records = []
    for channel in range(len(channel_ids)):
        call = _begin(opcode, name, priority)
        sources = [_tensors(call, key, given[channel], most=1)[0] for key, given in operands.items()]
        targets = _tensors(call, "dsts_by_channel", dsts_by_channel[channel], most=1)
        for source in sources:
            _pairs(call, [source], targets, 1, 1)
        records.append(_issue(call, sources, targets, groups=checked.groups, channel=channel,
                              channels=len(channel_ids), op=kind))  # fmt: skip
        values = _given(call, sources)
        if values is not None and kind is not None:
            one, two = (to_float32(value, targets[0].dtype) for value in values)
            values = [call.cast(targets[0], _REDUCTIONS[kind](one, two))]
        _write(call, targets, _exchange(call, records[-1], members, values, lambda every, _: [every[-1], *every[:-1]]))
    return records


def collective_permute_implicit(
    srcs_by_channel: Any, dsts_by_channel: Any, replica_group: Any, channel_ids: Sequence[int] = (0,),
    priority: int | None = None, name: str | None = None,
) -> list[Instruction]:  # fmt: skip
    """Every rank sends to the next of its ring and receives from the one before, on each channel."""
    return _ring("collective_permute_implicit", {"srcs_by_channel": srcs_by_channel}, dsts_by_channel, replica_group,
                 channel_ids, None, priority, name)  # fmt: skip


def collective_permute_implicit_reduce(
    srcs0_by_channel: Any, srcs1_by_channel: Any, dsts_by_channel: Any, replica_group: Any, op: Any,
    channel_ids: Sequence[int] = (0,), priority: int | None = None, name: str | None = None,
) -> list[Instruction]:  # fmt: skip
    """Every rank sends ``op`` of its two tensors to the next of its ring, on each channel."""
    operands = {"srcs0_by_channel": srcs0_by_channel, "srcs1_by_channel": srcs1_by_channel}
    return _ring("collective_permute_implicit_reduce", operands, dsts_by_channel, replica_group, channel_ids, op,
                 priority, name)  # fmt: skip


def collective_permute_implicit_current_processing_rank_id(
    iteration_id: int, replica_group: Any, channel_id: int = 0, name: str | None = None
) -> VirtualRegister:
    """The rank whose data a ring's iteration works on: its own at 0, then those before it."""
    call = Call("collective_permute_implicit_current_processing_rank_id", name)
    members = _members(call, _group(call, replica_group))
    call.require(0 <= int(channel_id) < CHANNELS, "channel_id", "channel", channel_id, f"0 to {CHANNELS - 1}",
                 "channels")  # fmt: skip
    call.issue(engine.sync, (), (), attributes={"iteration": int(iteration_id), "channel": int(channel_id)})
    return VirtualRegister(members[(_place(call, members) - int(iteration_id)) % len(members)])


def rank_id(name: str | None = None) -> VirtualRegister:
    """The rank that this kernel runs as (0 where it runs alone)."""
    launch = active().launch
    return VirtualRegister(launch.rank if launch is not None else 0)
