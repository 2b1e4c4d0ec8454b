"""The event loop of the clock: instruction by instruction, and whole repetitions where the state comes again."""

from __future__ import annotations

import heapq
from typing import NamedTuple

import numpy as np

from trainshed.chip.timing.dma import DmaEngines
from trainshed.chip.timing.kinds import Array, Kind, whole
from trainshed.chip.timing.order import Edges
from trainshed.chip.timing.rates import Rates
from trainshed.chip.timing.repeat import Run


class Program(NamedTuple):
    """Instructions of a launch in one order."""

    kinds: list[Kind]
    kind: Array
    """Kind per instruction; -1: there is none in this place."""
    queues: list[str]
    edges: Edges
    cores: tuple[int, ...]
    """Core per queue."""


class DeadlockError(Exception):
    """Instructions wait for each other; the argument is one of them."""


class Ramp:
    """The power ramp of TensorE: after a window of time without work it is slow for as long.

    The hardware limits the engine's utilisation, so that work with gaps of its own loses nothing. Source: Neuron
    Explorer, "Understanding throttling".
    """

    def __init__(self, window: int, rate: float) -> None:
        self._window, self._slow = window, 1 / rate
        self._ended = self._until = -window

    def busy(self, now: int, work: int) -> int:
        """How long ``work`` takes from ``now`` on."""
        if now - self._ended >= self._window:
            self._until = now + self._window
        taken = round(work * self._slow) if now < self._until else work
        self._ended = now + taken
        return taken

    def state(self, now: int) -> tuple[int, int]:
        """All that decides what comes, relative to ``now``."""
        return max(self._ended - now, -self._window), max(self._until - now, 0)

    def later(self, by: int) -> None:
        """The same some time later."""
        self._ended += by
        self._until += by


class Stepper:
    """Times of a program's instructions in femtoseconds."""

    def __init__(self, program: Program, rates: Rates, repeated: list[Run]) -> None:
        count = len(program.kind)
        self._program, self._rates = program, rates
        self.start, self.end, self.ready, self.release = (np.zeros(count, np.int64) for _ in range(4))
        self.cause = np.full(count, -1, np.int64)
        later, earlier = program.edges
        order = np.argsort(earlier, kind="stable")
        self._users = later[order].tolist()
        self._first = np.searchsorted(earlier[order], np.arange(count + 1)).tolist()
        queue = np.array([kind.queue for kind in program.kinds] + [-1], np.int64)[program.kind]
        behind = _behind(queue)
        left = np.bincount(later, minlength=count)
        left[behind[behind >= 0]] += 1
        self._behind, self._left = behind.tolist(), left.tolist()
        self._at, self._by = [0] * count, [-1] * count
        self._heap = [(0, i, False) for i in np.flatnonzero((left == 0) & (program.kind >= 0)).tolist()]
        """When instructions may start, or have made their descriptors."""
        self._some: set[int] = set()
        cores = max(program.cores, default=0) + 1
        self._dma = [DmaEngines(rates.dma_engines) for _ in range(cores)]
        self._ramps = [Ramp(whole(rates.ramp), rates.ramp_rate) for _ in range(cores)] if rates.ramp else []
        self._tables: list[str | None] = [None] * cores
        self._ports: dict[tuple[int, str], int] = {}
        self._looks = {i: run for run in repeated for i in range(run.start + run.period, run.stop, run.period)}
        self._log: list[int] = []
        self._run: Run | None = None
        self._beyond_of: dict[Run, dict[int, list[int]]] = {}
        self._seen: dict[object, tuple[int, int, int]] = {}
        """States of this run: moment, instruction, and how much of the log was before."""
        self._looked = 0
        """Instructions stepped until the last look."""
        self.stepped = self.told = 0
        """Instructions that were placed one by one, and that were told."""

    def run(self) -> None:
        """Place every instruction.

        Raises ``depends_on`` where instructions wait for each other.
        """
        kinds, kind_of, cores = self._program.kinds, self._program.kind.tolist(), self._program.cores
        heap, looks, users, first, behind = self._heap, self._looks, self._users, self._first, self._behind
        left, at, by, some = self._left, self._at, self._by, self._some
        start, end, ready, released, cause = self.start, self.end, self.ready, self.release, self.cause
        semaphore = whole(self._rates.semaphore)
        settle = whole(max(self._rates.dma_fixed - self._rates.semaphore - self._rates.descriptor, 0.0))
        push, pop = heapq.heappush, heapq.heappop
        while heap:
            moment, i, made = pop(heap)
            if i in looks and not made and self._tell(looks[i], moment, i):
                heap = self._heap
                continue
            kind = kinds[kind_of[i]]
            if not made:
                released[i], cause[i] = moment, by[i]
                if kind.descriptors and kind.busy:
                    push(heap, (moment + kind.busy, i, True))
                    continue
            if self._run is not None:
                self._log.append(i)
            self.stepped += 1
            if kind.descriptors:
                free = moment
                begun, stop = self._dma[cores[kind.queue]].serve(kind.descriptors, kind.each, moment + semaphore)
                start[i], end[i], done = begun, stop, stop + settle
            else:
                start[i], free, stop = self._on_engine(moment, kind)
                end[i], done = free, stop + kind.latency
            ready[i] = done
            follow = [(k, done) for k in users[first[i] : first[i + 1]]]
            if behind[i] >= 0:
                follow.append((behind[i], free))
            for k, when in follow:
                if when > at[k]:
                    at[k], by[k] = when, i
                left[k] -= 1
                if left[k]:
                    some.add(k)
                else:
                    some.discard(k)
                    push(heap, (at[k], k, False))
        if self.stepped + self.told < int((self._program.kind >= 0).sum()):
            raise DeadlockError(next(k for k in range(len(left)) if left[k] > 0))

    def _on_engine(self, moment: int, kind: Kind) -> tuple[int, int, int]:
        """When an instruction that may start begins, when its engine is free, and when it has ended."""
        core, busy, held = self._program.cores[kind.queue], kind.busy, kind.held
        if kind.table is not None and self._tables[core] != kind.table:
            self._tables[core] = kind.table
            busy = held = busy + whole(self._rates.table_load)
        port = None if kind.port is None else (core, kind.port)
        if port is not None:
            moment = max(moment, self._ports.get(port, 0))
        if kind.tensor and self._ramps:
            slow = self._ramps[core].busy(moment, busy)
            busy, held = slow, held * slow // busy if busy else held
        if port is not None:
            self._ports[port] = moment + busy
        return moment, moment + held, moment + busy

    # --- what repeats ---------------------------------------------------------------------------------------

    def _tell(self, run: Run, moment: int, i: int) -> bool:
        """At a period's first instruction: whether the rest of the run has been told, from the last like state on."""
        if run is not self._run:
            self._run, self._log = run, []
            self._seen.clear()
        elif self.stepped - self._looked < len(self._some) // 8:
            return False  # a look takes the longer the more instructions wait
        self._looked = self.stepped
        state = self._state(run, moment, i)
        known = self._seen.get(state)
        self._seen[state] = (moment, i, len(self._log))
        if known is None:
            return False
        before, first, place = known
        log, period = self._log[place:], i - first
        times = self._periods_left(run, period, i, log)
        if times < 1:
            return False
        self._seen.clear()
        self._skip(run._replace(period=period), times, moment - before, (moment, i), np.array(log, np.int64))
        return True

    def _state(self, run: Run, now: int, i: int) -> object:
        """All that decides what comes, relative to this moment and instruction."""
        left, at, some = self._left, self._at, self._some
        return (
            tuple(sorted((k - i, left[k], max(at[k] - now, 0)) for k in some if k < run.stop)),
            tuple(sorted((moment - now, k - i, made) for moment, k, made in self._heap)),
            tuple(engines.state(now) for engines in self._dma),
            tuple(ramp.state(now) for ramp in self._ramps),
            tuple(self._tables),
            tuple(sorted((port, max(moment - now, 0)) for port, moment in self._ports.items())),
        )

    def _periods_left(self, run: Run, period: int, i: int, log: list[int]) -> int:
        """Periods that can be told: what they touch lies in the run, and nothing beyond it may start before their end.

        Of what comes after the run, an instruction may start once all of the run that it waits for is placed.
        """
        reach = i
        for one in log:
            if one < run.start:
                return 0
            reach = max(reach, one, self._behind[one] if self._behind[one] < run.stop else one)
            for k in self._users[self._first[one] : self._first[one + 1]]:
                if k < run.stop:
                    reach = max(reach, k)
        times = (run.stop - 1 - reach) // period
        like = {one % period: one for one in log}  # a period has one of each

        def when(one: int) -> int:
            """The period, counted from the last, in which an instruction of the run is placed."""
            return (one - like[one % period]) // period

        for k, before in self._after(run).items():
            coming = [when(one) for one in before if when(one) > 0]
            if coming and len(coming) == self._left[k]:
                times = min(times, max(coming) - 1)
        return times

    def _after(self, run: Run) -> dict[int, list[int]]:
        """Instructions that come after a run, each with those of the run that it waits for."""
        if run not in self._beyond_of:
            found: dict[int, list[int]] = {}
            for one in range(run.start, run.stop):
                later = self._users[self._first[one] : self._first[one + 1]]
                for k in (*later, self._behind[one]):
                    if k >= run.stop:
                        found.setdefault(k, []).append(one)
            self._beyond_of[run] = found
        return self._beyond_of[run]

    def _skip(self, run: Run, times: int, span: int, now: tuple[int, int], log: Array) -> None:
        """Tell ``times`` periods from the last one, whose instructions are in ``log``."""
        by, ahead = times * span, times * run.period
        self.told += times * len(log)
        places = (log + np.arange(1, times + 1)[:, None] * run.period).reshape(-1)
        for column in (self.start, self.end, self.ready, self.release):
            column[places] = (column[log] + np.arange(1, times + 1)[:, None] * span).reshape(-1)
        causes = self.cause[log]
        moved = causes + np.arange(1, times + 1)[:, None] * run.period
        self.cause[places] = np.where(causes < 0, -1, moved).reshape(-1)
        left, at, cause = self._left, self._at, self._by
        inside = [k for k in self._some if k < run.stop]
        held = [(k, left[k], at[k], cause[k]) for k in inside]
        waiting = [(moment, k, made, cause[k]) for moment, k, made in [*self._heap, (*now, False)]]
        self._some.difference_update(inside)
        for k, count, moment, one in held:
            self._some.add(k + ahead)
            left[k + ahead], at[k + ahead] = count, moment + by
            cause[k + ahead] = one + ahead if one >= run.start else one
        self._heap = []
        for moment, k, made, one in waiting:
            left[k + ahead], at[k + ahead] = 0, moment + by
            cause[k + ahead] = one + ahead if one >= run.start else one
            heapq.heappush(self._heap, (moment + by, k + ahead, made))
            if made:  # it was released before, with what is known of it
                self.release[k + ahead], self.cause[k + ahead] = self.release[k] + by, cause[k + ahead]
        for engines in self._dma:
            engines.later(by)
        for ramp in self._ramps:
            ramp.later(by)
        self._ports = {port: moment + by for port, moment in self._ports.items()}
        self._beyond(run, places.tolist())

    def _beyond(self, run: Run, places: list[int]) -> None:
        """What comes after a run, and waits for instructions that were told, has their ends."""
        users, first, left, at = self._users, self._first, self._left, self._at
        for i in places:
            follow = [(k, int(self.ready[i])) for k in users[first[i] : first[i + 1]]]
            if self._behind[i] >= 0:
                moved = self._program.kinds[self._program.kind[i]].descriptors > 0
                follow.append((self._behind[i], self._free(i) if moved else int(self.end[i])))
            for k, done in follow:
                if k >= run.stop:
                    if done > at[k]:
                        at[k], self._by[k] = done, i
                    left[k] -= 1
                    self._some.add(k)

    def _free(self, i: int) -> int:
        """When the queue of a DMA may go on: its descriptors are made."""
        return int(self.release[i]) + int(self._program.kinds[self._program.kind[i]].busy)


def _behind(queue: Array) -> Array:
    """The next instruction of the same queue (-1: none)."""
    order = np.argsort(queue, kind="stable")
    behind = np.full(len(queue), -1, np.int64)
    same = queue[order[1:]] == queue[order[:-1]]
    behind[order[:-1][same]] = order[1:][same]
    behind[queue < 0] = -1
    return behind
