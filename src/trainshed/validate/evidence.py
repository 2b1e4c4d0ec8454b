"""How far off Trainshed was on the published measurements most like an answer.

``evidence.csv.gz`` ships with the package: one line per counted measurement, with the log error that its prediction
has when the measurement's own *group* (its source) is left out of every fit (``validate.leave_out`` writes it). An
answer is compared with the lines of its chip, job, phase, dense or MoE, and dtype class. Where fewer than LEAST such
lines exist the class widens: first any dtype, then dense and MoE alike, then any phase of the job; then the same steps
with the previous chip of the line; never to another job, whose errors say nothing about this one's.
"""

from __future__ import annotations

import csv
import gzip
import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np

from trainshed.core import Evidence
from trainshed.hardware import Catalogue
from trainshed.validate.labels import bound_by, quantity, speed

FILE = Path(__file__).parent / "evidence.csv.gz"
SAMPLE = Path(__file__).parent / "evidence_sample.csv"

#: Fewer points than this do not make an interval.
LEAST = 5
#: The 80 % interval lies between these quantiles of the log errors.
LOW, HIGH = 0.1, 0.9

COLUMNS = ("table", "group", "chip", "job", "phase", "kind", "dtype", "quantity", "log_error")


@dataclass(frozen=True, kw_only=True)
class Line:
    """One counted measurement and the log error of its prediction with its group left out (as of a time)."""

    table: str
    group: str
    chip: str
    job: str
    phase: str
    kind: str
    dtype: str
    quantity: str
    log_error: float


def load(path: Path = FILE) -> Iterator[Line]:
    """The lines of an evidence file; none where there is no file."""
    if path.is_file():
        with gzip.open(path, "rt", encoding="utf-8", newline="") as handle:
            for cells in csv.DictReader(handle):
                yield Line(**{**cells, "log_error": float(cells["log_error"])})  # type: ignore[arg-type]


def save(lines: Sequence[Line], path: Path = FILE) -> None:
    """Write an evidence file, the same bytes for the same lines."""
    with path.open("wb") as raw, gzip.GzipFile(fileobj=raw, mode="wb", filename="", mtime=0) as packed:
        text = ",".join(COLUMNS) + "\n"
        for line in lines:
            cells = [getattr(line, column) for column in COLUMNS[:-1]]
            text += ",".join([*cells, f"{line.log_error:.4f}"]) + "\n"
        packed.write(text.encode("utf-8"))


@cache
def _index() -> Mapping[tuple[str, str, str], list[Line]]:
    found: dict[tuple[str, str, str], list[Line]] = defaultdict(list)
    for line in load():
        found[line.chip, line.job, line.quantity].append(line)
    return found


def evidence_for(
    *, chip: str, job: str, phase: str, moe: bool | None, dtype_class: str, metric: str, value: float | None,
    catalogue: Catalogue,
) -> Evidence:  # fmt: skip
    """Evidence of one figure of an answer (``job``, ``phase``, ``dtype_class``: words of ``validate.labels``)."""
    kind = {True: "moe", False: "dense", None: ""}[moe]
    what = quantity(metric)
    passed: list[tuple[int, str]] = []
    for name in _line_of(chip, catalogue):
        for label, lines in _widening(_index().get((name, job, what), []), phase, kind, dtype_class):
            where = f"{job} {what} on {name} ({label})"
            if len(lines) >= LEAST:
                carried = name if name != chip else None
                return _evidence(lines, metric, value, carried=carried, why=_why(lines, where, passed, carried))
            passed.append((len(lines), f"{name}, {label}"))
    why = f"no chip of the line of {chip} has {LEAST} measurements of {job} {what}"
    return Evidence(
        comparable_points=0,
        median_abs_error=None,
        p90_abs_error=None,
        range=None,
        carried_from=None,
        why=why,
        metric=metric,
    )


def evidence_of_collective(*, chip: str, kind: str, size: float, value: float, catalogue: Catalogue) -> Evidence:
    """Evidence of one collective alone, of its chip or of one before it; else of all that were measured.

    Programs that hold collectives (``graph``) are no evidence: most of their time is the launch. Where no chip of the
    line has enough, as of Trainium2 and 3, Trainium1's few count together with those behind the switches of others.
    """
    phase = f"alone {kind if kind.startswith('moe') else bound_by(size)}"
    line = _line_of(chip, catalogue)
    alone = {name: [one for one in _index().get((name, "collective", "time"), []) if one.phase.startswith("alone")]
             for name in line}  # fmt: skip
    for name in line:
        for label, lines in _widening(alone[name], phase, "", ""):
            if len(lines) >= LEAST:
                carried, where = (name if name != chip else None), f"collective time on {name} ({label})"
                return _evidence(lines, "time_s", value, carried=carried, why=_why(lines, where, [], carried))
    own = [one for name in line for one in alone[name]]
    others = [one for (name, job, what), lines in _index().items() for one in lines
              if job == "collective" and what == "time" and one.phase == phase and name not in line]  # fmt: skip
    if not own + others:
        return Evidence(
            comparable_points=0, median_abs_error=None, p90_abs_error=None, range=None, carried_from=None,
            why=f"no collective like this was measured on the line of {chip} or elsewhere", metric="time_s",
        )  # fmt: skip
    where = (
        f"{phase} collectives: {len(own)} of the line of {chip}, {len(others)} behind switches and networks of others"
    )
    why = f"none was published on {chip}'s links; {where}"
    carried = ", ".join(sorted({one.chip for one in own} | {one.chip for one in others}))
    return _evidence(own + others, "time_s", value, carried=carried, why=why)


def together(headline: str, each: Mapping[str, Evidence]) -> Evidence:
    """Evidence of several figures of one answer: the flat fields are the headline's."""
    return replace(each[headline], by_metric={k: replace(v, by_metric={}) for k, v in each.items()})


def _line_of(chip: str, catalogue: Catalogue) -> list[str]:
    """The chip and its predecessors."""
    line = [catalogue.chip(chip).name]
    while (previous := catalogue.chip(line[-1]).previous) is not None and previous not in line:
        line.append(previous)
    return line


def _widening(lines: Sequence[Line], phase: str, kind: str, dtype: str) -> Iterator[tuple[str, list[Line]]]:
    """Ever wider classes of lines, each with its name."""
    same_phase = [line for line in lines if line.phase == phase]
    same_kind = [line for line in same_phase if line.kind == kind or not kind]
    words = [w for w in (phase, kind) if w]
    yield ", ".join([*words, dtype or "any dtype"]), [line for line in same_kind if line.dtype == dtype or not dtype]
    yield ", ".join([*words, "any dtype"]), same_kind
    yield f"{phase}, dense and MoE, any dtype", same_phase
    yield "any phase, dense and MoE, any dtype", list(lines)


def _evidence(lines: Sequence[Line], metric: str, value: float | None, *, carried: str | None, why: str) -> Evidence:
    errors = np.array([line.log_error for line in lines])
    size = np.abs(np.expm1(errors))
    low, high = (float(q) for q in np.quantile(errors, [LOW, HIGH]))
    if speed(metric):
        low, high = -high, -low
    bounds = None if value is None else (value * math.exp(-high), value * math.exp(-low))
    return Evidence(
        comparable_points=len(lines), median_abs_error=float(np.median(size)),
        p90_abs_error=float(np.quantile(size, 0.9)), range=bounds, carried_from=carried, why=why,
        metric=metric,
    )  # fmt: skip


def _why(lines: Sequence[Line], where: str, passed: Sequence[tuple[int, str]], carried: str | None) -> str:
    """What was taken, and which nearer classes had too little (each number of points once)."""
    sources = sorted({line.group for line in lines})
    why = f"{len(lines)} measurements of {where} from {len(sources)} sources: {', '.join(sources)}"
    if carried:
        why += f"; carried over from {carried}"
    few = {count: f"{count} of {label}" for count, label in reversed(passed) if count}
    if passed:
        why += f"; nearer classes have fewer than {LEAST}: " if few else "; nearer classes have none"
    return why + "; ".join(reversed(few.values()))
