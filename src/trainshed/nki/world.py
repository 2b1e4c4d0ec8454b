"""Several ranks of one kernel, run together so that ``nki.collectives`` have somebody to exchange with.

Each rank is a launch of its own, with its own HBM; all cores of all ranks take turns. Values go the way of the
schedule of the algorithm that is cheapest on the links of a system (``nki.collectives_values``); a collective takes
what the fabric says of it, and begins when the last of its ranks has come to it.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

from trainshed.chip.accesses import Accesses, accesses
from trainshed.chip.core import NeuronCore
from trainshed.chip.launch import Launch
from trainshed.chip.record import Instruction
from trainshed.chip.timing.clock import Clock, clocks
from trainshed.chip.timing.cost import LINKS
from trainshed.chip.timing.rates import rates
from trainshed.chip.timing.timing import Timing, timing
from trainshed.chip.turns import Turns
from trainshed.core.errors import UserError
from trainshed.fabric import CollectiveCost
from trainshed.nki.collectives import Combine
from trainshed.nki.collectives_cost import Links, system_of
from trainshed.nki.run import Simulated


@dataclass(eq=False)
class Meeting:
    """One collective of some ranks: what each brought, in the order of ``members``."""

    members: tuple[int, ...]
    core: int
    """Which core of each rank."""
    turn: int
    """How many of its collectives with these members came before."""
    brought: dict[int, tuple[Instruction, Any]] = field(default_factory=dict)
    results: list[Any] | None = None

    @property
    def first(self) -> Instruction:
        """The record of the first member."""
        return self.brought[self.members[0]][0]

    @property
    def opcode(self) -> str:
        """The collective, as ``nki.collectives`` calls it."""
        return self.first.opcode

    @property
    def bytes(self) -> int:
        """Of the rank that brings most."""
        return max(record.work["bytes"] for record, _ in self.brought.values())


class Exchange(NamedTuple):
    """One collective of a run."""

    opcode: str
    members: tuple[int, ...]
    bytes: int
    """Of the rank that brings most."""
    algorithm: str
    seconds: float
    """From the moment at which the last rank has come to it."""
    closed: float
    """The same by the fabric's closed form."""


class World:
    """The launches of all ranks, and the links between them."""

    def __init__(self, links: Links) -> None:
        self.launches: list[Launch] = []
        self.links = links
        self.meetings: dict[Hashable, Meeting] = {}

    def add(self, launch: Launch) -> None:
        """Take a launch in as the next rank."""
        launch.world, launch.rank = self, len(self.launches)
        self.launches.append(launch)

    def exchange(
        self, core: NeuronCore, record: Instruction, members: tuple[int, ...], value: Any, combine: Combine
    ) -> Any:
        """What this rank gets of the n-th exchange of this core with that of the other ``members``.

        ``combine`` is asked once, when all are there; not at all where nothing is computed (``value`` is None).
        """
        counts: dict[Hashable, int] = core.state.setdefault("collectives", {})
        turn = counts[members] = counts.get(members, -1) + 1
        meeting = self.meetings.setdefault((members, core.index, turn), Meeting(members, core.index, turn))
        rank = core.launch.rank
        meeting.brought[rank] = record, value
        core.launch.wait(core, lambda: len(meeting.brought) == len(members), record.opcode)
        for other in members:
            opcode = meeting.brought[other][0].opcode
            if opcode != record.opcode:
                raise UserError(
                    f"{record.opcode}: collective of rank {other} at the same place", where=f"rank {rank}",
                    value=opcode, expected=record.opcode,
                )  # fmt: skip
        if value is None:
            return None
        if meeting.results is None:
            meeting.results = combine([meeting.brought[one][1] for one in members], self.way(meeting))
            meeting.brought = {one: (item, None) for one, (item, _) in meeting.brought.items()}
        place = members.index(rank)
        found, meeting.results[place] = meeting.results[place], None
        return found

    def way(self, meeting: Meeting) -> CollectiveCost:
        """The closed form whose algorithm is cheapest, all cores of a rank at the same time."""
        concurrent = len(self.launches[0].cores) * self._channels(meeting)
        return self.links.cost(meeting.opcode, meeting.bytes, meeting.members, concurrent)

    def told(self, meeting: Meeting) -> Exchange:
        """A collective and what it takes. Cores of a rank that name the same tensors have one collective together."""
        like = (self.meetings.get((meeting.members, core, meeting.turn)) for core in range(len(self.launches[0].cores)))
        concurrent = len({one.first.reads for one in like if one is not None}) * self._channels(meeting)
        algorithm = str(self.way(meeting).chosen)
        way = algorithm if len(meeting.members) > 1 else "auto"
        closed = self.links.cost(meeting.opcode, meeting.bytes, meeting.members, concurrent, way)
        takes = self.links.seconds(meeting.first, meeting.bytes, meeting.members, concurrent, way)
        return Exchange(
            meeting.opcode, meeting.members, meeting.bytes, algorithm, takes, float(closed.time.value)
        )  # fmt: skip

    @staticmethod
    def _channels(meeting: Meeting) -> int:
        """Channels of a ring, which move at the same time."""
        channels: int = meeting.first.attributes.get("channels", 1)
        return channels

    # --- time -----------------------------------------------------------------------------------------------

    def priced(self) -> None:
        """Record in every collective what it takes."""
        for meeting in self.meetings.values():
            picoseconds = round(self.told(meeting).seconds * 1e12)
            for record, _ in meeting.brought.values():
                record.work[LINKS] = picoseconds

    def classes(self) -> list[int]:
        """By rank, the first rank that does the same and meets ranks that do the same.

        Ranks of one class have the same times: they begin together, and whatever one of them waits for, the others
        wait for its like. So one of each class is timed.
        """
        same = list(range(len(self.launches)))
        for rank, launch in enumerate(self.launches):
            same[rank] = next(one for one in range(rank + 1) if one == rank or _alike(self.launches[one], launch))
        met: list[list[tuple[Any, ...]]] = [[] for _ in same]
        for meeting in self.meetings.values():
            for rank in meeting.members:
                met[rank].append((meeting.core, meeting.brought[rank][0].serial, meeting))
        while True:
            seen: dict[Hashable, int] = {}
            found = []
            for rank, listed in enumerate(met):
                like = [(core, serial, _classes(meeting, same)) for core, serial, meeting in listed]
                found.append(seen.setdefault((same[rank], *sorted(like)), rank))
            if found == same:
                return same
            same = found

    def together(self, same: Sequence[int], place: dict[int, int]) -> list[list[tuple[int, int]]]:
        """The collectives of classes, as the cores that meet there and their instructions."""
        found = set()
        lnc = len(self.launches[0].cores)
        for meeting in self.meetings.values():
            group = _classes(meeting, same)
            if len(group) > 1:
                found.add(tuple((place[rank] * lnc + meeting.core, serial) for rank, serial in group))
        return [list(group) for group in sorted(found)]


def _classes(meeting: Meeting, same: Sequence[int]) -> tuple[tuple[int, int], ...]:
    """The classes that meet, and by which instruction."""
    return tuple(sorted({(same[rank], record.serial) for rank, (record, _) in meeting.brought.items()}))


def _alike(one: Launch, two: Launch) -> bool:
    """Whether two launches have executed the same."""
    for a, b in zip(one.cores, two.cores, strict=True):
        if len(a.instructions) != len(b.instructions):
            return False
        for x, y in zip(a.instructions, b.instructions, strict=True):
            if x.opcode != y.opcode or x.engine is not y.engine or x.work != y.work or x.after != y.after:
                return False
            if x.reads != y.reads or x.writes != y.writes or x.attributes != y.attributes:
                return False
    return True


class Ranks(list[Any]):
    """Each rank's results, as ``nki.simulate`` gives them; and when everything happened."""

    def __init__(self, results: Sequence[Any], world: World, runs: Sequence[Simulated], time: bool) -> None:
        super().__init__(results)
        self.world = world
        self.runs = tuple(runs)
        """Each rank's run, with its ``profile``."""
        self._time = time

    @cached_property
    def columns(self) -> tuple[tuple[Accesses, ...], ...]:
        """The records as columns, by rank and core."""
        return tuple(tuple(map(accesses, launch.cores)) for launch in self.world.launches)

    @cached_property
    def classes(self) -> tuple[int, ...]:
        """By rank, the first rank whose times are the same."""
        self._timed()
        self.world.priced()
        return tuple(self.world.classes())

    @cached_property
    def clocks(self) -> tuple[tuple[Clock, ...], ...]:
        """When every instruction starts and ends, by rank and core; all ranks begin at 0."""
        same = self.classes
        kept = sorted(set(same))
        place = {rank: i for i, rank in enumerate(kept)}
        columns = [column for rank in kept for column in self.columns[rank]]
        of = rates(columns[0].core.target.chip)
        found = clocks(columns, of, meetings=self.world.together(same, place))
        lnc = len(self.world.launches[0].cores)
        return tuple(tuple(found[place[rank] * lnc : (place[rank] + 1) * lnc]) for rank in same)

    @cached_property
    def timing(self) -> tuple[Timing, ...]:
        """Each rank's time: engines at work, bounds, critical path."""
        known: dict[int, Timing] = {}
        for rank, one in enumerate(self.classes):
            if one == rank:
                known[rank] = timing(self.columns[rank], found=self.clocks[rank])
        return tuple(known[one] for one in self.classes)

    @property
    def seconds(self) -> float:
        """From the common start to the end of the last rank."""
        return max(clock.seconds for cores in self.clocks for clock in cores)

    @property
    def collectives(self) -> tuple[Exchange, ...]:
        """Every collective with what it takes on the links, in the order in which ranks came to them."""
        return tuple(map(self.world.told, self.world.meetings.values()))

    def _timed(self) -> None:
        if not self._time:
            raise UserError("timing", where="nki.simulate_ranks", value="time=False", expected="a run with time=True")


def simulate_ranks(
    kernel: Any, inputs: Sequence[tuple[Any, ...] | dict[str, Any]], *, target: str | None = None, values: bool = True,
    time: bool = True, quantize_rule: str | None = None, system: str | None = None, ranks_per_chip: int | None = None,
    model: str = "flow",
) -> Ranks:  # fmt: skip
    """Run ``kernel`` (or ``kernel[lnc]``) as ``len(inputs)`` ranks that can exchange by ``nki.collectives``.

    Args:
        kernel: an ``@nki.jit`` kernel or a plain function; every rank runs it.
        inputs: each rank's arguments: a tuple of positional ones, or a dictionary of named ones.
        target, values, time, quantize_rule: as of ``nki.simulate``.
        system: whose links are between the ranks, as ``trn3-gen2``; default the chip's largest UltraServer.
        ranks_per_chip: ranks in order that share a chip; default all of its logical cores (Trainium3 at LNC 2: 4).
        model: of the links' time: ``flow``, the schedule's sends on the system's network, or ``closed``, a formula.

    Returns:
        A list of each rank's results, as ``nki.simulate`` gives them. With ``time`` its ``timing`` has each rank's
        time, ``seconds`` the whole, ``collectives`` what each took and by which algorithm.
    """
    if not inputs:
        raise UserError("inputs", where="nki.simulate_ranks", value=len(inputs), expected="those of at least one rank")
    turns = Turns()
    runs = [Simulated(kernel, target=target, values=values, quantize_rule=quantize_rule) for _ in inputs]
    bodies = []
    for run, given in zip(runs, inputs, strict=True):
        args, kwargs = ((), given) if isinstance(given, dict) else (tuple(given), {})
        bodies.append(run.prepare(args, kwargs, turns=turns))
    launches = [run.launch for run in runs if run.launch is not None]
    world = World(_links(launches, system, ranks_per_chip, model))
    jobs: list[tuple[NeuronCore, Callable[[NeuronCore], Any]]] = []
    for launch, body in zip(launches, bodies, strict=True):
        world.add(launch)
        jobs.extend((core, launch.job(body)) for core in launch.cores)
    returned = iter(turns.run(jobs))
    results = [run.finish([next(returned) for _ in range(run.lnc)]) for run in runs]
    return Ranks(results, world, runs, time)


def _links(launches: Sequence[Launch], system: str | None, per_chip: int | None, model: str) -> Links:
    """The fabric under the launches."""
    core = launches[0].cores[0]
    chip = core.target.chip
    if per_chip is None:
        cores = int(float(system_of(chip, 1, 1, system).chip.cores.value))
        per_chip = max(1, cores // len(launches[0].cores))
    return Links(system=system_of(chip, len(launches), per_chip, system), per_chip=per_chip, model=model)
