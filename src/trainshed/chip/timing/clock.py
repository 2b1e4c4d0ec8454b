"""When every instruction of a launch starts and ends.

Compute engines take their instructions in program order. DMAs are issued in program order too, loads from one queue
and stores from another; the DMA engines serve what is issued in the order of its time. So an instruction is placed
once nothing that may start before it can still appear.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from trainshed.chip.accesses import Accesses
from trainshed.chip.core import NeuronCore
from trainshed.chip.errors import NkiValidationError, violation
from trainshed.chip.timing.kinds import SECOND, Array, Kind, Kinds, interleaved, kinds
from trainshed.chip.timing.order import Edges, dependencies, needed
from trainshed.chip.timing.rates import Rates
from trainshed.chip.timing.repeat import runs
from trainshed.chip.timing.stepper import DeadlockError, Program, Stepper

Times = np.ndarray[tuple[int], np.dtype[np.float64]]


@dataclass(frozen=True)
class Clock:
    """Start and end (the engine is free again) and when results may be used, per instruction of a core, seconds."""

    start: Times
    end: Times
    ready: Times
    release: Times
    """When all that an instruction waits for has happened (a DMA may yet wait for its engines)."""
    cause: list[int]
    """The instruction each waited for last (-1: none, or one of another core)."""
    seconds: float
    queue: list[str]
    """What keeps each in program order: an engine, or a queue of DMAs."""
    edges: Edges
    """What each waits for by data or memory, all of it."""

    @cached_property
    def waits(self) -> list[list[int]]:
        """The earlier instructions whose results, or whose memory, each waited for."""
        found: list[list[int]] = [[] for _ in self.cause]
        for later, earlier in zip(self.edges.later.tolist(), self.edges.earlier.tolist(), strict=True):
            found[later].append(earlier)
        return found


def clock(columns: Accesses, rates: Rates, *, repeat: bool = True) -> Clock:
    """The times of a launch of one core."""
    return clocks([columns], rates, repeat=repeat)[0]


Meeting = Sequence[tuple[int, int]]
"""Instructions that begin together, as (place of the core among the columns, place of the instruction)."""


def clocks(
    columns: Sequence[Accesses], rates: Rates, *, repeat: bool = True, meetings: Sequence[Meeting] = ()
) -> list[Clock]:
    """The times of the cores of a launch, which wait for each other at barriers and exchanges.

    ``repeat``: tell what repeats from what was stepped, which gives the same times. ``meetings``: what else begins
    together: collectives, where the cores are of several ranks.
    """
    made, edges = program(columns, rates, meetings)
    stepper = Stepper(made, rates, runs(made.kind, made.edges) if repeat else [])
    try:
        stepper.run()
    except DeadlockError as error:
        raise _circle(columns, error.args[0]) from None
    count = len(columns)
    found = []
    names = [made.queues[kind.queue] for kind in made.kinds]
    for place, column in enumerate(columns):
        mine = slice(place, len(column.core.instructions) * count, count)
        cause = stepper.cause[mine]
        own = np.where((cause >= 0) & (cause % count == place), cause // count, -1)
        columns_of = (stepper.start, stepper.end, stepper.ready, stepper.release)
        start, end, ready, release = (times[mine] / SECOND for times in columns_of)
        found.append(Clock(
            start, end, ready, release, own.tolist(), float(ready.max(initial=0.0)),
            [names[kind] for kind in made.kind[mine].tolist()], edges[place],
        ))  # fmt: skip
    return found


def _circle(columns: Sequence[Accesses], at: int) -> NkiValidationError:
    """The error of instructions that wait for each other, from one of them."""
    place, core = divmod(at, len(columns))
    item = columns[core].core.instructions[place]
    return violation(
        item.opcode, "", "waits for", value="an instruction that waits for it", rule="depends-on", at=item.source,
        expected="no circle of depends_on, with_schedule and data",
    )  # fmt: skip


def program(columns: Sequence[Accesses], rates: Rates, meetings: Sequence[Meeting] = ()) -> tuple[Program, list[Edges]]:
    """The instructions of all cores, one by one in turn, as one program; and each core's own edges."""
    count = len(columns)
    found = [kinds(column, rates) for column in columns]
    capacity = {"sbuf": rates.sbuf_row, "psum": rates.psum_row}
    edges = [dependencies(column, capacity) for column in columns]
    kept = [needed(pairs, part) for pairs, part in zip(edges, found, strict=True)]
    if count == 1:
        return Program(found[0].kinds, found[0].of, found[0].queues, kept[0], (0,) * len(found[0].queues)), edges
    merged: list[Kind] = []
    queues: list[str] = []
    cores: list[int] = []
    of = []
    for place, part in enumerate(found):
        of.append(part.of + len(merged))
        merged += [kind._replace(queue=kind.queue + len(queues)) for kind in part.kinds]
        queues += part.queues
        cores += [place] * len(part.queues)
    later = np.concatenate([pair.later * count + place for place, pair in enumerate(kept)])
    earlier = np.concatenate([pair.earlier * count + place for place, pair in enumerate(kept)])
    later, earlier = _met(columns, found, meetings, later, earlier)
    order = np.lexsort((earlier, later))
    pairs = Edges(later[order], earlier[order])
    return Program(merged, interleaved(of, -1), queues, pairs, tuple(cores)), edges


def _met(
    columns: Sequence[Accesses], found: Sequence[Kinds], meetings: Sequence[Meeting], later: Array, earlier: Array
) -> tuple[Array, Array]:
    """Edges between cores: a barrier, an exchange or a collective begins when the other cores' could."""
    count = len(columns)
    meeting: dict[object, list[int]] = {n: [i * count + place for place, i in met] for n, met in enumerate(meetings)}
    waits: dict[int, list[int]] = {one: [] for group in meeting.values() for one in group}
    for place, (column, part) in enumerate(zip(columns, found, strict=True)):
        last: dict[int, int] = {}
        for i, (item, queue) in enumerate(zip(column.core.instructions, part.queue().tolist(), strict=True)):
            key = _meeting(column.core, item.opcode, item.attributes)
            if key is not None:
                meeting.setdefault(key, []).append(i * count + place)
            if key is not None or i * count + place in waits:
                waits[i * count + place] = [last[queue] * count + place] if queue in last else []
            last[queue] = i
    for one, two in zip(later.tolist(), earlier.tolist(), strict=True):
        if one in waits:
            waits[one].append(two)
    pairs = [(one, two) for group in meeting.values() for one in group for other in group if other != one
             for two in waits[other]]  # fmt: skip
    more = np.array(pairs, np.int64).reshape(-1, 2)
    return np.concatenate((later, more[:, 0])), np.concatenate((earlier, more[:, 1]))


def _meeting(core: NeuronCore, opcode: str, attributes: dict[str, object]) -> tuple[object, ...] | None:
    """What instructions of two cores of one launch have in common that begin together."""
    rank = core.launch.rank if core.launch is not None else 0
    if opcode == "core_barrier":
        return "barrier", rank, attributes["barrier"]
    if opcode == "sendrecv" and attributes["receive_from"] != core.index:
        return "pipe", rank, attributes["pipe"], attributes["turn"]
    return None
