"""Writes the evidence table: every counted measurement predicted with its own source left out of the fits."""

from __future__ import annotations

import csv
import hashlib
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from trainshed.core import Number
from trainshed.validate import evidence, fits, robust
from trainshed.validate.evidence import Line
from trainshed.validate.fit import Fit
from trainshed.validate.fitted_files import values
from trainshed.validate.labels import label, speed
from trainshed.validate.predictor import Predictor, Progress
from trainshed.validate.run import rows_of
from trainshed.validate.setup import Setup
from trainshed.validate.table import Prediction, Row

#: Rows whose stored prediction ``make test`` repeats.
SAMPLE = 500


def write_evidence(
    setup: Setup | None = None, progress: Progress | None = None, *, tables: Sequence[str] = (), workers: int = 2,
    path: Path = evidence.FILE, sample: Path = evidence.SAMPLE,
) -> int:  # fmt: skip
    """Leave each group out in turn, predict its rows, write both files; returns how many lines there are."""
    setup = Setup.default() if setup is None else setup
    rows = [row for row in rows_of(tables) if row.counted]
    changed = constants_without(rows, setup, workers=workers)
    with Predictor(rows, setup, workers=workers) as predictor:
        plain = predictor.predict(progress=progress)
        apart = _apart(predictor, plain, changed)
    lines = [line for row, p in zip(rows, apart, strict=True) if (line := _line(row, p)) is not None]
    evidence.save(lines, path)
    save_sample(rows, plain, sample)
    return len(lines)


def constants_without(rows: Sequence[Row], setup: Setup, *, workers: int = 2) -> dict[str, dict[str, Number]]:
    """Group → the constants that its absence would change, of all stages."""
    changed: dict[str, dict[str, Number]] = defaultdict(dict)
    found = values()
    for stage in fits.stages():
        used = [row for row in rows if stage.takes(row)]
        if not used:
            continue
        with Fit(stage, used, setup, workers=workers) as fit:
            solution = fit.at(found)
            groups = np.array([row.group for row in used])
            for group in dict.fromkeys(groups.tolist()):
                x = robust.without(fit.problem, solution, groups == group)
                changed[group] |= fit.values(x)
    return dict(changed)


def _apart(
    predictor: Predictor, plain: Sequence[Prediction], changed: Mapping[str, Mapping[str, Number]]
) -> list[Prediction]:
    """Predictions with each row's own group left out; those of groups that no fit uses are the plain ones."""
    rows, out = predictor.rows, list(plain)
    members = {g: [i for i, row in enumerate(rows) if row.group == g] for g in changed}
    jobs = [(changed[g], members[g]) for g in changed]
    for (_, at), predictions in zip(jobs, predictor.predict_each(jobs), strict=True):
        for i, prediction in zip(at, predictions, strict=True):
            out[i] = prediction
    return out


def _line(row: Row, prediction: Prediction) -> Line | None:
    if prediction.value is None or row.value <= 0:
        return None
    predicted = float(np.asarray(prediction.value).flat[0])
    if not predicted > 0:
        return None
    error = math.log(predicted / row.value)
    kind = label(row)
    return Line(
        table=row.table, group=row.group, chip=row.text("chip") or "", job=kind.job, phase=kind.phase,
        kind=kind.kind, dtype=kind.dtype, quantity=kind.quantity, log_error=-error if speed(row.metric) else error,
    )  # fmt: skip


def sample_of(rows: Sequence[Row], size: int = SAMPLE) -> list[int]:
    """Indices of a fixed sample, spread over the groups by the square root of their size; the same rows every time."""
    order = sorted(range(len(rows)), key=lambda i: hashlib.sha256(rows[i].id.encode()).digest())
    groups: dict[tuple[str, str], list[int]] = defaultdict(list)
    for i in order:
        groups[rows[i].table, rows[i].group].append(i)
    # The n-th row of a group of m comes at place n² / m: each group gives about the root of what it has.
    places = [(n * n / len(members), i) for members in groups.values() for n, i in enumerate(members)]
    return sorted(i for _, i in sorted(places)[:size])


def save_sample(rows: Sequence[Row], predictions: Sequence[Prediction], path: Path) -> None:
    """Write the stored predictions of the sample."""
    predicted = [i for i, p in enumerate(predictions) if p.value is not None]
    chosen = [predicted[i] for i in sample_of([rows[i] for i in predicted])]
    with path.open("w", encoding="utf-8", newline="") as handle:
        writer = csv.writer(handle, lineterminator="\n")
        writer.writerow(("table", "id", "predicted"))
        for i in chosen:
            writer.writerow((rows[i].table, rows[i].id, repr(float(np.asarray(predictions[i].value).flat[0]))))


def read_sample(path: Path = evidence.SAMPLE) -> list[tuple[str, str, float]]:
    """(table, id, predicted) of the stored sample."""
    with path.open(encoding="utf-8", newline="") as handle:
        return [(c["table"], c["id"], float(c["predicted"])) for c in csv.DictReader(handle)]
