"""One collective played: its schedule, send by send, on the links of a network."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from trainshed.core import UserError, unknown_name
from trainshed.fabric import algorithms as closed
from trainshed.fabric.algorithms import Call
from trainshed.fabric.flow.fair import Flow
from trainshed.fabric.flow.packet import Packet
from trainshed.fabric.flow.sends import Model, Run, Sends, Transport
from trainshed.fabric.group import Group, Share, spread
from trainshed.fabric.network.graph import Ints, Network
from trainshed.fabric.network.placement import Placement, place
from trainshed.fabric.schedule import ALGORITHMS, Schedule, schedule, sends
from trainshed.fabric.schedule.channels import cycles, over_domains, rings
from trainshed.fabric.schedule.gather import Way
from trainshed.fabric.schedule.reductions import schedule_of
from trainshed.fabric.topology import one_link
from trainshed.hardware.schema import Level

MODELS: Mapping[str, type[Flow] | type[Packet]] = {"flow": Flow, "packet": Packet}
#: Sends up to which a schedule is played without being asked to, and at all.
SOON, MOST = 50_000, 2_000_000
#: Times ``SOON`` up to which a ring is played as several.
CHANNELS = 4


@dataclass(frozen=True, kw_only=True)
class Used:
    """One level of links in a run."""

    carried: float
    """Bytes over all its links, those of messages that pass several counted each time."""
    peak: float
    """Largest part of a link's reachable rate in use at any time."""
    busiest: str
    """The link that carries most."""
    busiest_bytes: float
    busy: int
    """Links that carry anything."""
    links: int


@dataclass(frozen=True, kw_only=True, eq=False)
class Played:
    """A collective's sends on a network, and when each of them happened."""

    network: Network
    placement: Placement
    schedule: Schedule
    sends: Sends
    run: Run
    model: str
    routing: str

    @property
    def seconds(self) -> float:
        """From its launch to the last arrival."""
        return self.run.seconds

    @cached_property
    def levels(self) -> dict[str, Used]:
        """What each level's links carried, from the chip outwards."""
        out = {}
        for k, name in enumerate(self.network.levels):
            own = np.flatnonzero(self.network.level == k)
            if not len(own):
                continue
            carried = self.run.carried[own]
            most = int(own[np.argmax(carried)])
            out[name] = Used(
                carried=float(carried.sum()), peak=float(self.run.peak[own].max()),
                busiest=self.network.link_name(most), busiest_bytes=float(self.run.carried[most]),
                busy=int(np.count_nonzero(carried)), links=len(own),
            )  # fmt: skip
        return out


def play(
    kind: str, *, size: float, algorithm: str, ranks: int, network: Network, transport: Transport,
    levels: Sequence[Level] = (), ranks_per_chip: int = 1, order: str = "packed", copies: float = 1.0,
    model: str = "flow", routing: str = "spray",
) -> Played:  # fmt: skip
    """Play ``algorithm`` of a collective of ``size`` bytes (NCCL's convention) among ``ranks`` ranks on ``network``.

    ``levels`` say where a hierarchical algorithm parts its groups; without them the network's coordinates do.
    UserError: no schedule of that name, a schedule of more sends than can be played.
    """
    if model not in MODELS:
        raise unknown_name("network model", model, MODELS, where="--model")
    placement = place(network, ranks, ranks_per_chip, order)
    shares = spread(Group(ranks=ranks), levels, ranks_per_chip)
    made = channelled(kind, algorithm, network, placement, levels)
    if made is None:
        made = made_for(kind, algorithm, ranks, shares=shares, copies=copies, size=size, network=network)
    if made.sends > MOST:
        raise UserError(
            f"sends of {algorithm} {kind} among {ranks} ranks", where=f"--model {model}", value=f"{made.sends:,}",
            expected=f"at most {MOST:,}, or --model closed",
        )  # fmt: skip
    table = sends(made, size, placement)
    way: Model = MODELS[model]()
    run = way.run(network, table, transport, routing=routing)
    return Played(
        network=network, placement=placement, schedule=made, sends=table, run=run, model=model, routing=routing
    )


def made_for(
    kind: str, algorithm: str, ranks: int, *, shares: Sequence[Share] = (), copies: float = 1.0,
    size: float = float(1 << 24), network: Network | None = None,
) -> Schedule:  # fmt: skip
    """The schedule of an algorithm in the words of the closed forms, shaped for a group on its levels and a size.

    With ``network``, rings of a hierarchy that go through all of a torus are several, over cycles that share no link.
    """
    shape: dict[str, object] = {}
    name = algorithm
    if algorithm == "kangaring" and (not shares or not bool(np.any(paired(shares)))):
        name = "ring"  # no two ranks share a chip: nobody forwards for another
    if algorithm == "hierarchical" and shares:
        fans = [float(np.asarray(share.fan)) for share in shares]
        if any(fan != round(fan) for fan in fans):
            raise UserError(
                "ranks of a hierarchical schedule", where=f"{algorithm} {kind}", value=ranks,
                expected=f"as many in each domain of every level; here the levels have {_said(fans)}",
            )  # fmt: skip
        met = [k for k, fan in enumerate(fans) if fan > 1]
        shape["levels"] = [round(fans[k]) for k in met]
        if kind in ("all_reduce", "all_gather", "reduce_scatter"):
            ways = [(way_over(kind, shares[k], size), shares[k]) for k in met]
            shape["ways"] = [_through(network, share) or way if way == "ring" else way for way, share in ways]
    if kind.startswith("moe"):
        shape["copies"] = copies
    if shares and (name in ("tree", "binary_tree") or (kind, name) == ("broadcast", "ring")):
        edges = ranks - 1 if name == "ring" else (2 if kind == "all_reduce" else 1) * (ranks - 1).bit_length()
        shape["pieces"] = _pieces(edges, size / (1 if name == "ring" else 2), ranks, shares)
    if name not in ALGORITHMS.get(kind, {}):
        raise unknown_name(f"schedule of {kind}", name, ALGORITHMS.get(kind, {}), where="--algorithm")
    return schedule(kind, name, ranks, **shape)


def soon_played(
    kind: str, algorithm: str, ranks: int, *, shares: Sequence[Share] = (), copies: float = 1.0
) -> bool:  # fmt: skip
    """Whether an algorithm has at most ``SOON`` sends. Each rank but one receives at least once, so that schedules of
    a million ranks need not be made to know."""
    return ranks - 1 <= SOON and made_for(kind, algorithm, ranks, shares=shares, copies=copies).sends <= SOON


def channelled(
    kind: str, algorithm: str, network: Network, placement: Placement, levels: Sequence[Level] = ()
) -> Schedule | None:  # fmt: skip
    """Rings over all links of a torus or a board, or of several domains, where there is one rank on each of the first
    chips; None: a ring is a ring.

    That is what the closed forms' rings are: as many cycles at once as the chips' links allow.
    """
    ranks = len(placement)
    if algorithm not in ("ring", "kangaring") or kind not in ("all_reduce", "all_gather", "reduce_scatter"):
        return None
    if not np.array_equal(np.sort(placement.chip), np.arange(ranks)):
        return None
    orders = cycles(network, ranks)
    orders = orders or _over_domains(network, ranks, levels, 2 if kind == "all_reduce" else 1)
    if not orders:
        return None
    rank = np.argsort(placement.chip)  # of each chip
    return replace(schedule_of(kind, ranks, rings([rank[order] for order in orders])), algorithm=algorithm)


def _over_domains(network: Network, ranks: int, levels: Sequence[Level], rounds: int) -> list[Ints]:
    """Rings through all innermost domains of several chips; none where the chips are no whole number of them."""
    inner = next((level for level in levels if level.chips > 1), None)
    if inner is None or not inner.chips < ranks or ranks % inner.chips:
        return []
    inside = cycles(network, inner.chips)
    if not inside and inner.topology == "switch":
        inside = [np.arange(inner.chips)]
    further = ("ring", "torus", "mesh")
    mirrored = any(level.topology in further and inner.chips < level.chips <= ranks for level in levels)
    domains, sends_of_one = ranks // inner.chips, rounds * ranks * (ranks - 1)
    if not inside or (mirrored and domains % 2):
        return []
    each = min(inner.chips, CHANNELS * SOON // sends_of_one) // len(inside)
    return over_domains(inside, domains, each, mirrored=mirrored) if each else []


def paired(shares: Sequence[Share]) -> np.bool_:
    """Whether two members of the group share a chip."""
    return np.bool_(np.any(closed.paired(Call(kind="all_reduce", size=1.0, shares=tuple(shares)))))


def way_over(kind: str, share: Share, size: float) -> str:
    """The best way over one level alone: what ``hierarchical`` of the closed forms picks."""
    if share.level.topology in ("chip", "switch") or share.level.dims == (2,):
        return "mesh"
    alone = replace(share, inner=1.0, members=share.fan, ranks=share.fan)
    stage = Call(kind=kind, size=size / float(np.asarray(share.inner)), shares=(alone,))
    times = {name: float(way(stage).time.value) for name, way in (
        ("ring", closed.ring), ("mesh", closed.mesh), ("rhd", closed.rhd),
    )}  # fmt: skip
    return min(times, key=lambda name: times[name])


def _pieces(edges: int, size: float, ranks: int, shares: Sequence[Share]) -> int:
    """In how many pieces a buffer passes a chain of edges best: k of them take (edges − 1 + k) (hop + bytes / k)."""
    hop = max(float(share.level.latency.value) + float(share.level.fitted["hop"].value) for share in shares)
    rate = min(
        float(share.level.bandwidth.value) * float(share.level.fitted["efficiency"].value) * float(one_link(share))
        for share in shares
    )
    best = math.sqrt((edges - 1) * size / rate / hop)
    return max(1, min(round(best), SOON // (2 * ranks)))


def _through(network: Network | None, share: Share) -> Way | str | None:
    """Rings both ways round through all of a ring, or along the cycles of a torus of chips; None: there are none."""
    fan, level = round(float(np.asarray(share.fan))), share.level
    if level.topology not in ("ring", "torus") or float(np.asarray(share.offset)) != 1.0:
        return None
    if fan == max(level.dims, default=0) > 2 and len(level.dims) == 1:
        return "bidirectional_ring"
    found = cycles(network, fan) if network is not None and fan == level.chips else []
    return (lambda _: rings(found)) if found else None


def _said(fans: Sequence[float]) -> str:
    return ", ".join(f"{fan:g}" for fan in fans)
