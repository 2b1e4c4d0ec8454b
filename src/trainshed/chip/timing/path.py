"""What decided a core's time: the critical path by the kernel's lines, and what engines waited for when idle."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from trainshed.chip.timing.clock import Clock
from trainshed.chip.timing.origins import Array, Origin, Origins

#: Why an engine is idle before the first and after the last thing it does.
START, END = Origin("", "start of the kernel", ""), Origin("", "no more work", "")


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
        """All fields as plain JSON."""
        return {
            "instructions": self.instructions, "busy_s": self.busy, "share": self.share, "idle_s": self.idle,
            "waits": [wait.to_json() for wait in self.waits],
        }  # fmt: skip


def path(clock: Clock) -> Array:
    """The instructions of the critical path, from the one that ends last back to the first."""
    found = []
    at = int(clock.ready.argmax()) if len(clock.ready) else -1
    while at >= 0:
        found.append(at)
        at = clock.cause[at]
    return np.array(found, np.int64)


def critical(origins: Origins, clock: Clock) -> tuple[Step, ...]:
    """The critical path by origin, the longest first; the seconds add up to the kernel's.

    An instruction adds the time from when all it needs is there until the next one of the path has all it needs.
    """
    steps = path(clock)
    begins = clock.release[steps]
    ends = np.concatenate(([clock.seconds], begins))[:-1]
    return _steps(origins.names, origins.of[steps], ends - begins, clock.seconds)


def activity(origins: Origins, clock: Clock) -> dict[str, Activity]:
    """Every engine that executes anything: busy, idle, and what for."""
    return {name: _activity(origins, clock, name) for name in origins.engines}


def _activity(origins: Origins, clock: Clock, name: str) -> Activity:
    own = origins.on(name)
    own = own[np.argsort(clock.start[own], kind="stable")]
    starts, reach = clock.start[own], np.maximum.accumulate(clock.end[own])
    gaps = np.concatenate((starts, [clock.seconds])) - np.concatenate(([0.0], reach))
    waited = np.flatnonzero(gaps > 0)
    cause = np.asarray(clock.cause)[own[waited[waited < len(own)]]]
    known = len(origins.names)
    of = np.where(cause >= 0, origins.of[cause], known)
    if len(waited) > len(of):
        of = np.append(of, known + 1)
    idle = float(gaps[waited].sum())
    busy = clock.seconds - idle
    return Activity(
        instructions=len(own), busy=busy, share=_share(busy, clock.seconds), idle=idle,
        waits=_steps((*origins.names, START, END), of, gaps[waited], clock.seconds),
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
