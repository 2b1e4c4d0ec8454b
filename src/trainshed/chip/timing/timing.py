"""What the clock says of a launch: time, engines at work, bounds, and the path that decided it."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from trainshed.chip.accesses import Accesses
from trainshed.chip.record import Instruction
from trainshed.chip.timing.clock import Clock, clock
from trainshed.chip.timing.cost import cost
from trainshed.chip.timing.rates import Rates, rates
from trainshed.chip.words import engine

#: Lines of the critical path that a summary tells.
_LINES = 8


@dataclass(frozen=True, kw_only=True)
class Step:
    """A part of the critical path: what instructions of one line of the kernel took of the whole time."""

    source: str
    opcode: str
    engine: str
    count: int
    seconds: float


@dataclass(frozen=True, kw_only=True)
class Timing:
    """A launch's time. Engines and bounds are of the core that ends last; ``mfu`` and ``mbu`` of all cores."""

    seconds: float
    busy: dict[str, float]
    """Seconds each engine is at work; ``dma``: at least one DMA engine."""
    bounds: dict[str, float]
    """Least time that the work of each engine, and the bytes moved by DMA, alone would take."""
    mfu: float
    """Matmul FLOPs over what TensorE could do in this time, in the products' dtypes."""
    mbu: float
    """Bytes from and to HBM over what the DMA engines could move in this time."""
    critical: tuple[Step, ...]

    @property
    def limit(self) -> str:
        """The bound that is nearest."""
        return max(self.bounds, key=lambda name: self.bounds[name])

    def to_json(self) -> dict[str, Any]:
        """All fields as plain JSON."""
        return {
            "seconds": self.seconds, "busy": self.busy, "bounds": self.bounds, "limit": self.limit, "mfu": self.mfu,
            "mbu": self.mbu, "critical": [vars(step) for step in self.critical],
        }  # fmt: skip


def timing(columns: Sequence[Accesses], of: Rates | None = None) -> Timing:
    """The time of a finished launch, from the columns of its cores; ``of``: rates other than the catalogue's."""
    of = of or rates(columns[0].core.target.chip)
    clocks = [clock(column, of) for column in columns]
    last = max(range(len(clocks)), key=lambda i: clocks[i].seconds)
    slowest, items = clocks[last], columns[last].core.instructions
    seconds, records = slowest.seconds, [item for column in columns for item in column.core.instructions]
    tensor = sum(cost(item, of).busy for item in records if item.engine is engine.tensor and "macs" in item.work)
    moved = sum(item.work.get("hbm_read", 0) + item.work.get("hbm_write", 0) for item in records)
    whole = seconds * len(columns)
    return Timing(
        seconds=seconds, busy=_busy(items, slowest), bounds=_bounds(items, slowest, of),
        mfu=tensor / whole if whole else 0.0,
        mbu=moved / (of.dma_bandwidth * of.dma_engines * whole) if whole else 0.0,
        critical=_critical(items, slowest),
    )  # fmt: skip


def _busy(items: Sequence[Instruction], found: Clock) -> dict[str, float]:
    """Seconds of each engine; of DMAs, which overlap, the time in which any is under way."""
    busy: defaultdict[str, float] = defaultdict(float)
    for i, item in enumerate(items):
        if item.engine is not engine.dma:
            busy[item.engine.name] += float(found.end[i] - found.start[i])
    moving = [i for i, item in enumerate(items) if item.engine is engine.dma]
    if moving:
        order = np.argsort(found.start[moving])
        starts, ends = found.start[moving][order], np.maximum.accumulate(found.end[moving][order])
        gaps = np.maximum(starts[1:] - ends[:-1], 0.0).sum()
        busy["dma"] = float(ends[-1] - starts[0] - gaps)
    return dict(busy)


def _bounds(items: Sequence[Instruction], found: Clock, of: Rates) -> dict[str, float]:
    bounds: defaultdict[str, float] = defaultdict(float)
    for i, item in enumerate(items):
        if item.engine is engine.dma:
            bounds["dma"] += item.work.get("bytes", 0) / (of.dma_bandwidth * of.dma_engines)
        else:
            bounds[item.engine.name] += float(found.end[i] - found.start[i])
    return dict(bounds)


def _critical(items: Sequence[Instruction], found: Clock) -> tuple[Step, ...]:
    """The path back from what ends last, by the kernel's lines; what each instruction adds to it."""
    if not items:
        return ()
    spent: defaultdict[tuple[str, str, str], float] = defaultdict(float)
    count: Counter[tuple[str, str, str]] = Counter()
    at, end = int(found.ready.argmax()), found.seconds
    while at >= 0:
        item, begin = items[at], float(found.release[at])
        key = str(item.source), item.opcode, item.engine.name
        spent[key] += end - begin
        count[key] += 1
        at, end = found.cause[at], begin
    return tuple(
        Step(source=key[0], opcode=key[1], engine=key[2], count=count[key], seconds=seconds)
        for key, seconds in sorted(spent.items(), key=lambda pair: -pair[1])[:_LINES]
    )
