"""How long the launches of a case take, found as each of them ends, and whether their bounds hold."""

from __future__ import annotations

import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from trainshed.chip.timing.timing import Timing
from trainshed.nki.run import Simulated

#: How far a bound may pass the time: sums of floats, no more.
_ROUNDING = 1e-9


class TimeFailure(Exception):  # noqa: N818 - the name is told as the cause
    """A case that passes, but for the time of a launch."""


@dataclass
class Times:
    """The launches of one case."""

    launches: int = 0
    seconds: list[float] = field(default_factory=list)
    """Time of each launch that got one."""
    wrong: list[str] = field(default_factory=list)
    """Launches without time, and bounds over the time."""
    took: float = 0.0
    """Seconds of the machine spent on finding them."""

    def add(self, launch: Simulated) -> None:
        """Time a finished launch."""
        start = time.perf_counter()
        self.launches += 1
        try:
            found = launch.timing
        except Exception as error:  # whatever it is, the case is to be told
            place = traceback.extract_tb(error.__traceback__)[-1]
            self.wrong.append(f"{type(error).__name__} in {Path(place.filename).name}:{place.lineno}: {error}")
        else:
            self.seconds.append(found.seconds)
            self.wrong += broken(found, any(len(column.core.instructions) for column in launch.columns))
        self.took += time.perf_counter() - start

    def to_json(self) -> dict[str, Any]:
        """What is kept of them with the case's outcome."""
        return {
            "launches": self.launches, "time_s": max(self.seconds, default=None), "bounded": not self.wrong,
            "timing_s": round(self.took, 3),
        }  # fmt: skip


def broken(found: Timing, executes: bool = True) -> list[str]:
    """What cannot be true of a launch's time, a sentence each; one that ``executes`` nothing takes none."""
    if not 0 <= found.seconds < float("inf") or (found.seconds == 0) is executes:
        return [f"a launch takes {found.seconds} s"]
    return [
        f"bound {name} is {least:.6g} s, over the time of {found.seconds:.6g} s"
        for name, least in found.bounds.items()
        if not least <= found.seconds * (1 + _ROUNDING)
    ]


@contextmanager
def timed() -> Iterator[Times]:
    """Time every launch that ends meanwhile; ``TimeFailure`` at the end where one has none or breaks a bound."""
    found = Times()
    finish = Simulated.finish

    def finish_and_time(self: Simulated, returned: list[Any]) -> Any:
        result = finish(self, returned)
        found.add(self)
        return result

    setattr(Simulated, "finish", finish_and_time)  # noqa: B010 - a method of a class, for a while
    try:
        yield found
    finally:
        setattr(Simulated, "finish", finish)  # noqa: B010
    if found.wrong:
        raise TimeFailure(found.wrong[0])
