"""Rows that state no plan are predicted under the best one of their chips, never skipped for it."""

from __future__ import annotations

from typing import Any

import pytest

from trainshed.validate.setup import Setup
from trainshed.validate.table import Prediction, Row
from trainshed.validate.tables import serving

BASE: dict[str, Any] = {
    "id": "s1", "group": "mlperf_offline", "tier": "B", "metric": "output_tokens_per_s", "value": 1.0,
    "chip": "h200-sxm", "system": "dgx-h200", "chips": 8, "model": "llama-2-70b", "mode": "offline",
    "dtype_weights": "fp8", "dtype_activations": "fp8", "framework": "trtllm", "framework_version": "1.0",
}  # fmt: skip


@pytest.fixture(scope="module")
def setup() -> Setup:
    return Setup.default()


def _predict(setup: Setup, **cells: Any) -> Prediction:
    kept = {k: v for k, v in {**BASE, **cells}.items() if v is not None}
    return serving.predict([Row(table="serving", file="validation/serving.csv", line=2, cells=kept)], setup)[0]


def test_the_best_plan_is_no_worse_than_any_stated_one(setup: Setup) -> None:
    free = _predict(setup)
    assert isinstance(free.value, float)
    for tp, replicas in ((1, 8), (2, 4), (4, 2), (8, 1)):
        stated = _predict(setup, tp=tp, replicas=replicas, isl=294, osl=294)
        assert isinstance(stated.value, float)
        assert free.value >= stated.value * (1 - 1e-9)


def test_a_rate_that_nobody_states_is_what_the_latency_limit_allows(setup: Setup) -> None:
    server = _predict(setup, group="mlperf_server", mode="open").value
    tight = _predict(setup, group="mlperf_interactive", mode="open").value
    assert isinstance(server, float)
    assert isinstance(tight, float)
    assert 0.0 < tight <= server


def test_arrivals_slower_than_the_chips_are_served_as_they_come(setup: Setup) -> None:
    served = _predict(setup, group="mlperf_server", mode="open", rate_per_s=5.0, metric="requests_per_s")
    assert served.value == pytest.approx(5.0)


def test_reasons_where_nothing_can_be_said(setup: Setup) -> None:
    assert "no plan fits" in _predict(setup, model="llama-3.1-405b", chips=1).skipped
    assert "needs isl" in _predict(setup, group="elsewhere").skipped
    assert "needs rate_per_s" in _predict(setup, group="elsewhere", mode="open", isl=100, osl=100).skipped
