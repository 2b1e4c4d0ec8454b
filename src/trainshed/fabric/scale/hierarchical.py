"""Hierarchical collectives on as many domains as there are: one domain simulated, and one rail for all that are alike.

Every domain (an UltraServer) does the same among its own chips, so one of them is simulated in full on its own graph,
with its sends in classes. Every rail (the chips at one place of all domains) does the same at the outermost level, up
to where its chips lie under the leaves: one rail of each pattern is clocked (``outer``). What comes back to the domains
comes at times that differ by a few switches: those domains are simulated that can be last.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from trainshed.core import UserError, unknown_name
from trainshed.fabric.flow.loads import Loads, loads
from trainshed.fabric.flow.sends import Floats, Sends, Transport
from trainshed.fabric.network.build import network
from trainshed.fabric.network.graph import Network
from trainshed.fabric.network.placement import place
from trainshed.fabric.scale.classes import Classes
from trainshed.fabric.scale.outer import Rail, patterns, run
from trainshed.fabric.scale.rounds import WAYS, rounds
from trainshed.fabric.schedule.registry import schedule
from trainshed.fabric.schedule.sends import sends
from trainshed.hardware.schema import Level, System

KINDS = ("all_reduce", "reduce_scatter", "all_gather")
#: Domains that cannot be later than the last one found by more than this part are not looked at.
CLOSE = 1e-5
#: So many domains are looked at, of those that differ in when their chips begin: the latest ones.
LOOKED = 4
#: Times this close, relative, are the same.
TOGETHER = 1e-9
#: Topologies in which every chip has its links to itself.
OWN_LINKS = ("switch", "leaf-spine")


@dataclass(frozen=True, kw_only=True)
class Scaled:
    """What a collective takes on all chips."""

    seconds: float
    chips: int
    fans: tuple[int, ...]
    """Members at each level, innermost first."""
    stages: dict[str, float]
    """When each stage was over everywhere, s."""


def fans(system: System, chips: int) -> tuple[tuple[Level, int], ...]:
    """The levels at which so many chips meet, and how many domains of the level below each joins.

    UserError: chips that are no whole domains (then domains differ, and no one of them stands for all).
    """
    found, below = [], 1
    for k, level in enumerate(system.levels):
        last = k == len(system.levels) - 1
        domain = chips if last or level.chips >= chips else level.chips
        if domain % below:
            raise UserError(
                "chips that fill no whole domains", where=f"{system.name}, level {level.name}", value=chips,
                expected=f"a multiple of {below}, so that all domains are alike",
            )  # fmt: skip
        if domain > below:
            found.append((level, domain // below))
        below = domain
    return tuple(found)


def hierarchical(
    kind: str, size: float, system: System, chips: int, transport: Transport, ways: str | Sequence[str] = "mesh"
) -> Scaled:
    """A hierarchical collective of ``size`` bytes (NCCL's convention), one rank per chip, all chips of whole domains.

    ``ways``: one algorithm for all levels or one for each of ``fans``, innermost first; routing is ``spray``. The same
    seconds as ``flow.fair`` on ``network`` with ``schedule(kind, "hierarchical", …)``. UserError: a structure whose
    domains or links differ, an outermost level that is a torus or a mesh of chips.
    """
    levels = fans(system, chips)
    names = [ways] * len(levels) if isinstance(ways, str) else list(ways)
    _check(kind, size, system, levels, names)
    start = transport.launch.get(levels[-1][0].name, 0.0) if levels else 0.0
    launched = replace(transport, launch={})
    outward = levels[-1:] if levels and levels[-1][0].topology in OWN_LINKS else ()
    inside = levels[: len(levels) - len(outward)]
    domain = _Domain.of(system, [fan for _, fan in inside], names[: len(inside)], size, launched)
    stages = _Stages(domain, outward, names[-1:], launched, size)
    ends, ready = {}, np.full((len(stages.places), stages.domains), start)
    todo = stages.of(kind)
    for k, (name, stage) in enumerate(todo):
        ready = stage(ready, k == len(todo) - 1)
        ends[name] = float(ready.max())
    return Scaled(seconds=float(ready.max()), chips=chips, fans=tuple(fan for _, fan in levels), stages=ends)


def _check(kind: str, size: float, system: System, levels: Sequence[tuple[Level, int]], names: Sequence[str]) -> None:
    if kind not in KINDS:
        raise unknown_name("hierarchical collective", kind, KINDS, where="scale")
    if not size > 0.0:
        raise UserError("size of a collective", where="scale", value=size, expected="bytes, above 0")
    if len(names) != len(levels):
        raise UserError(
            "ways", where=f"hierarchical {kind} on {system.name}", value=names,
            expected=f"one algorithm for each of {len(levels)} levels ({', '.join(level.name for level, _ in levels)})",
        )  # fmt: skip
    outermost = levels[-1][0] if levels else None
    if outermost is not None and outermost.topology in OWN_LINKS and names[-1] not in WAYS:
        raise unknown_name(f"algorithm of level {outermost.name}", names[-1], WAYS, where="scale")


@dataclass(frozen=True, kw_only=True, eq=False)
class _Domain:
    """What every domain does among its own chips: on one of them, in full."""

    chips: int
    network: Network
    transport: Transport
    sends: dict[str, tuple[Sends, Loads]]
    """By kind; none where a domain is one chip."""

    @staticmethod
    def of(system: System, fans: Sequence[int], ways: Sequence[str], size: float, transport: Transport) -> _Domain:
        """A domain whose chips meet over levels of so many members."""
        chips = int(np.prod(fans, dtype=np.int64))
        graph = network(system, chips)
        found = {}
        for kind in ("reduce_scatter", "all_gather") if chips > 1 else ():
            steps = schedule(kind, "hierarchical", chips, levels=list(fans), ways=list(ways))
            all_sends = sends(steps, size, place(graph, chips))
            found[kind] = all_sends, loads(graph, all_sends, transport)
        return _Domain(chips=chips, network=graph, transport=transport, sends=found)

    def times(self, kind: str, begin: Floats, final: bool) -> Floats:
        """``[chips]`` s when each chip has all it gets, if each begins at its time; ``final``: nothing follows."""
        if kind not in self.sends:
            return begin
        all_sends, ways = self.sends[kind]
        first = float(begin.min())
        finish = ways.finish if final else np.zeros_like(ways.finish)
        later = replace(ways, start=(begin - first)[all_sends.source], finish=finish)
        end = Classes.of(all_sends, later).run().end
        done = begin - first
        np.maximum.at(done, all_sends.target, end)
        return np.asarray(first + done)


class _Stages:
    """The stages of a collective. Times between them are ``[patterns, domains]`` s."""

    def __init__(
        self, domain: _Domain, outward: Sequence[tuple[Level, int]], way: Sequence[str], transport: Transport,
        size: float,
    ) -> None:  # fmt: skip
        self.domain, self.size, self.way = domain, size, way
        self.rail = None
        self.places, self.domains = np.zeros(1, np.int64), 1
        if outward:
            level, self.domains = outward[0]
            self.places = patterns(level, domain.chips)
            self.rail = Rail(
                level=level, domains=self.domains, domain=domain.chips, places=self.places, transport=transport
            )  # fmt: skip
        self.pattern = np.arange(domain.chips) // (domain.chips // len(self.places))
        """``[chips of a domain]``"""

    def of(self, kind: str) -> list[tuple[str, Callable[[Floats, bool], Floats]]]:
        """Stages of a kind, in their order."""
        out = [(f"{kind} among domains", lambda ready, final: self.among(kind, ready, final))] if self.rail else []
        reduce = [("reduce_scatter in domains", self.scatter)] if self.domain.sends else []
        gather = [("all_gather in domains", self.gather)] if self.domain.sends else []
        return {
            "all_reduce": reduce + out + gather, "reduce_scatter": reduce + out, "all_gather": out + gather
        }[kind]  # fmt: skip

    def scatter(self, ready: Floats, final: bool) -> Floats:
        """All domains at once; UserError if chips of one pattern do not end together."""
        done = self.domain.times("reduce_scatter", ready[self.pattern, 0], final)
        latest = np.zeros(len(self.places))
        np.maximum.at(latest, self.pattern, done)
        apart = float((latest[self.pattern] - done).max())
        if self.rail and apart > 1e-9 * float(done.max()):
            raise UserError(
                "chips of a domain that end apart", where="reduce_scatter in domains", value=f"{apart:.3g} s",
                expected="an algorithm that keeps all of them in step (mesh, ring or rhd in domains that are alike)",
            )  # fmt: skip
        return np.repeat(latest[:, None], self.domains, axis=1)

    def among(self, kind: str, ready: Floats, final: bool) -> Floats:
        """One rail of each pattern."""
        assert self.rail is not None
        slot = self.size / self.domain.chips / self.domains
        return run(self.rail, rounds(kind, self.way[0], self.domains), slot, ready, final)

    def gather(self, ready: Floats, final: bool) -> Floats:
        """The domains that can be last; the others are told by them."""
        begin = ready[self.pattern]
        latest, mean = begin.max(axis=0), begin.mean(axis=0)
        span = float(self.domain.times("all_gather", np.zeros(self.domain.chips), final).max())
        best, seen, looked = 0.0, set(), 0
        for d in np.lexsort((-mean, -latest)).tolist():
            if latest[d] + span <= best * (1.0 + CLOSE) or looked == LOOKED:
                break
            key = np.round((begin[:, d] - latest[d]) / (TOGETHER * latest[d])).tobytes()
            if key not in seen:
                seen.add(key)
                looked += 1
                best = max(best, float(self.domain.times("all_gather", begin[:, d], final).max()))
        return np.full_like(ready, best)
