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
    """Times of a program's instructions in femtoseconds.

    What asks for nothing that engines share is placed as soon as all that it waits for is; the rest in the order of
    time, from a heap.
    """

    def __init__(self, program: Program, rates: Rates, repeated: list[Run]) -> None:
        count = len(program.kind)
        self._program, self._rates, self._kinds = program, rates, _without_own_ports(program)
        self.start, self.end, self.ready, self.release = (np.zeros(count, np.int64) for _ in range(4))
        self.cause = np.full(count, -1, np.int64)
        self._semaphore = whole(rates.semaphore)
        self._settle = whole(max(rates.dma_fixed - rates.semaphore - rates.descriptor, 0.0))
        self._times: tuple[list[int], ...] = ([0] * count, [0] * count, [0] * count, [0] * count)
        """``start``, ``end``, ``ready`` and ``release`` of what is stepped."""
        self._causes = [-1] * count
        self._told: list[tuple[Array, Array, Array]] = []
        """Places of what is told, their four times, their causes."""
        queue = np.array([kind.queue for kind in program.kinds] + [-1], np.int64)[program.kind]
        ahead, behind = _in_turn(queue)
        earlier = np.concatenate((program.edges.earlier, ahead))
        order = np.argsort(earlier, kind="stable")
        self._users = np.concatenate((program.edges.later, ~behind))[order]
        """By instruction those that wait for its result, and as ``~k`` the one that waits for its queue."""
        self._first = np.searchsorted(earlier[order], np.arange(count + 1))
        left = np.bincount(np.concatenate((program.edges.later, behind)), minlength=count)
        self._left: list[int] = left.tolist()
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
        self._pairs_of: dict[Run, tuple[Array, Array, Array]] = {}
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
        self._step()
        if self.stepped + self.told < int((self._program.kind >= 0).sum()):
            raise DeadlockError(next(k for k, left in enumerate(self._left) if left > 0))
        columns = tuple(np.array(times, np.int64) for times in self._times)
        self.start, self.end, self.ready, self.release = columns
        self.cause = np.array(self._causes, np.int64)
        for places, times, causes in self._told:
            for column, told in zip(columns, times, strict=True):
                column[places] = told
            self.cause[places] = causes

    def _step(self) -> None:
        kinds, kind_of = self._kinds, self._program.kind.tolist()
        heap, looks, users, first = self._heap, self._looks, self._users.tolist(), self._first.tolist()
        left, at, by, some = self._left, self._at, self._by, self._some
        (start, end, ready, release), causes = self._times, self._causes
        in_time = self._in_time()
        push, pop = heapq.heappush, heapq.heappop
        while heap:
            moment, i, made = pop(heap)
            if i in looks and not made and self._tell(looks[i], moment, i):
                heap = self._heap
                continue
            going = [i]
            while going:
                i = going.pop()
                kind = kinds[kind_of[i]]
                if not made:
                    release[i], causes[i] = at[i], by[i]
                if not kind.descriptors:
                    start[i], free, stop = self._on_engine(at[i], kind)
                    end[i], done = free, stop + kind.latency
                elif kind.busy and not made:
                    push(heap, (moment + kind.busy, i, True))
                    break
                else:
                    start[i], end[i], done, free = *self._on_dma(moment, kind), moment
                ready[i] = done
                self.stepped += 1
                if self._run is not None:
                    self._log.append(i)
                for k in users[first[i] : first[i + 1]]:
                    when = done
                    if k < 0:
                        k, when = ~k, free
                    if when > at[k] or (when == at[k] and 0 <= by[k] < i):  # of two that end at once the later one
                        at[k], by[k] = when, i
                    left[k] -= 1
                    if left[k]:
                        some.add(k)
                        continue
                    some.discard(k)
                    if in_time[k]:
                        push(heap, (at[k], k, False))
                    else:
                        going.append(k)
                made = False

    def _in_time(self) -> list[bool]:
        """Whose turn in time matters: DMAs, what goes ways that engines share, and where the state is looked at."""
        shared = np.array([kind.port is not None or kind.descriptors > 0 for kind in self._kinds] + [False])
        found = shared[self._program.kind]
        found[list(self._looks)] = True
        turns: list[bool] = found.tolist()
        return turns

    def _on_dma(self, moment: int, kind: Kind) -> tuple[int, int, int]:
        """When a transfer begins and ends, and when what waits for it may go on."""
        engines = self._dma[self._program.cores[kind.queue]]
        begun, ended = engines.serve(kind.descriptors, kind.each, moment + self._semaphore)
        return begun, ended, ended + self._settle

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
        log, period = np.array(self._log[place:], np.int64), i - first
        times = self._periods_left(run, period, i, log)
        if times < 1:
            return False
        self._seen.clear()
        self._skip(run, period, times, moment - before, (moment, i), log)
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

    def _periods_left(self, run: Run, period: int, i: int, log: Array) -> int:
        """Periods that can be told: what they touch lies in the run, and nothing beyond it may start before their end.

        Of what comes after the run, an instruction may start once all of the run that it waits for is placed.
        """
        if log.min() < run.start:
            return 0
        of, user, _ = self._pairs(run)
        within = user[np.isin(of, log) & (user < run.stop)]
        times = (run.stop - 1 - max(i, int(log.max()), int(within.max(initial=0)))) // period
        _, when = _periods(of, log, period)
        coming = (user >= run.stop) & (when > 0)
        user, when = user[coming], when[coming]
        order = np.argsort(user, kind="stable")
        beyond, first, count = np.unique(user[order], return_index=True, return_counts=True)
        last = np.maximum.reduceat(when[order], first) if len(first) else when
        free = count == np.array([self._left[k] for k in beyond.tolist()], np.int64)
        return min(times, int(last[free].min(initial=times + 1)) - 1)

    def _pairs(self, run: Run) -> tuple[Array, Array, Array]:
        """Of a run's instructions every one with each that waits for it, and whether that waits for its queue."""
        found = self._pairs_of.get(run)
        if found is None:
            first = self._first[run.start : run.stop + 1]
            users = self._users[first[0] : first[-1]]
            of = np.repeat(np.arange(run.start, run.stop, dtype=np.int64), np.diff(first))
            found = self._pairs_of[run] = (of, np.maximum(users, ~users), (users < 0).astype(np.int64))
        return found

    def _skip(self, run: Run, period: int, times: int, span: int, now: tuple[int, int], log: Array) -> None:
        """Tell ``times`` periods from the last one, whose instructions are in ``log``."""
        by, ahead = times * span, times * period
        self.told += times * len(log)
        steps, places = np.arange(1, times + 1)[:, None], log.tolist()
        last = np.array([[column[k] for k in places] for column in self._times], np.int64)
        causes = np.array([self._causes[k] for k in places], np.int64)
        self._told.append((
            (log + steps * period).reshape(-1), (last[:, None] + steps * span).reshape(4, -1),
            np.where(causes < 0, -1, causes + steps * period).reshape(-1),
        ))  # fmt: skip
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
            left[k + ahead], at[k + ahead] = 0, at[k] + by
            cause[k + ahead] = one + ahead if one >= run.start else one
            heapq.heappush(self._heap, (moment + by, k + ahead, made))
            if made:  # it was released before, with what is known of it
                self._times[3][k + ahead], self._causes[k + ahead] = self._times[3][k] + by, cause[k + ahead]
        for engines in self._dma:
            engines.later(by)
        for ramp in self._ramps:
            ramp.later(by)
        self._ports = {port: moment + by for port, moment in self._ports.items()}
        self._beyond(run, period, times, span, log, last)

    def _beyond(self, run: Run, period: int, times: int, span: int, log: Array, last: Array) -> None:
        """What comes after a run, and waits for instructions that were told, has their ends.

        ``last``: the four times of those in ``log``.
        """
        _, end, ready, release = last
        kinds = [self._kinds[kind] for kind in self._program.kind[log].tolist()]
        making = np.array([kind.busy if kind.descriptors else -1 for kind in kinds], np.int64)
        free = np.where(making < 0, end, release + making)  # a DMA's queue goes on once its descriptors are made
        of, user, by_queue = self._pairs(run)
        which, when = _periods(of, log, period)
        found = np.flatnonzero((user >= run.stop) & (when > 0) & (when <= times))
        at, by = self._at, self._by
        which, by_queue = which[found], by_queue[found]
        done = np.where(by_queue > 0, free[which], ready[which]) + when[found] * span
        for i, k, moment in zip(of[found].tolist(), user[found].tolist(), done.tolist(), strict=True):
            if moment > at[k] or (moment == at[k] and 0 <= by[k] < i):
                at[k], by[k] = moment, i
            self._left[k] -= 1
            self._some.add(k)


def _periods(of: Array, log: Array, period: int) -> tuple[Array, Array]:
    """Of instructions of a run: the like one's place in the log of a period, and how many periods later they are."""
    like = np.zeros(period, np.int64)
    like[log % period] = np.arange(len(log))
    which = like[of % period]
    return which, (of - log[which]) // period


def _without_own_ports(program: Program) -> list[Kind]:
    """The kinds without the ways that only one queue uses: it never finds them taken."""
    queues: dict[object, set[int]] = {}
    for kind in program.kinds:
        queues.setdefault((program.cores[kind.queue], kind.port), set()).add(kind.queue)
        if kind.held != kind.busy:  # it is free before its way is
            queues[program.cores[kind.queue], kind.port].add(-1)
    return [
        kind if len(queues[program.cores[kind.queue], kind.port]) > 1 else kind._replace(port=None)
        for kind in program.kinds
    ]


def _in_turn(queue: Array) -> tuple[Array, Array]:
    """Pairs of instructions that follow each other in a queue: those ahead and those behind (-1: no queue)."""
    order = np.argsort(queue, kind="stable")
    order = order[queue[order] >= 0]
    same = queue[order[1:]] == queue[order[:-1]]
    return order[:-1][same], order[1:][same]
