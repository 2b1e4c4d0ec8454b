"""Collectives on links: a system's or a user's network, whole or with faults, and the figures of what happens there."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from trainshed.core import Assumption, Result, UserError
from trainshed.fabric.answer import assumed
from trainshed.fabric.collective import ALGORITHMS as CLOSED
from trainshed.fabric.collective import CollectiveCost, collective
from trainshed.fabric.flow.sends import Transport
from trainshed.fabric.flow.transport import transport
from trainshed.fabric.group import Group, spread
from trainshed.fabric.network import build, custom
from trainshed.fabric.network.faults import Left, fail, left
from trainshed.fabric.network.graph import Network
from trainshed.fabric.network.placement import working
from trainshed.fabric.play import MODELS, SOON, Played, play, soon_played
from trainshed.fabric.schedule import ALGORITHMS
from trainshed.hardware.schema import Level, System


@dataclass(frozen=True, kw_only=True, eq=False)
class Place:
    """Where collectives are played: a network with what its software costs, and what has failed on it."""

    network: Network
    system: System | None = None
    """Of the catalogue; None: a network of the user's own."""
    own: Transport | None = None
    """What its software costs, of a network of the user's own."""
    failed: tuple[str, ...] = ()
    left: dict[str, Left] = field(default_factory=dict)
    """By level, with something failed."""
    assumptions: tuple[Assumption, ...] = ()

    @property
    def levels(self) -> tuple[Level, ...]:
        """Of a system of the catalogue; none of a user's own network."""
        return self.system.levels if self.system is not None else ()

    @property
    def working(self) -> int:
        """Chips that have not failed: ranks are on these only."""
        return len(working(self.network))

    def transport(self, ask: Ask, algorithm: str) -> Transport:
        """What sends of an algorithm pay here."""
        if self.system is None:
            assert self.own is not None
            return self.own
        return transport(self.system, ask.kind, memory=ask.memory, algorithm=algorithm, size=ask.size, ranks=ask.ranks)


def of_system(system: System, chips: int, failed: Sequence[str] = ()) -> Place:
    """The network of a system's first chips."""
    return _broken(Place(network=build.network(system, chips), system=system), failed)


def of_file(path: Path, failed: Sequence[str] = ()) -> Place:
    """A network of the user's own."""
    found = custom.read(path)
    silent = [f"level {name}: no launch, no hop, all of its rate" for name in found.network.levels
              if name not in found.transport.reach]  # fmt: skip
    told = tuple(Assumption(what="network", value=each, source=str(path)) for each in (*found.defaults, *silent))
    return _broken(Place(network=found.network, own=found.transport, assumptions=told), failed)


def _broken(whole: Place, failed: Sequence[str]) -> Place:
    if not failed:
        return whole
    network = fail(whole.network, failed)
    return replace(whole, network=network, failed=tuple(failed), left=left(whole.network, network))


@dataclass(frozen=True, kw_only=True, eq=False)
class Ask:
    """One collective, as the command line says it."""

    kind: str
    size: float
    ranks: int
    algorithm: str = "auto"
    ranks_per_chip: int = 1
    order: str = "packed"
    copies: float = 1.0
    model: str = "flow"
    routing: str = "spray"
    memory: str = "hbm"


def played(place: Place, ask: Ask) -> dict[str, Played]:
    """The algorithm asked for, or all that have a schedule of moderate size, by name, the fastest first."""
    names = [ask.algorithm] if ask.algorithm != "auto" else _menu(place, ask)
    done = {name: _one(place, ask, name) for name in names}
    return dict(sorted(done.items(), key=lambda item: item[1].seconds))


def _one(place: Place, ask: Ask, name: str) -> Played:
    return play(
        ask.kind, size=ask.size, algorithm=name, ranks=ask.ranks, network=place.network,
        transport=place.transport(ask, name), levels=place.levels, ranks_per_chip=ask.ranks_per_chip, order=ask.order,
        copies=ask.copies, model=ask.model, routing=ask.routing,
    )  # fmt: skip


def _menu(place: Place, ask: Ask) -> list[str]:
    """Algorithms worth playing: the system's library, on a user's network all; no large schedules."""
    known = ALGORITHMS.get(ask.kind, {})
    library = place.levels[0].algorithms if place.levels else ()
    names = [n for n in CLOSED.get(ask.kind, {}) if n in known and (not library or n in library)]
    if not place.levels:
        names = [n for n in known if n not in ("hierarchical", "kangaring")]
    out = []
    for name in names:
        try:
            soon = soon_played(ask.kind, name, ask.ranks, shares=_shares(place, ask), copies=ask.copies)
        except UserError:  # no schedule of this shape: it is no choice here
            continue
        if soon:
            out.append(name)
    if not out:
        raise UserError(
            f"sends of {ask.kind} among {ask.ranks} ranks", where="--algorithm", value="auto",
            expected=f"an algorithm of at most {SOON:,} sends, one named, or --model closed",
        )  # fmt: skip
    return out


def _shares(place: Place, ask: Ask) -> tuple[Any, ...]:
    return spread(Group(ranks=ask.ranks), place.levels, ask.ranks_per_chip) if place.levels else ()


def figures(place: Place, done: Played) -> dict[str, Any]:
    """What the ``network`` object of the JSON says of one run."""
    out: dict[str, Any] = {
        "model": done.model, "routing": done.routing, "algorithm": done.schedule.algorithm, "time_s": done.seconds,
        "sends": len(done.sends), "chips": done.network.chips, "links": done.network.links,
        "levels": {
            name: {
                "carried_bytes": used.carried, "peak_utilisation": used.peak, "busiest_link": used.busiest,
                "busiest_link_bytes": used.busiest_bytes, "busy_links": used.busy, "links": used.links,
            }
            for name, used in done.levels.items()
        },
    }  # fmt: skip
    if place.failed:
        out["failed"] = list(place.failed)
        out["left"] = {
            name: {"bandwidth_bytes_per_s": one.bandwidth, "part": one.part, "worst_chip": one.worst,
                   "worst_chip_part": one.worst_part}
            for name, one in place.left.items()
        }  # fmt: skip
    return out


def beside(result: Result, place: Place, done: Played) -> Result:
    """A closed form's answer with what the same algorithm does on the links."""
    found = {**_mapping(result), "network": figures(place, done)}
    return Result(
        command=result.command, inputs=result.inputs, result=found, assumptions=result.assumptions,
        evidence=result.evidence, cost=result.cost, details={**result.details, "played": done, "place": place},
    )  # fmt: skip


def instead(place: Place, ask: Ask, done: dict[str, Played], inputs: dict[str, Any]) -> Result:
    """An answer that rests on the links alone: a network model asked for, faults, a network of the user's own."""
    name, best = next(iter(done.items()))
    seconds = best.seconds
    rate = ask.size / seconds if seconds > 0 else math.nan
    bus = {"all_reduce": 2.0, "all_gather": 1.0, "reduce_scatter": 1.0, "all_to_all": 1.0}.get(ask.kind)
    ranks, closed = ask.ranks, _closed(place, ask, name)
    found: dict[str, Any] = {
        "time_s": seconds, "algorithm": name, "algbw_bytes_per_s": rate,
        "busbw_bytes_per_s": rate * (bus * (ranks - 1) / ranks if bus else 1.0),
        "lower_bound_s": None if closed is None else float(closed.lower_bound.value),
        "bytes_on_links": _sent(best),
        "ranks": ranks, "algorithms_s": {each: one.seconds for each, one in done.items()},
        "bound": _why(best), "network": figures(place, best),
    }  # fmt: skip
    told = place.assumptions
    if place.working < best.network.chips:
        told = (*told, Assumption(what="ranks", value=f"{ranks}, on chips that have not failed", source="--fail"))
    if closed is not None and place.system is not None:
        told = (*assumed(place.system, ask.ranks_per_chip, closed.time), *told)
    return Result(
        command="collective", inputs=inputs, result=found, assumptions=told, details={"played": best, "place": place},
    )  # fmt: skip


def _closed(place: Place, ask: Ask, name: str) -> CollectiveCost | None:
    """The closed form on the whole system, whose constants the sends pay too; None for a network of the user's own."""
    if not place.levels:
        return None
    return collective(
        ask.kind, size=ask.size, group=Group(ranks=ask.ranks), levels=place.levels,
        ranks_per_chip=float(ask.ranks_per_chip), copies=ask.copies,
        algorithm=name if name in CLOSED[ask.kind] else "auto",
    )  # fmt: skip


def _sent(done: Played) -> dict[str, float]:
    """Bytes per rank that chips send over their links of each level, as the closed forms count them: a switch's links
    out are not counted again."""
    network, out = done.network, {}
    from_chips = np.where(network.source < network.chips, done.run.carried, 0.0)
    for k, name in enumerate(network.levels):
        sent = float(from_chips[network.level == k].sum())
        if sent:
            out[name] = sent / done.schedule.ranks
    return out


def _why(done: Played) -> str:
    """The level whose links are busy for the largest part of the time."""
    network, run = done.network, done.run
    if not done.seconds or not network.links:
        return "nothing"
    busy = run.carried / network.bandwidth / done.seconds
    link = int(busy.argmax())
    if not busy[link]:
        return "launch and steps"
    level = network.levels[int(network.level[link])]
    share = f"{100 * float(busy[link]):.0f} % of the time at the data sheet's rate"
    return f"{level} links ({network.link_name(link)}: {share})"


def _mapping(result: Result) -> dict[str, Any]:
    assert isinstance(result.result, dict)
    return result.result


__all__ = ["MODELS", "Ask", "Place", "beside", "figures", "instead", "of_file", "of_system", "played"]
