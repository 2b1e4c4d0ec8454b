"""The fitting program: ``python -m trainshed.validate.fit [STAGE...]``.

For each stage of ``validate/fits/`` it finds the constants that bring predictions nearest to the counted rows (robust
least squares on log errors, a weak prior at each constant's estimate) and writes them to ``hardware/fitted.toml`` and
``software/fitted.toml`` with the rows they rest on. An owner with fewer rows than ``least`` gets no value of its own.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date

import numpy as np
from numpy.typing import NDArray

from trainshed.core import Number, unknown_name
from trainshed.validate import fits, robust
from trainshed.validate.fitted_files import Fitted, save
from trainshed.validate.owners import Directory, Owner, Owners
from trainshed.validate.predictor import Predictor
from trainshed.validate.robust import Floats, Problem, Solution
from trainshed.validate.run import rows_of
from trainshed.validate.setup import Setup
from trainshed.validate.table import Prediction, Row

#: A log error is cut here: a prediction wrong by more than e³ is simply wrong.
CUT = 3.0
#: A row feels a constant whose change by e (of a share: by 1) would move it by more than this.
FELT = 0.01
#: Change of an unknown (of a logarithm, or of a share) that a Jacobian column is taken with.
NUDGE = 1e-3


@dataclass(frozen=True, kw_only=True)
class Unknown:
    """One constant of one owner, with the rows that its owner's constants touch."""

    owner: str
    mechanism: fits.Mechanism
    rows: NDArray[np.intp]

    @property
    def name(self) -> str:
        """Full name of the constant."""
        return self.mechanism.name(self.owner)

    def value(self, x: float) -> float:
        """The constant's value at a position of the fit."""
        return x if self.mechanism.linear else float(np.exp(x))

    def position(self, value: float) -> float:
        """The position of a value."""
        return value if self.mechanism.linear else float(np.log(value))


class Fit:
    """One stage on its rows: residuals, Jacobian, optimum. A context manager, for its worker processes."""

    def __init__(self, stage: fits.Stage, rows: Sequence[Row], setup: Setup, *, workers: int = 2) -> None:
        self.stage, self.rows = stage, rows
        self.predictor = Predictor(rows, setup, workers=workers)
        self.measured = np.array([row.value for row in rows])
        self.unknowns = self._find_unknowns(setup)
        self.problem = self._problem()

    def __enter__(self) -> Fit:
        return self

    def __exit__(self, *error: object) -> None:
        self.predictor.close()

    def _find_unknowns(self, setup: Setup) -> list[Unknown]:
        """The owners with enough rows of their own. (One with fewer follows its predecessor, and fits nothing.)"""
        directory = Directory(self.rows, setup)
        every = directory.owners(self.stage)
        touched = self._touched(every, directory)
        return [
            Unknown(owner=o[1], mechanism=m, rows=touched[o])
            for o, mechanisms in every.items()
            for m in mechanisms
            if len(touched[o]) >= m.least
        ]

    def _touched(self, every: Owners, directory: Directory) -> dict[Owner, NDArray[np.intp]]:
        """Rows that an owner's constants move while all others stand at their estimates.

        Of rows that use the same owners a few are tried, and all are taken if any of those moves.
        """
        starts = {m.name(o[1]): m.start for o, mechanisms in every.items() for m in mechanisms}
        moved = [{m.name(o[1]): _moved(m) for m in mechanisms} for o, mechanisms in every.items()]
        sets = [directory.alike(o, directory.candidates(o)) for o in every]
        tried = [[i for rows in alike for i in _few(rows)] for alike in sets]
        first = sorted({i for rows in tried for i in rows})
        jobs = [({**starts, **m}, rows) for m, rows in zip(moved, tried, strict=True)]
        before, *after = self.predictor.predict_each([(starts, first), *jobs])
        base = dict(zip(first, before, strict=True))
        found: dict[Owner, NDArray[np.intp]] = {}
        for owner, alike, rows, predictions in zip(every, sets, tried, after, strict=True):
            change = np.abs(self._log(predictions, rows) - self._log([base[i] for i in rows], rows))
            hit = {i for i, c in zip(rows, change, strict=True) if c > 1e-9}
            taken = [i for members in alike if hit.intersection(members) for i in members]
            found[owner] = np.array(sorted(taken), dtype=np.intp)
        return found

    def _problem(self) -> Problem:
        groups = [row.group for row in self.rows]
        size = {g: groups.count(g) for g in set(groups)}
        weights = np.array([size[g] ** -self.stage.balance for g in groups])
        limits = [(u.mechanism.linear, *u.mechanism.bounds) for u in self.unknowns]
        low = np.array([lo if linear else np.log(lo) for linear, lo, _ in limits])
        high = np.array([hi if linear else np.log(hi) for linear, _, hi in limits])
        return Problem(
            start=np.array([u.position(u.mechanism.start) for u in self.unknowns]), low=low, high=high,
            spread=np.array([u.mechanism.spread for u in self.unknowns]), weights=weights / weights.mean(),
        )  # fmt: skip

    def _log(self, predictions: Sequence[Prediction], at: Sequence[int] | None = None) -> Floats:
        """Log errors, NaN where a row is skipped."""
        value = np.array([np.nan if p.value is None else float(np.asarray(p.value).flat[0]) for p in predictions])
        measured = self.measured if at is None else self.measured[np.asarray(at, dtype=np.intp)]
        with np.errstate(invalid="ignore", divide="ignore"):
            error: Floats = np.log(value / measured)
        return error

    def values(self, x: Floats) -> dict[str, Number]:
        """Constants by full name at a position."""
        return {u.name: u.value(float(v)) for u, v in zip(self.unknowns, x, strict=True)}

    def residuals(self, x: Floats) -> Floats:
        """Log errors at a position; a skipped row weighs nothing."""
        errors = np.clip(self._log(self.predictor.predict(self.values(x))), -CUT, CUT)
        return np.nan_to_num(errors, nan=0.0)

    def jacobian(self, x: Floats, residuals: Floats) -> Floats:
        """Forward differences; unknowns that touch different rows are moved in the same run."""
        groups = self._columns_together()
        nudge = np.where(x + NUDGE <= self.problem.high, NUDGE, -NUDGE)
        if self.stage.stacked:
            return self._stacked(x, residuals, groups, nudge)
        jobs = []
        for columns in groups:
            moved = x.copy()
            moved[columns] += nudge[columns]
            at = np.concatenate([self.unknowns[c].rows for c in columns])
            jobs.append((self.values(moved), at.tolist()))
        out = np.zeros((len(self.rows), len(x)))
        for columns, (_, at), predictions in zip(groups, jobs, self.predictor.predict_each(jobs), strict=True):
            change = np.clip(self._log(predictions, at), -CUT, CUT) - residuals[at]
            start = 0
            for c in columns:
                rows = self.unknowns[c].rows
                out[rows, c] = np.nan_to_num(change[start : start + len(rows)], nan=0.0) / nudge[c]
                start += len(rows)
        return out

    def _stacked(self, x: Floats, residuals: Floats, groups: Sequence[Sequence[int]], nudge: Floats) -> Floats:
        """The same from one prediction: every constant is a column of its values in all those runs."""
        moved = np.tile(x, (len(groups), 1))
        for run, columns in enumerate(groups):
            moved[run, columns] += nudge[columns]
        values: dict[str, Number] = {
            u.name: np.array([[u.value(float(v))] for v in moved[:, c]]) for c, u in enumerate(self.unknowns)
        }
        predictions = self.predictor.predict(values)
        found = np.full((len(groups), len(self.rows)), np.nan)
        for i, p in enumerate(predictions):
            if p.value is not None:
                found[:, i] = np.ravel(p.value)
        with np.errstate(invalid="ignore", divide="ignore"):
            change = np.clip(np.log(found / self.measured), -CUT, CUT) - residuals
        out = np.zeros((len(self.rows), len(x)))
        for run, columns in enumerate(groups):
            for c in columns:
                rows = self.unknowns[c].rows
                out[rows, c] = np.nan_to_num(change[run, rows], nan=0.0) / nudge[c]
        return out

    def _columns_together(self) -> list[list[int]]:
        together: list[tuple[list[int], set[int]]] = []
        for c, unknown in enumerate(self.unknowns):
            rows = set(unknown.rows.tolist())
            for columns, taken in together:
                if not taken & rows:
                    columns.append(c)
                    taken |= rows
                    break
            else:
                together.append(([c], rows))
        return [columns for columns, _ in together]

    def solve(self, steps: int = 8) -> Solution:
        """The optimum, from the estimates."""
        return robust.solve(self.problem, self.residuals, self.jacobian, steps=steps, report=self._say)

    def at(self, values: Mapping[str, float]) -> Solution:
        """Residuals and Jacobian at constants found before (the estimate where one is missing)."""
        position = [u.position(values.get(u.name, u.mechanism.start)) for u in self.unknowns]
        x = np.clip(np.array(position), self.problem.low, self.problem.high)
        r = self.residuals(x)
        loss = robust.loss(self.problem, x, r)
        return Solution(x=x, residuals=r, jacobian=self.jacobian(x, r), loss=loss)

    def _say(self, n: int, loss: float) -> None:
        print(f"  {self.stage.name}: step {n}, loss {loss:.1f}", file=sys.stderr, flush=True)

    def entries(self, solution: Solution) -> list[Fitted]:
        """What goes into the fitted files: constants that move enough rows at the optimum, or would at their bounds.

        (A host time that kernels hide moves nothing, but its rows say that it is no longer than that.)
        """
        felt = np.abs(solution.jacobian.T) > FELT
        bounded = felt | self._bounded(solution) if self.stage.stacked else felt
        found = []
        for unknown, x, moved, limited in zip(self.unknowns, solution.x, felt, bounded, strict=True):
            rows = moved if moved.sum() >= unknown.mechanism.least else limited
            if rows.sum() >= unknown.mechanism.least:
                found.append(self._entry(unknown, float(x), np.flatnonzero(rows)))
        return found

    def _bounded(self, solution: Solution) -> NDArray[np.bool_]:
        """Which rows each unknown would move if it stood at one of its bounds, shape (unknowns, rows)."""
        groups = self._columns_together()
        moved = np.zeros((len(solution.x), len(self.rows)), dtype=bool)
        for bound in (self.problem.low, self.problem.high):
            push = bound - solution.x
            change = self._stacked(solution.x, solution.residuals, groups, np.where(push == 0, NUDGE, push))
            moved |= np.abs(change * push).T > FELT
        return moved

    def _entry(self, unknown: Unknown, x: float, rows: NDArray[np.intp]) -> Fitted:
        groups = sorted({self.rows[i].group for i in rows})
        mechanism = unknown.mechanism
        return Fitted(
            scope=mechanism.scope, owner=unknown.owner, key=mechanism.mechanism, value=unknown.value(x),
            unit=mechanism.unit, note=mechanism.meaning, date=date.today().isoformat(),
            source=f"fitted on {len(rows)} rows of {', '.join(groups)} ({self.stage.filter_text})",
        )  # fmt: skip


def _few(rows: Sequence[int]) -> list[int]:
    """The first, middle and last of a set."""
    return sorted({rows[0], rows[len(rows) // 2], rows[-1]})


def _moved(mechanism: fits.Mechanism) -> float:
    """A value beside the start, inside the bounds."""
    low, high = mechanism.bounds
    up = mechanism.start + 0.03 * (mechanism.start or high)
    return up if up <= high else max(low, 0.97 * mechanism.start)


def stage_rows(stage: fits.Stage) -> list[Row]:
    """The project's measurements that a stage is fitted on."""
    return [row for row in rows_of(stage.tables) if stage.takes(row)]


def fit_stage(stage: fits.Stage, *, workers: int = 2, write: bool = True) -> bool:
    """Fit one stage, print what was reached, write its constants.

    True where a constant of an earlier fit fell away: it stood in its predecessor's way, so that fitting again helps.
    """
    with Fit(stage, stage_rows(stage), Setup.default(), workers=workers) as fit:
        solution = fit.solve()
        entries = fit.entries(solution)
    for entry in entries:
        print(f"{entry.name} = {entry.value:.4g} {entry.unit}  [{entry.source}]")
    errors = np.abs(np.expm1(solution.residuals[solution.residuals != 0]))
    print(f"{stage.name}: {len(errors)} rows, median {np.median(errors):.1%}, p90 {np.quantile(errors, 0.9):.1%}")
    return save(entries, stage) if write else False


def main(arguments: Sequence[str] | None = None) -> None:
    """Fit the named stages (default: all, in order), write the files, print what was reached."""
    parser = argparse.ArgumentParser(prog="python -m trainshed.validate.fit", description=__doc__)
    parser.add_argument("stages", nargs="*", help=", ".join(s.name for s in fits.stages()))
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--dry", action="store_true", help="print, write nothing")
    options = parser.parse_args(arguments)
    known = {s.name: s for s in fits.stages()}
    for name in options.stages:
        if name not in known:
            raise SystemExit(str(unknown_name("stage", name, known, where="fit")))
    names = options.stages or list(known)
    again = len(names) == 1 and fit_stage(known[names[0]], workers=options.workers, write=not options.dry)
    if len(names) == 1 and not again:
        return
    rest = [f"--workers={options.workers}", *(["--dry"] if options.dry else [])]
    for name in names:  # each in a process of its own, which reads what was written before
        subprocess.run([sys.executable, "-m", "trainshed.validate.fit", name, *rest], check=True)


if __name__ == "__main__":
    main()
