"""Evidence: what is comparable, how it widens, and that the stored predictions still hold."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from trainshed.core import Evidence
from trainshed.hardware import Catalogue
from trainshed.validate import evidence, leave_out
from trainshed.validate.evidence import Line, evidence_for, together
from trainshed.validate.predictor import predict_rows
from trainshed.validate.setup import Setup
from trainshed.validate.table import Prediction, Row, measurements, read, skip


def line(error: float, **more: str) -> Line:
    fixed = {
        "table": "training", "group": "g", "chip": "trn2", "job": "training", "phase": "step", "kind": "dense",
        "dtype": "16-bit", "quantity": "time",
    }  # fmt: skip
    return Line(**{**fixed, **more}, log_error=error)


def ask(
    monkeypatch: pytest.MonkeyPatch, lines: list[Line], *, chip: str = "trn2", metric: str = "step_time_s",
    dtype: str = "16-bit", moe: bool = False, phase: str = "step",
) -> Evidence:  # fmt: skip
    index: dict[tuple[str, str, str], list[Line]] = {}
    for entry in lines:
        index.setdefault((entry.chip, entry.job, entry.quantity), []).append(entry)
    monkeypatch.setattr(evidence, "_index", lambda: index)
    return evidence_for(
        chip=chip, job="training", phase=phase, moe=moe, dtype_class=dtype, metric=metric, value=10.0,
        catalogue=Catalogue(),
    )  # fmt: skip


ERRORS = [-0.2, -0.1, 0.0, 0.1, 0.4]


def test_the_same_class(monkeypatch: pytest.MonkeyPatch) -> None:
    found = ask(monkeypatch, [line(e) for e in ERRORS] + [line(9.0, dtype="8-bit")] * 9)
    assert (found.comparable_points, found.carried_from) == (5, None)
    assert found.median_abs_error == pytest.approx(np.median(np.abs(np.expm1(ERRORS))))
    low, high = np.quantile(ERRORS, [0.1, 0.9])
    assert found.range == pytest.approx((10 * math.exp(-high), 10 * math.exp(-low)))


def test_a_speed_has_the_inverse_interval(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = [line(e) for e in ERRORS]
    time = ask(monkeypatch, lines).range
    speed = ask(monkeypatch, lines, metric="tokens_per_s").range
    assert time is not None
    assert speed is not None
    assert speed == pytest.approx((100 / time[1], 100 / time[0]))


def test_it_widens_in_order_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    four = [line(0.1)] * 4
    steps = [
        ([*four, line(0.2, dtype="8-bit")], "step, dense, any dtype", 5),
        ([*four, line(0.2, kind="moe")], "step, dense and MoE, any dtype", 5),
        ([*four, line(0.2, phase="other")], "any phase", 5),
    ]
    for lines, words, points in steps:
        found = ask(monkeypatch, lines)
        assert found.comparable_points == points
        assert words in found.why
        assert "4 of trn2, step, dense, 16-bit" in found.why


def test_it_is_carried_over_from_the_previous_chip(monkeypatch: pytest.MonkeyPatch) -> None:
    found = ask(monkeypatch, [line(e) for e in ERRORS], chip="trn3")
    assert found.carried_from == "trn2"
    assert "nearer classes have none" in found.why


def test_another_job_is_never_borrowed_from(monkeypatch: pytest.MonkeyPatch) -> None:
    found = ask(monkeypatch, [line(e, job="serving") for e in ERRORS])
    assert (found.comparable_points, found.median_abs_error, found.range) == (0, None, None)
    assert "no chip of the line of trn2" in found.why


def test_figures_of_one_answer_together(monkeypatch: pytest.MonkeyPatch) -> None:
    found = ask(monkeypatch, [line(e) for e in ERRORS])
    both = together("a", {"a": found, "b": found})
    assert both.comparable_points == 5
    assert set(both.by_metric) == {"a", "b"}


def test_lines_are_kept_as_they_are(tmp_path: Path) -> None:
    lines = [line(0.25), line(-1.5, chip="h100-sxm", kind="")]
    path, again = tmp_path / "a.csv.gz", tmp_path / "b.csv.gz"
    evidence.save(lines, path)
    evidence.save(lines, again)
    assert list(evidence.load(path)) == lines
    assert path.read_bytes() == again.read_bytes()
    assert list(evidence.load(tmp_path / "none.csv.gz")) == []


def row(n: int, group: str) -> Row:
    cells = {"id": f"t{n}", "group": group, "tier": "A", "metric": "step_time_s", "value": 1.0}
    return Row(table="training", file="f", line=n, cells=cells)


def test_the_sample_is_fixed_and_reaches_every_group() -> None:
    rows = [row(n, "large" if n > 10 else f"small{n}") for n in range(1000)]
    chosen = leave_out.sample_of(rows, 60)
    assert len(chosen) == 60
    assert {rows[i].group for i in chosen} == {r.group for r in rows}
    assert [rows[i].id for i in chosen] == [rows[i].id for i in leave_out.sample_of(rows, 60)]


def test_the_sample_file(tmp_path: Path) -> None:
    path = tmp_path / "sample.csv"
    leave_out.save_sample([row(1, "g"), row(2, "g")], [Prediction(value=0.1 + 0.2), skip("no")], path)
    assert leave_out.read_sample(path) == [("training", "t1", 0.1 + 0.2)]


def test_stored_predictions_are_repeated() -> None:
    stored = {(table, name): value for table, name, value in leave_out.read_sample()}
    assert len(stored) == leave_out.SAMPLE
    for table in dict.fromkeys(table for table, _ in stored):
        rows = [r for r in read(measurements() / f"{table}.csv") if (table, r.id) in stored]
        predictions = predict_rows(rows, Setup.default())
        found = {(table, r.id): p.value for r, p in zip(rows, predictions, strict=True)}
        wanted = {key: value for key, value in stored.items() if key[0] == table}
        moved = {key: (value, found.get(key)) for key, value in wanted.items() if not _same(found.get(key), value)}
        assert not moved, f"run `make evidence` and look at what moved: {dict(list(moved.items())[:5])}"


def _same(value: object, stored: float) -> bool:
    return value is not None and float(np.asarray(value).flat[0]) == pytest.approx(stored, rel=1e-6)
