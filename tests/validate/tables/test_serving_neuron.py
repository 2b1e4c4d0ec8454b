"""``serving_neuron.csv``: static batches over buckets, single phases, what is not stated."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from trainshed.core import Dtypes, Plan
from trainshed.serving import experts_split, steps, worker
from trainshed.validate import configs
from trainshed.validate.setup import Setup
from trainshed.validate.table import Prediction, Row, find, read
from trainshed.validate.tables.serving_neuron import predict

FILE = str(find("serving_neuron")[1])
SETUP = Setup.default()
BASE = {
    "id": "x", "group": "test", "tier": "A", "metric": "tpot_s.p50", "value": 1.0, "chip": "trn1", "primary": True,
    "system": "trn1", "chips": 16, "cores": 32, "lnc": 1, "model": "llama-3-8b", "mode": "static", "isl": 1024.0,
    "osl": 1024.0, "batch": 4.0, "tp": 32, "dtype_weights": "bf16", "framework": "transformers-neuronx",
    "framework_version": "Neuron SDK 2.18.1", "speculation": "none",
}  # fmt: skip


def row(**changes: Any) -> Row:
    cells = {k: v for k, v in (BASE | changes).items() if v is not None}
    return Row(table="serving_neuron", file=FILE, line=1, cells=cells)


def one(**changes: Any) -> Prediction:
    (prediction,) = predict([row(**changes)], SETUP)
    return prediction


def value(**changes: Any) -> float:
    prediction = one(**changes)
    assert prediction.value is not None, prediction.skipped
    return float(np.asarray(prediction.value))


def test_the_median_step_runs_in_the_largest_bucket() -> None:
    model, system = configs.load(row()), SETUP.catalogue.system("trn1")
    engine = SETUP.software.engine("transformers-neuronx on AWS", "2.18.1")
    ranks = worker(model, system, experts_split(Plan(tp=32, lnc=1), model), Dtypes(), engine)
    step = steps.decode(ranks, sequences=4.0, context=2048.0)
    assert value() == pytest.approx(float(np.asarray(step.time.value)))
    assert value(metric="tpot_s", isl=128.0, osl=1920.0) < value(isl=128.0, osl=1920.0)


def test_throughput_is_the_mean_over_all_positions() -> None:
    latency = value(metric="batch_latency_s")
    assert value(metric="output_tokens_per_s") == pytest.approx(4 * 1024 / latency)
    assert value(metric="total_tokens_per_s") == pytest.approx(4 * 2048 / latency)


def test_single_phases() -> None:
    prefill = {"mode": "prefill", "osl": None, "batch": 1.0, "isl": 512.0}
    assert value(**prefill, metric="prefill_tokens_per_s") == pytest.approx(512 / value(**prefill, metric="ttft_s"))
    decode = {"mode": "decode", "isl": None, "osl": None, "context": 4096.0}
    assert value(**decode, metric="output_tokens_per_s") == pytest.approx(4 / value(**decode, metric="tpot_s"))
    assert value(**decode, metric="tpot_s") > value(**(decode | {"context": 512.0}), metric="tpot_s")


def test_rows_that_lack_lengths_or_a_plan_say_so() -> None:
    assert one(isl=None).skipped == "not stated: isl"
    assert one(tp=None).skipped == "no plan stated: test"
    assert "acceptance rate" in one(speculation="eagle3").skipped


def test_nearly_all_counted_rows_are_covered() -> None:
    rows = [r for r in read(find("serving_neuron")[1]) if r.counted]
    assert np.mean([p.value is not None for p in predict(rows[::4], SETUP)]) > 0.9
