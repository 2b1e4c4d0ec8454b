"""Profiles of compiled graphs: bytes that follow from the model, times without the host."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest

from trainshed.validate import configs
from trainshed.validate.setup import Setup
from trainshed.validate.table import Prediction, Row, measurements, read
from trainshed.validate.tables import neuron_profiles


@cache
def predicted() -> tuple[tuple[Row, Prediction], ...]:
    rows = [r for r in read(measurements() / "neuron_profiles.csv") if r.counted]
    return tuple(zip(rows, neuron_profiles.predict(rows, Setup.default()), strict=True))


def errors(metric: str, phase: str = "", *, experts: bool = True) -> np.ndarray[Any, Any]:
    found = []
    for row, prediction in predicted():
        if row.metric != metric or (phase and row.text("phase") != phase) or prediction.value is None:
            continue
        if experts or not any(op.role == "experts" for b in configs.load(row).graph.blocks for op in b.ops):
            found.append(float(np.asarray(prediction.value)) / row.value - 1)
    return np.array(found)


def test_nearly_all_rows_are_predicted() -> None:
    covered = [p.value is not None for _, p in predicted()]
    assert np.mean(covered) > 0.9


def test_dense_decode_reads_its_weights_and_its_bucket() -> None:
    assert np.median(np.abs(errors("hbm_read_bytes", "decode", experts=False))) < 0.01


def test_times_stay_inside_the_gate() -> None:
    found = np.abs(errors("time_s"))
    assert np.median(found) < 0.15
    assert np.quantile(found, 0.9) < 0.5


def row(**cells: Any) -> Row:
    base = {
        "id": "n", "group": "g", "tier": "A", "metric": "time_s", "value": 1.0, "chip": "trn1", "system": "trn1",
        "model": "llama-2-7b", "phase": "decode", "batch": 1, "seq": 512, "tp": 2, "dtype_weights": "bf16",
        "framework": "neuronx-distributed-inference", "date": "2026-03-18",
    }  # fmt: skip
    file = str(measurements() / "neuron_profiles.csv")
    return Row(table="neuron_profiles", file=file, line=1, cells={k: v for k, v in {**base, **cells}.items() if v})


def value(**cells: Any) -> float:
    prediction = neuron_profiles.predict([row(**cells)], Setup.default())[0]
    assert prediction.value is not None, prediction.skipped
    return float(np.asarray(prediction.value))


def test_metrics_follow_from_one_step() -> None:
    seconds, read_, written = (value(metric=m) for m in ("time_s", "hbm_read_bytes", "hbm_write_bytes"))
    assert value(metric="mbu") == pytest.approx((read_ + written) / (seconds * 410e9), rel=1e-3)
    assert 0 < value(metric="mfu", phase="prefill") < 1
    assert value(seq=4096) > seconds
    assert value(batch=8) > seconds


def test_experts_are_split_over_all_ranks() -> None:
    shared = value(model="mixtral-8x7b", tp=8, seq=128, metric="hbm_read_bytes")
    assert shared == pytest.approx(6.01e9, rel=0.05)


@pytest.mark.parametrize(
    ("cells", "reason"),
    [
        ({"phase": None}, "phase, batch or length not stated"),
        ({"model": "nobody"}, "model without a published config: nobody"),
        ({"metric": "value_j"}, "no formula for value_j"),
    ],
)
def test_rows_that_say_too_little_are_skipped(cells: dict[str, Any], reason: str) -> None:
    assert neuron_profiles.predict([row(**cells)], Setup.default())[0].skipped == reason
