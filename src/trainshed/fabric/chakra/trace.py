"""A whole trace as columns: the nodes of all ranks, what they depend on, and the groups they communicate in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trainshed.fabric.chakra import schema

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True)
class Call:
    """What is called, besides its size and its group."""

    kind: str
    """A kind of ``fabric.KINDS``; ``permute`` of a send or a receive."""
    algorithm: str = "auto"
    dtype: str = "bf16"
    copies: float = 1.0
    """Experts per token of moe_dispatch and moe_combine."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Group:
    """Ranks that call collectives together, under a name (``pg_name``)."""

    name: str
    """"" is the group of all ranks."""
    members: Ints
    """Ascending ranks."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Trace:
    """Nodes of all ranks, those of a rank together, in the order in which its file has them."""

    name: str
    ranks: int
    calls: tuple[Call, ...]
    groups: tuple[Group, ...]
    rank: Ints
    """``[nodes]``"""
    id: Ints
    """``[nodes]`` unique within a rank."""
    kind: Ints
    """``[nodes]`` a number of ``schema.NODE_TYPES``."""
    label: Sequence[str]
    """``[nodes]`` the node's name."""
    host: Bools
    """``[nodes]`` runs on the CPU (``is_cpu_op``)."""
    seconds: Floats
    """``[nodes]`` recorded or modelled duration, NaN where none is given."""
    ops: Floats
    """``[nodes]`` ``num_ops``, FLOP; NaN where not given."""
    bytes: Floats
    """``[nodes]`` ``tensor_size``, bytes moved from and to memory; NaN where not given."""
    call: Ints
    """``[nodes]`` which of ``calls``; −1 where the node does not communicate."""
    group: Ints
    """``[nodes]`` which of ``groups``; −1 where it is no collective."""
    size: Floats
    """``[nodes]`` bytes in NCCL's convention (``fabric.collective``); 0 where the node does not communicate."""
    peer: Ints
    """``[nodes]`` the rank that a send goes to or a receive comes from; −1."""
    tag: Ints
    """``[nodes]`` of sends and receives."""
    first: Ints
    """``[nodes + 1]``: ``before[first[k]:first[k + 1]]`` are the nodes that must have ended before k may begin."""
    before: Ints

    def __len__(self) -> int:
        return len(self.rank)

    def __post_init__(self) -> None:
        count = len(self.rank)
        columns = (self.id, self.kind, self.label, self.host, self.seconds, self.ops, self.bytes, self.call, self.group,
                   self.size, self.peer, self.tag)  # fmt: skip
        if any(len(c) != count for c in columns) or len(self.first) != count + 1 or self.first[-1] != len(self.before):
            raise ValueError(f"{self.name}: columns of nodes differ in length")
        if (self.rank[self.before] != np.repeat(self.rank, np.diff(self.first))).any():
            raise ValueError(f"{self.name}: a node depends on one of another rank")
        if count and ((np.diff(self.rank) < 0).any() or self.rank[0] < 0 or self.rank[-1] >= self.ranks):
            raise ValueError(f"{self.name}: nodes are not in the order of ranks 0 to {self.ranks - 1}")

    def where(self, node: int) -> str:
        """How a node is named in a message."""
        kind = schema.NODE_TYPES[int(self.kind[node])]
        return f"{self.name}.{int(self.rank[node])}.et: node {int(self.id[node])} ({self.label[node]}, {kind})"


@dataclass(kw_only=True)
class Builder:
    """Makes a ``Trace`` node by node, rank after rank; the number that an ``add`` returns is what others depend on."""

    name: str
    ranks: int

    def __post_init__(self) -> None:
        self._rows: list[tuple[int, int, int, str, bool, float, float, float, int, int, float, int, int]] = []
        self._before: list[Sequence[int]] = []
        self._calls: dict[Call, int] = {}
        self._groups: dict[tuple[str, tuple[int, ...]], int] = {}
        self._ids: dict[int, int] = {}

    def __len__(self) -> int:
        return len(self._rows)

    def group(self, members: Sequence[int], name: str | None = None) -> int:
        """The number of a group. Without a name: "" of all ranks, else one of its own for these members."""
        ordered = tuple(sorted(int(m) for m in members))
        if name is None:
            name = "" if ordered == tuple(range(self.ranks)) else ",".join(map(str, ordered))
        return self._groups.setdefault((name, ordered), len(self._groups))

    def add(
        self, rank: int, kind: int, label: str, after: Sequence[int] = (), *, seconds: float = np.nan,
        ops: float = np.nan, bytes: float = np.nan, host: bool = False, call: Call | None = None, group: int = -1,
        size: float = 0.0, peer: int = -1, tag: int = 0, id: int | None = None,
    ) -> int:  # fmt: skip
        """A node of any kind."""
        called = -1 if call is None else self._calls.setdefault(call, len(self._calls))
        own = self._ids.get(rank, 0) if id is None else id
        self._ids[rank] = own + 1
        self._rows.append((rank, own, kind, label, host, seconds, ops, bytes, called, group, size, peer, tag))
        self._before.append(after)
        return len(self._rows) - 1

    def compute(self, rank: int, label: str, seconds: float, after: Sequence[int] = ()) -> int:
        """Work of a known duration."""
        return self.add(rank, schema.COMPUTE, label, after, seconds=seconds)

    def collective(
        self, rank: int, label: str, call: Call, size: float, group: int, after: Sequence[int] = ()
    ) -> int:  # fmt: skip
        """A rank's part in a collective of ``size`` bytes (NCCL's convention)."""
        return self.add(rank, schema.COLLECTIVE, label, after, call=call, size=size, group=group)

    def send(self, rank: int, label: str, size: float, to: int, tag: int, after: Sequence[int] = ()) -> int:
        """A message to another rank."""
        return self.add(rank, schema.SEND, label, after, call=Call(kind="permute"), size=size, peer=to, tag=tag)

    def receive(self, rank: int, label: str, size: float, source: int, tag: int, after: Sequence[int] = ()) -> int:
        """A message from another rank."""
        return self.add(rank, schema.RECEIVE, label, after, call=Call(kind="permute"), size=size, peer=source, tag=tag)

    def trace(self) -> Trace:
        """All that was added."""
        columns = list(zip(*self._rows, strict=True)) if self._rows else [()] * 13
        rank, own, kind, label, host, seconds, ops, moved, call, group, size, peer, tag = columns

        def ints(column: Sequence[object]) -> Ints:
            return np.array(column, dtype=np.int64)

        def floats(column: Sequence[object]) -> Floats:
            return np.array(column, dtype=np.float64)

        counts = [len(b) for b in self._before]
        return Trace(
            name=self.name, ranks=self.ranks, calls=tuple(self._calls),
            groups=tuple(Group(name=n, members=ints(m)) for n, m in self._groups),
            rank=ints(rank), id=ints(own), kind=ints(kind), label=tuple(str(t) for t in label),
            host=np.array(host, dtype=np.bool_), seconds=floats(seconds), ops=floats(ops), bytes=floats(moved),
            call=ints(call), group=ints(group), size=floats(size), peer=ints(peer), tag=ints(tag),
            first=np.concatenate([[0], np.cumsum(ints(counts))]).astype(np.int64),
            before=ints([b for several in self._before for b in several]),
        )  # fmt: skip
