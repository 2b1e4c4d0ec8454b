"""What decided a core's time: the critical path by the kernel's lines, and what engines waited for when idle."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from trainshed.chip.timing.clock import Clock
from trainshed.chip.timing.origins import Array, Origin, Origins

#: What is waited for besides instructions of the same core; the last: after an engine has done all it has to do.
START, OTHER, END = (Origin("", what, "") for what in ("start of the kernel", "another core", "no more work"))


@dataclass(frozen=True, kw_only=True)
class Step:
    """A part of a time: what instructions of one line of the kernel took of it, or had others wait for."""

    source: str
    opcode: str
    engine: str
    count: int
    seconds: float
    share: float
    """Of the kernel's time."""

    def to_json(self) -> dict[str, Any]:
        """All fields as plain JSON."""
        return {
            "source": self.source, "opcode": self.opcode, "engine": self.engine, "count": self.count,
            "time_s": self.seconds, "share": self.share,
        }  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Activity:
    """One engine over a kernel's time: at work or idle. For ``dma``: whether any transfer is under way."""

    instructions: int
    busy: float
    """Seconds; ``share``: of the kernel's time."""
    share: float
    idle: float
    waits: tuple[Step, ...]
    """What it waited for, the longest first: the instruction that came last of those the next one needed."""

    def to_json(self) -> dict[str, Any]:
        """Times as plain JSON, in the vendor's words (Neuron Explorer's active time)."""
        return {
            "active_s": self.busy, "active_percent": 100 * self.share, "idle_s": self.idle,
            "waits": [wait.to_json() for wait in self.waits],
        }  # fmt: skip


def path(clock: Clock, transfers: Array) -> tuple[Array, Array]:
    """The critical path, from the instruction that ends last back to the first, and when each begins to count.

    An instruction leads to the one whose end it waited for, a DMA that waited for DMA engines to the DMA before it;
    it counts from that end on. ``transfers``: indices of the core's DMAs.
    """
    before = _served_before(clock, transfers)
    found: list[int] = []
    begins: list[float] = []
    at = int(clock.ready.argmax()) if len(clock.ready) else -1
    while at >= 0:
        found.append(at)
        if at in before:
            begins.append(float(clock.start[at]))
            at = before[at]
        else:
            begins.append(float(clock.release[at]))
            at = clock.cause[at]
    return np.array(found, np.int64), np.array(begins)


def _served_before(clock: Clock, transfers: Array) -> dict[int, int]:
    """By DMA that waited for DMA engines, the one they served before it.

    From release to start every DMA needs the time that the quickest of its queue needs; more is waiting, where the
    DMA before it has not ended.
    """
    order = transfers[np.argsort(clock.start[transfers], kind="stable")]
    pauses = clock.start - clock.release
    least: dict[str, float] = {}
    for i in order.tolist():
        name = clock.queue[i]
        least[name] = min(least.get(name, pauses[i]), pauses[i])
    earlier, later = order[:-1], order[1:]
    needs = np.array([least[clock.queue[i]] for i in later.tolist()])
    waited = (pauses[later] > needs * (1 + 1e-9)) & (clock.end[earlier] >= clock.start[later])
    return dict(zip(later[waited].tolist(), earlier[waited].tolist(), strict=True))


def critical(origins: Origins, clock: Clock) -> tuple[Step, ...]:
    """The critical path by origin, the longest first; the seconds add up to the kernel's."""
    steps, begins = path(clock, origins.on("dma"))
    of = origins.of[steps]
    if len(begins) and begins[-1] > 0:  # another core had to come to a barrier, or to send
        of, begins = np.append(of, len(origins.names) + 1), np.append(begins, 0.0)
    ends = np.concatenate(([clock.seconds], begins))[:-1]
    return _steps(_every(origins), of, ends - begins, clock.seconds)


def _every(origins: Origins) -> tuple[Origin, ...]:
    return (*origins.names, START, OTHER, END)


def activity(origins: Origins, clock: Clock) -> dict[str, Activity]:
    """Every engine that executes anything: busy, idle, and what for."""
    return {name: _activity(origins, clock, name) for name in origins.engines}


def _activity(origins: Origins, clock: Clock, name: str) -> Activity:
    own = origins.on(name)
    own = own[np.argsort(clock.start[own], kind="stable")]
    starts, reach = clock.start[own], np.maximum.accumulate(clock.end[own])
    gaps = np.concatenate((starts, [clock.seconds])) - np.concatenate(([0.0], reach))
    waited = np.flatnonzero(gaps > 0)
    next_one = own[waited[waited < len(own)]]
    cause, known = np.asarray(clock.cause, np.int64)[next_one], len(origins.names)
    of = np.where(cause >= 0, origins.of[cause], known + (clock.release[next_one] > 0))
    if len(waited) > len(of):
        of = np.append(of, known + 2)
    idle = float(gaps[waited].sum())
    busy = clock.seconds - idle
    return Activity(
        instructions=len(own), busy=busy, share=_share(busy, clock.seconds), idle=idle,
        waits=_steps(_every(origins), of, gaps[waited], clock.seconds),
    )  # fmt: skip


def _steps(names: tuple[Origin, ...], of: Array, spent: Array, whole: float) -> tuple[Step, ...]:
    """Seconds added up by origin, the longest first."""
    seconds, counts = np.bincount(of, spent, len(names)), np.bincount(of, minlength=len(names))
    order = np.argsort(-seconds, kind="stable")
    return tuple(
        Step(**names[i]._asdict(), count=int(counts[i]), seconds=float(seconds[i]), share=_share(seconds[i], whole))
        for i in order[counts[order] > 0].tolist()
    )


def _share(part: float, whole: float) -> float:
    return float(part / whole) if whole else 0.0
