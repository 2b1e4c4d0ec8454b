"""What is asked of collectives, on rows made in the test."""

from __future__ import annotations

import pytest

from trainshed.validate.page import accuracy_page
from trainshed.validate.scores import Scored, report
from trainshed.validate.table import Prediction, Row, skip
from trainshed.validate.targets import Target, targets


def scored(error: float | None, **cells: object) -> Scored:
    fixed = {"id": "c", "group": "g", "tier": "A", "metric": "time_s", "value": 1.0, "primary": True, "scope": "alone",
             "chip": "h200", "system": "p5en", "collective": "all_gather"}  # fmt: skip
    row = Row(table="collectives", file="f", line=1, cells=fixed | cells)
    return Scored(row=row, prediction=skip("no link") if error is None else Prediction(value=1.0 + error))


def find(lines: list[Target], what: str, part: str = "") -> Target:
    return next(t for t in lines if t.what == what and part in t.part)


def test_the_median_of_the_systems_counts_a_small_system_as_much_as_a_large_one() -> None:
    rows = [scored(0.2, system="many")] * 40 + [scored(0.05, system="one"), scored(0.08, system="two")]
    lines = targets(rows)
    middle = find(lines, "systems")
    assert middle.median_abs_error == pytest.approx(0.08)
    assert (middle.counted, middle.met) == (42, True)
    assert find(lines, "system", "many").met is None


def test_each_chip_and_collective_has_two_limits() -> None:
    near, far = [scored(0.1)] * 14, [scored(0.1)] * 17 + [scored(-0.5)] * 3
    assert [t for t in targets(near) if t.what == "chip and collective"] == []
    line = find(targets(far), "chip and collective", "h200 all_gather")
    assert (line.median_abs_error, line.p90_abs_error) == (pytest.approx(0.1), pytest.approx(0.5))
    assert line.met is False
    assert find(targets([*near, scored(0.39)]), "chip and collective").met is True


def test_a_point_without_a_prediction_misses() -> None:
    line = find(targets([scored(0.0)] * 20 + [scored(None)]), "chip and collective")
    assert (line.counted, line.covered, line.met) == (21, 20, False)


def test_experts_and_programs_have_their_own() -> None:
    rows = [scored(0.24, collective="moe_dispatch"), scored(0.26, collective="moe_combine"),
            scored(0.19, scope="graph", group="kiln_graph")]  # fmt: skip
    lines = targets(rows)
    assert [(t.part, t.met) for t in lines if t.what in ("experts", "programs")] == [
        ("moe_combine", False), ("moe_dispatch", True), ("kiln_graph", True),
    ]  # fmt: skip
    assert targets([scored(0.1, tier="C")]) == []


def test_the_page_says_which_are_met() -> None:
    page = accuracy_page(report([scored(0.1)] * 10 + [scored(0.3)] * 10))
    assert "Of 2 targets 0 are met" in page
    assert (
        "| chip and collective | h200 all_gather | 20 | 20 of 20 (100 %) | 20 % | 30 % | 15% / 40% | **no** |" in page
    )
