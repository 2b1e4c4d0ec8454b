"""How near collectives are meant to come to measurements, and whether they do: per system, chip and collective."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from trainshed.core import plain
from trainshed.validate.scores import Scored, statistics

#: Median over the systems of each system's median error.
SYSTEMS = 0.10
#: Median and 90th percentile of each chip and collective with at least LEAST counted points, all sizes together.
MEDIAN, P90, LEAST = 0.15, 0.40, 15
#: Median of the kernels that dispatch tokens to experts and combine them.
EXPERTS = 0.25
#: Median of launched programs that hold collectives.
PROGRAMS = 0.20


@dataclass(frozen=True, kw_only=True)
class Target:
    """Counted points that are judged together; None where nothing is asked."""

    what: str
    part: str
    counted: int
    covered: int
    median_abs_error: float | None
    p90_abs_error: float | None
    most_median: float | None = None
    most_p90: float | None = None

    @property
    def met(self) -> bool | None:
        """Whether all points are covered and no error is above what is asked; None where nothing is."""
        if self.most_median is None:
            return None
        errors = ((self.median_abs_error, self.most_median), (self.p90_abs_error, self.most_p90))
        within = all(error is not None and error <= most for error, most in errors if most is not None)
        return self.counted == self.covered and within

    def to_json(self) -> dict[str, Any]:
        """The line as the command prints it."""
        fields: dict[str, Any] = plain(self)
        return fields | {"met": self.met}


def targets(scored: Iterable[Scored]) -> list[Target]:
    """The lines of ``collectives.csv``; none where there is no such row."""
    rows = [s for s in scored if s.row.table == "collectives" and s.row.counted]
    alone = [s for s in rows if s.row.text("scope") == "alone"]
    systems = [_line("system", name, members) for name, members in _by("system", alone)]
    out = [_middle(systems)] if systems else []
    out += systems
    for chip, members in _by("chip", alone):
        for kind, several in _by("collective", members):
            if len(several) >= LEAST:
                out.append(_line("chip and collective", f"{chip} {kind}", several, MEDIAN, P90))
    for kind, members in _by("collective", alone):
        if kind.startswith("moe"):
            out.append(_line("experts", kind, members, EXPERTS))
    programs = [s for s in rows if s.row.text("scope") == "graph"]
    return out + [_line("programs", name, members, PROGRAMS) for name, members in _by("group", programs)]


def _by(column: str, scored: Sequence[Scored]) -> list[tuple[str, list[Scored]]]:
    found: dict[str, list[Scored]] = defaultdict(list)
    for s in scored:
        found[s.row.group if column == "group" else s.row.text(column) or ""].append(s)
    return sorted(found.items())


def _line(
    what: str, part: str, members: Sequence[Scored], most_median: float | None = None, most_p90: float | None = None
) -> Target:
    errors = [s.error for s in members if s.error is not None]
    median, p90, _ = statistics(errors)
    return Target(
        what=what, part=part, counted=len(members), covered=len(errors), median_abs_error=median, p90_abs_error=p90,
        most_median=most_median, most_p90=most_p90,
    )  # fmt: skip


def _middle(systems: Sequence[Target]) -> Target:
    """The median of the systems' medians."""
    medians = [s.median_abs_error for s in systems if s.median_abs_error is not None]
    return Target(
        what="systems", part="median of medians", counted=sum(s.counted for s in systems),
        covered=sum(s.covered for s in systems), median_abs_error=float(np.median(medians)) if medians else None,
        p90_abs_error=None, most_median=SYSTEMS,
    )  # fmt: skip
