"""What each node of a trace takes alone: work by its record or a roofline, communication by the closed forms."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np

from trainshed.core import UserError
from trainshed.fabric.chakra import schema
from trainshed.fabric.chakra.trace import Call, Floats, Ints, Trace
from trainshed.fabric.collective import collective
from trainshed.fabric.group import Group
from trainshed.hardware.schema import Level, System

Compute = Literal["recorded", "roofline"]


@dataclass(frozen=True, kw_only=True)
class Roofline:
    """What one rank reaches at most."""

    flops: float
    """FLOP/s"""
    bandwidth: float
    """B/s of its memory."""


def roofline(system: System, ranks_per_chip: float, dtype: str = "bf16") -> Roofline:
    """A rank's part of the chip's peak rates (data sheet)."""
    chip = system.chip
    if dtype not in chip.flops:
        raise UserError("no matrix rate in this dtype", where=chip.name, value=dtype, expected=", ".join(chip.flops))
    return Roofline(
        flops=float(chip.flops[dtype].value) / ranks_per_chip,
        bandwidth=float(chip.hbm_bandwidth.value) / ranks_per_chip,
    )


def work(trace: Trace, roof: Roofline, compute: Compute = "recorded") -> Floats:
    """Seconds of nodes that do not communicate, 0 of those that do.

    ``recorded``: the duration that the trace gives, where it gives none the roofline max(FLOP / peak, bytes /
    bandwidth) (ASTRA-sim's). ``roofline``: the other way round, for traces recorded on another machine; a node on the
    host, or without FLOP and bytes, keeps its record. A node with neither takes no time.
    """
    modelled = np.fmax(trace.ops / roof.flops, trace.bytes / roof.bandwidth)
    first, second = (trace.seconds, modelled) if compute == "recorded" else (modelled, trace.seconds)
    seconds = np.where(np.isnan(first) | (trace.host & (compute == "roofline")), second, first)
    works = np.isin(trace.kind, (schema.COMPUTE, schema.LOAD, schema.STORE))
    return np.where(works, np.nan_to_num(seconds), 0.0)


class Fabric(Protocol):
    """What times collectives: the closed forms here, a network model elsewhere."""

    def seconds(self, call: Call, size: Floats, members: Sequence[Ints]) -> Floats:
        """Seconds of calls of one kind among ``members`` (ascending ranks), each alone on the fabric."""
        ...


@dataclass(frozen=True, kw_only=True, eq=False)
class ClosedForms:
    """``fabric.collective``: a group counts by its ranks and their distance.

    Where members are not equally far apart, the distance is the mean. The closed forms take a group to begin with a
    domain; ``stride`` sees to it that what shares a domain here does so there, and that a pair that does not, does not.
    """

    levels: Sequence[Level]
    ranks_per_chip: float = 1.0

    def seconds(self, call: Call, size: Floats, members: Sequence[Ints]) -> Floats:
        """One call for the whole table."""
        ranks = np.array([len(m) for m in members], dtype=np.float64)
        group = Group(ranks=ranks, stride=np.array([self.stride(m) for m in members]))
        cost = collective(
            call.kind, size=size, group=group, levels=self.levels, ranks_per_chip=self.ranks_per_chip,
            algorithm=call.algorithm, dtype=call.dtype, copies=call.copies,
        )  # fmt: skip
        found = np.broadcast_to(np.asarray(cost.time.value, dtype=np.float64), ranks.shape)
        return np.where(ranks > 1, found, 0.0)

    def stride(self, members: Ints) -> float:
        """Ranks from one member to the next, such that the group meets at the level where it really does."""
        count, first, last = len(members), int(members[0]), int(members[-1])
        if count == 1:
            return 1.0
        stride, below = (last - first) / (count - 1), 1.0
        for domain in (level.chips * self.ranks_per_chip for level in self.levels[:-1]):
            if first // domain == last // domain:
                stride = min(stride, domain / count)
                break
            below = domain
        return max(stride, below) if count == 2 else max(stride, 1.0)


def communication(trace: Trace, fabric: Fabric) -> Floats:
    """Seconds of every node that communicates, 0 of others; each different call is priced once."""
    seconds = np.zeros(len(trace))
    nodes = np.flatnonzero(trace.call >= 0)
    if not len(nodes):
        return seconds
    pair = np.sort(np.stack([trace.rank[nodes], trace.peer[nodes]]), axis=0)
    group, collective_ = trace.group[nodes], trace.group[nodes] >= 0
    low, high = np.where(collective_, group, pair[0]), np.where(collective_, -1, pair[1])
    table = np.stack([trace.call[nodes], trace.size[nodes], low, high])
    different, own = np.unique(table, axis=1, return_inverse=True)
    each = np.zeros(different.shape[1])
    for call in np.unique(different[0]).astype(int).tolist():
        rows = np.flatnonzero(different[0] == call)
        members = [
            trace.groups[int(one)].members if two < 0 else np.array([one, two], dtype=np.int64)
            for one, two in different[2:, rows].T
        ]
        each[rows] = fabric.seconds(trace.calls[call], different[1, rows], members)
    seconds[nodes] = each[own.reshape(-1)]
    return seconds
