"""``nki.collectives``: exchange between ranks, checked and recorded.

A group of one rank is executed. Groups of several ranks need the fabric's schedules, which run values later: they
are refused with one sentence once their arguments have been checked.

Source: the type stubs of ``nki.collectives`` (NKI 0.6).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from trainshed.chip.call import HBM, SBUF, Call
from trainshed.chip.core import active
from trainshed.chip.record import Instruction
from trainshed.chip.registers import VirtualRegister
from trainshed.chip.tensor import NkiTensor
from trainshed.chip.words import NKIObject, engine, nc_version


class ReplicaGroup(NKIObject):
    """Groups of ranks that exchange among themselves: ``ReplicaGroup([[0, 1], [2, 3]])``."""

    def __init__(self, groups: Any = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        listed = groups if groups is not None else kwargs.get("replica_groups", [[0]])
        self.groups = tuple(tuple(int(rank) for rank in group) for group in listed)

    @property
    def size(self) -> int:
        """Ranks of one group."""
        return len(self.groups[0]) if self.groups else 0


def _group(call: Call, group: Any) -> ReplicaGroup:
    if not isinstance(group, ReplicaGroup):
        raise call.fail("replica_group", "operand", type(group).__name__, "an nki.collectives.ReplicaGroup", "operand")
    ranks = [rank for members in group.groups for rank in members]
    if not ranks or len(set(ranks)) != len(ranks):
        raise call.fail("replica_group", "ranks", group.groups, "groups without a common rank", "replica-group")
    if len({len(members) for members in group.groups}) != 1:
        raise call.fail("replica_group", "sizes of the groups", group.groups, "groups of one size", "replica-group")
    return group


def _tensors(call: Call, operand: str, tensors: Any) -> list[NkiTensor]:
    listed = list(tensors) if isinstance(tensors, list | tuple) else [tensors]
    for tensor in listed:
        call.tile(operand, tensor, (*HBM, *SBUF))
    places = {tensor.buffer.on_chip for tensor in listed}
    call.require(len(places) == 1, operand, "memories", "hbm and sbuf", "all in hbm, or all in sbuf", "memory")
    call.require(places == {False} or len(listed) == 1, operand, "tensors in sbuf", len(listed), "1", "coalesced")
    return listed


def _exchange(
    opcode: str,
    srcs: Any,
    dsts: Any,
    group: Any,
    factor: int,
    priority: int | None,
    name: str | None,
    **attributes: Any,
) -> Instruction:
    """Check a collective whose destinations hold ``factor`` (or 1 / -factor) times the sources; run it on one rank."""
    call = Call(opcode, name)
    if priority is not None:
        call.generation(nc_version.gen4)
        call.require(priority in (0, 1, 2, 3), "priority", "priority", priority, "0, 1, 2 or 3", "priority")
    checked = _group(call, group)
    sources, targets = _tensors(call, "srcs", srcs), _tensors(call, "dsts", dsts)
    call.require(len(sources) == len(targets), "dsts", "tensors", len(targets), str(len(sources)), "shape")
    for source, target in zip(sources, targets, strict=True):
        grown = source.size * (checked.size if factor > 0 else 1)
        wanted = target.size * (checked.size if factor < 0 else 1)
        call.require(grown == wanted, "dsts", "elements", target.size, f"those of {source.shape} over "
                     f"{checked.size} ranks", "shape")  # fmt: skip
        call.require(source.dtype == target.dtype, "dsts", "dtype", target.dtype, str(source.dtype), "dtype")
    record = call.issue(
        engine.sync, tuple(sources), tuple(targets), bytes=sum(s.nbytes for s in sources),
        attributes={"groups": checked.groups, **attributes},
    )  # fmt: skip
    _one_rank(call, checked)
    if call.values:
        for source, target in zip(sources, targets, strict=True):
            call.write("dsts", target, call.read("srcs", source).reshape(target.shape))
    return record


def _one_rank(call: Call, group: ReplicaGroup) -> None:
    call.require(
        group.size == 1, "replica_group", "ranks", group.size,
        "1: exchange between ranks runs on the fabric, which a kernel alone does not have", "multi-rank",
    )  # fmt: skip


def _reduction(op: Any) -> str:
    name = op if isinstance(op, str) else getattr(op, "__name__", str(op))
    if name not in ("add", "minimum", "maximum"):
        raise Call("collective").fail("op", "reduction", name, "add, minimum or maximum", "reduction")
    return name


def all_reduce(
    srcs: Any, dsts: Any, replica_group: Any, op: Any, priority: int | None = None, name: str | None = None
) -> Instruction:
    """Every rank gets the reduction of all ranks' tensors."""
    return _exchange("all_reduce", srcs, dsts, replica_group, 0, priority, name, op=_reduction(op))


def all_gather(
    srcs: Any, dsts: Any, replica_group: Any, collective_dim: int, priority: int | None = None, name: str | None = None
) -> Instruction:
    """Every rank gets all ranks' tensors, one after another along ``collective_dim``."""
    return _exchange("all_gather", srcs, dsts, replica_group, 1, priority, name, dim=collective_dim)


def reduce_scatter(
    srcs: Any, dsts: Any, replica_group: Any, collective_dim: int, op: Any, priority: int | None = None,
    name: str | None = None,
) -> Instruction:  # fmt: skip
    """Every rank gets its part of the reduction of all ranks' tensors."""
    return _exchange(
        "reduce_scatter", srcs, dsts, replica_group, -1, priority, name, dim=collective_dim, op=_reduction(op)
    )


def all_to_all(
    srcs: Any, dsts: Any, replica_group: Any, collective_dim: int, priority: int | None = None, name: str | None = None
) -> Instruction:
    """Every rank sends a part of its tensor to every other."""
    return _exchange("all_to_all", srcs, dsts, replica_group, 0, priority, name, dim=collective_dim)


def rank_id(name: str | None = None) -> VirtualRegister:
    """The rank this kernel runs as: the only one."""
    active()
    return VirtualRegister(0)


def collective_permute_implicit_current_processing_rank_id(
    iteration_id: int, replica_group: Any, channel_id: int = 0, name: str | None = None
) -> VirtualRegister:
    """The rank whose data a ring's iteration works on."""
    call = Call("collective_permute_implicit_current_processing_rank_id", name)
    _one_rank(call, _group(call, replica_group))
    return VirtualRegister(0)


def collective_permute_implicit(
    srcs_by_channel: Sequence[Any], dsts_by_channel: Sequence[Any], replica_group: Any,
    channel_ids: Sequence[int] = (0,), priority: int | None = None, name: str | None = None,
) -> list[Instruction]:  # fmt: skip
    """Every rank sends to the next of its ring, on each channel."""
    return [
        _exchange("collective_permute_implicit", srcs, dsts, replica_group, 0, priority, name, channel=channel)
        for srcs, dsts, channel in zip(srcs_by_channel, dsts_by_channel, channel_ids, strict=True)
    ]
