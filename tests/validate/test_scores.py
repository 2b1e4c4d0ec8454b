"""Error statistics against hand-made cases."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainshed.validate.scores import Scored, null_error, ranks, report, spearman, statistics
from trainshed.validate.table import Prediction, Row, skip


def row(n: int, value: float, *, group: str = "g", tier: str = "A", **cells: object) -> Row:
    fixed = {"id": f"t{n}", "group": group, "tier": tier, "metric": "step_time_s", "value": value, "primary": True}
    return Row(table="training", file="f", line=n, cells={**fixed, "chip": "h100-sxm", "job": "pretrain", **cells})


def scored(n: int, measured: float, predicted: float | None, ideal: float | None = None, **cells: object) -> Scored:
    prediction = skip("no model") if predicted is None else Prediction(value=predicted)
    return Scored(row=row(n, measured, **cells), prediction=prediction, ideal=ideal, regime="pretrain")  # type: ignore[arg-type]


def test_one_group() -> None:
    rows = [scored(i, 1.0, 1.0 + e) for i, e in enumerate((-0.3, -0.1, 0.0, 0.1, 0.2))]
    rows += [scored(9, 1.0, None), scored(10, 1.0, 9.0, tier="C")]
    (group,) = report(rows).groups
    assert (group.points, group.covered, group.counted, group.counted_covered) == (7, 6, 6, 5)
    assert group.median_abs_error == pytest.approx(0.1)
    assert group.p90_abs_error == pytest.approx(0.26)
    assert group.bias == pytest.approx(0.0)
    assert group.skipped_why == {"no model": 1}


def test_a_group_that_does_not_count_is_shown() -> None:
    (group,) = report([scored(1, 1.0, 1.5, tier="C")]).groups
    assert (group.counted, group.median_abs_error) == (0, pytest.approx(0.5))


def test_statistics_of_nothing() -> None:
    assert statistics([]) == (None, None, None)


def test_the_null_is_exact_where_efficiency_is_constant() -> None:
    assert null_error([scored(i, 2.5 * i, None, float(i)) for i in (1, 2, 3)]) == pytest.approx(0.0)


def test_the_null_of_two_efficiencies() -> None:
    rows = [scored(1, 1.0, None, 1.0), scored(2, 1.0, None, 1.0), scored(3, 2.0, None, 1.0)]
    assert null_error(rows) == pytest.approx(0.0)
    assert null_error(rows[1:]) == pytest.approx(np.mean([2**0.5 - 1, 1 - 2**-0.5]))


def test_rank_correlation_of_a_sweep_needs_different_plans() -> None:
    plans = [scored(i, float(i), float(i) ** 3, tp=i, model="m", chips=8) for i in range(1, 6)]
    (sweep,) = report(plans).sweeps
    assert (sweep.model, sweep.chips, sweep.n, sweep.rank_correlation) == ("m", 8, 5, pytest.approx(1.0))
    assert report([scored(i, float(i), 1.0 / i, tp=8, model="m", chips=8) for i in range(1, 6)]).sweeps == ()


def test_spearman_against_its_definition() -> None:
    assert ranks([10.0, 30.0, 20.0, 20.0]).tolist() == [1.0, 4.0, 2.5, 2.5]
    assert spearman([1, 2, 3, 4], [4, 3, 2, 1]) == pytest.approx(-1.0)
    assert spearman([1, 2, 3, 4, 5], [1, 2, 3, 5, 4]) == pytest.approx(1 - 6 * 2 / (5 * 24))
    assert spearman([1, 1, 1], [1, 2, 3]) is None


@given(st.lists(st.integers(1, 1000), min_size=2, max_size=20, unique=True))
def test_ranks_do_not_see_monotone_changes(values: list[int]) -> None:
    assert spearman(values, [v * 3 + 1 for v in values]) == pytest.approx(1.0)


def test_json_has_the_keys_of_the_design() -> None:
    out = report([scored(1, 2.0, 3.0)]).to_json()
    assert {"groups", "sweeps", "rows"} <= out.keys()
    wanted = {"table", "group", "chip", "metric", "regime", "points", "covered", "counted", "median_abs_error"}
    wanted |= {"p90_abs_error", "bias", "null_median_abs_error", "skipped_why"}
    assert wanted <= out["groups"][0].keys()
    assert {k: out["rows"][0][k] for k in ("id", "metric", "tier", "counted", "measured", "predicted", "error")} == {
        "id": "t1", "metric": "step_time_s", "tier": "A", "counted": True, "measured": 2.0, "predicted": 3.0,
        "error": 0.5,
    }  # fmt: skip
