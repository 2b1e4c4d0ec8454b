"""When every instruction of a core starts and ends.

Compute engines take their instructions in program order. DMAs are issued in program order too, loads from one queue
and stores from another; the DMA engines serve what is issued in the order of its time. So an instruction is placed
once nothing that may start before it can still appear.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass

import numpy as np

from trainshed.chip.accesses import Accesses
from trainshed.chip.record import Instruction
from trainshed.chip.timing.cost import cost
from trainshed.chip.timing.order import dependencies
from trainshed.chip.timing.rates import Rates
from trainshed.chip.words import engine

Array = np.ndarray[tuple[int], np.dtype[np.float64]]


@dataclass(frozen=True)
class Clock:
    """Start and end (the engine is free again) and when results may be used, per instruction of a core, seconds."""

    start: Array
    end: Array
    ready: Array
    release: Array
    """When all that an instruction waits for has happened (a DMA may yet wait for its engines)."""
    cause: list[int]
    """The instruction each waited for last (-1: none)."""
    seconds: float
    waits: list[list[int]]
    """The earlier instructions whose results, or whose memory, each waited for."""


class _Dma:
    """The DMA engines of a core: each serves its descriptors one after the other."""

    def __init__(self, rates: Rates) -> None:
        self._free = [0.0] * rates.dma_engines
        self._next = 0
        self._rates = rates

    def serve(self, item: Instruction, ready: float) -> tuple[float, float, float]:
        """When a transfer's first byte moves, when its last has, and when its semaphore is seen."""
        rates, work = self._rates, item.work
        engines = rates.dma_engines
        count = max(work.get("descriptors", 1), 1)
        size = work.get("bytes", 0) / count
        if count < engines and size > 2 * _SPLIT:
            pieces = min(engines // count, int(size // _SPLIT))
            count, size = count * pieces, size / pieces
        each = max(size / rates.dma_bandwidth, rates.descriptor)
        share, more = divmod(count, engines)
        start, end = float("inf"), 0.0
        for place in range(engines if share else more):
            which = (self._next + place) % engines
            begin = max(self._free[which], ready)
            done = begin + each * (share + (place < more))
            self._free[which] = done
            start, end = min(start, begin), max(end, done)
        self._next = (self._next + more) % engines
        return start, end, end + max(rates.dma_fixed - rates.semaphore - rates.descriptor, 0.0)


#: Bytes of the pieces into which few large descriptors are cut for several engines: an estimate, Neuron's default DMA
#: packet of 4 KiB (Neuron runtime, "Collectives"; how the compiler cuts is not published).
_SPLIT = 4096


def queue(item: Instruction) -> str:
    """What keeps instructions in program order: an engine, or the queue that issues loads or stores."""
    if item.engine is not engine.dma:
        return item.engine.name
    return "load" if item.work.get("hbm_read", 0) else "store"


def clock(columns: Accesses, rates: Rates) -> Clock:
    """The times of one core's instructions."""
    items = columns.core.instructions
    count = len(items)
    waits = dependencies(columns, {"sbuf": rates.sbuf_row, "psum": rates.psum_row})
    users: list[list[int]] = [[] for _ in range(count)]
    behind, last = [-1] * count, dict[str, int]()
    left = [len(earlier) for earlier in waits]
    for i, item in enumerate(items):
        for j in waits[i]:
            users[j].append(i)
        line = queue(item)
        if line in last:
            behind[last[line]] = i
            left[i] += 1
        last[line] = i
    start, end, ready = np.zeros(count), np.zeros(count), np.zeros(count)
    at, cause = [0.0] * count, [-1] * count
    dma = _Dma(rates)
    heap = [(0.0, i) for i in range(count) if not left[i]]

    def release(k: int, moment: float, by: int) -> None:
        if moment > at[k]:
            at[k], cause[k] = moment, by
        left[k] -= 1
        if not left[k]:
            heapq.heappush(heap, (at[k], k))

    while heap:
        moment, i = heapq.heappop(heap)
        item = items[i]
        if item.engine is engine.dma:
            free = moment
            start[i], end[i], ready[i] = dma.serve(item, moment + rates.semaphore)
        else:
            spent = cost(item, rates)
            free = moment + spent.busy
            start[i], end[i], ready[i] = moment, free, free + spent.latency
        for k in users[i]:
            # TensorE adds to what it has in PSUM, and reads what it is given, without a pause between matmuls.
            together = item.engine is engine.tensor and items[k].engine is engine.tensor
            release(k, free if together else float(ready[i]), i)
        if behind[i] >= 0:
            release(behind[i], free, i)
    return Clock(start, end, ready, np.array(at), cause, float(ready.max(initial=0.0)), waits)
