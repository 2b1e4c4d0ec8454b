"""power.csv: rows of serving, training and idle boards."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from trainshed.validate.setup import Setup
from trainshed.validate.table import Prediction, Row, measurements, read
from trainshed.validate.tables import power

SERVING = {
    "mode": "static",
    "batch": 16,
    "isl": 1024,
    "osl": 1024,
    "tp": 1,
    "dtype_weights": "fp16",
    "framework": "vllm",
}
TRAINING = {"seq": 2048, "micro_batch": 2, "global_batch": 2048, "dtype": "fp8", "tp": 4, "pp": 8, "vpp": 6, "dp": 16,
            "time_to_train_s": 3412.0}  # fmt: skip
Predict = Callable[..., Prediction]


@pytest.fixture
def predict() -> Predict:
    def one(run: dict[str, Any] | None = None, setup: Setup | None = None, **cells: Any) -> Prediction:
        base: dict[str, Any] = {
            "id": "w1", "group": "g", "tier": "A", "metric": "power_w", "value": 1.0, "chip": "a100-40",
            "system": "alcf-a100", "chips": 1, "model": "llama-2-7b", "what": "chip", "load": "serving",
            "run": SERVING if run is None else run,
        }  # fmt: skip
        stated = {k: v for k, v in {**base, **cells}.items() if v is not None}
        row = Row(table="power", file=str(measurements() / "power.csv"), line=2, cells=stated)
        return power.predict([row], setup or Setup())[0]

    return one


def value(prediction: Prediction) -> float:
    assert prediction.value is not None, prediction.skipped
    return float(np.asarray(prediction.value))


def test_every_counted_row_is_predicted() -> None:
    rows = read(measurements() / "power.csv")
    answers = power.predict(rows, Setup())
    assert all(p.value is not None for row, p in zip(rows, answers, strict=True) if row.counted)
    errors = [abs(value(p) / r.value - 1) for r, p in zip(rows, answers, strict=True) if r.counted]
    assert np.median(errors) < 0.25


def test_chip_power_lies_between_idle_and_tdp(predict: Predict) -> None:
    chip = Setup().catalogue.chip("a100-40")
    watts = value(predict())
    assert float(chip.fitted["idle_power"].value) < watts <= 400.0
    assert value(predict({**SERVING, "batch": 64})) > watts


def test_fraction_is_of_the_tdp_and_a_peak_is_the_prompt_phase(predict: Predict) -> None:
    mean = value(predict(metric="power_fraction_of_tdp"))
    assert mean == pytest.approx(value(predict()) / 400.0)
    tuned = {**SERVING, "framework": "trtllm"}
    assert value(predict(tuned, metric="power_fraction_of_tdp.peak")) > mean


def test_a_node_adds_its_host(predict: Predict) -> None:
    cells = {"chip": "b200", "system": "lenovo-b200", "chips": 8, "model": "llama-3.1-8b"}
    run = {"mode": "server", "dataset": "mlperf", "dtype_weights": "nvfp4", "framework": "tensorrt-llm"}
    node, chip = (value(predict(run, what=what, **cells)) for what in ("node", "chip"))
    overhead = Setup().catalogue.system("lenovo-b200").overhead
    assert overhead.host is not None
    assert node == pytest.approx(8 * (chip + float(overhead.host.value)))


def test_training_energy_is_power_of_all_nodes_times_time(predict: Predict) -> None:
    cells = {"chip": "h100-sxm", "system": "smc-h100", "model": "gpt-h12288-l96-a96-v51200", "load": "training"}
    watts = value(predict(TRAINING, what="node", chips=8, **cells))
    joules = value(predict(TRAINING, what="node", chips=512, metric="energy_j", **cells))
    assert joules == pytest.approx(watts * 64 * 3412.0)
    network = value(predict(TRAINING, what="network", chips=512, **cells))
    assert network < watts * 64
    assert "mfu of training" in predict(TRAINING, what="node", chips=8, metric="mfu", **cells).skipped


def test_ratings_are_every_chip_at_its_tdp(predict: Predict) -> None:
    assert value(predict({}, load=None, chip="gb200", system="gb200-nvl72")) == 1200.0
    rack = value(predict({}, load=None, chip="gb200", system="gb200-nvl72", what="rack", chips=72))
    assert rack * 1.1 > 120e3
    assert rack < 130e3


def test_idle_boards(predict: Predict) -> None:
    assert value(predict({}, load="idle", chip="b300", system="oci-b300")) == 238.0


@pytest.mark.parametrize(
    ("cells", "reason"),
    [
        ({"load": None, "chip": "grace"}, "rated power of a chip: grace"),
        ({"load": None, "chip": "trn1", "system": "trn1"}, "no TDP known"),
        ({"load": "idle", "what": "node"}, "idle power of a node"),
        ({"system": "atlantis"}, "unknown system"),
        ({"model": "nobody-1b"}, "model without a published config"),
        ({"metric": "energy_j"}, "energy_j of serving"),
        ({"system": "trn4", "chip": "trn4"}, "no idle power known"),
    ],
)
def test_skips_say_why(predict: Predict, cells: dict[str, Any], reason: str) -> None:
    assert reason in predict(**cells).skipped


def test_changed_constants_on_an_axis(predict: Predict) -> None:
    setup = Setup().replaced({"chip/a100-40.fitted.energy_scale": np.array([[0.5], [1.0], [1.5]])})
    found = np.asarray(predict(setup=setup).value).ravel()
    assert np.all(np.diff(found) > 0)
