"""training.csv: rows become plans; every figure of a row follows from one predicted step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from trainshed.validate.setup import Setup
from trainshed.validate.table import Prediction, Row, measurements, read
from trainshed.validate.tables import training

SETUP = Setup()
Predict = Callable[..., Prediction]


@pytest.fixture
def predict() -> Predict:
    def one(setup: Setup = SETUP, **cells: Any) -> Prediction:
        base: dict[str, Any] = {
            "id": "t1", "group": "dgxc", "tier": "A", "metric": "step_time_s", "value": 1.0, "chip": "h100-sxm",
            "system": "dgx-h100", "chips": 64, "model": "llama-3.1-70b", "seq": 8192, "micro_batch": 1,
            "global_batch": 128, "dtype": "bf16", "tp": 4, "sp": True, "pp": 4, "vpp": 5, "dp": 2, "cp": 2, "ep": 1,
            "zero": 1, "recompute": "none", "optimizer": "adam", "attention": "flash", "job": "pretrain",
            "framework": "nemo 24.12",
        }  # fmt: skip
        stated = {k: v for k, v in {**base, **cells}.items() if v is not None}
        row = Row(table="training", file=str(measurements() / "training.csv"), line=2, cells=stated)
        return training.predict([row], setup)[0]

    return one


def value(prediction: Prediction) -> float:
    assert prediction.value is not None, prediction.skipped
    return float(np.asarray(prediction.value))


@pytest.fixture(scope="session")
def scored() -> list[tuple[Row, Prediction]]:
    rows = [r for r in read(measurements() / "training.csv") if r.counted]
    return list(zip(rows, training.predict(rows, SETUP), strict=True))


def test_counted_rows_are_covered(scored: list[tuple[Row, Prediction]]) -> None:
    for neuron, least in ((True, 0.9), (False, 0.95)):
        part = [p for r, p in scored if ((r.text("chip") or "").startswith("trn")) == neuron]
        assert np.mean([p.value is not None for p in part]) >= least


@pytest.mark.parametrize(
    ("groups", "neuron", "median", "p90"),
    [
        ((), False, 0.10, 0.35),
        ((), True, 0.25, 9.0),
        (("vtrain_multi",), False, 0.07, 0.25),
        (("dgxc",), False, 0.08, 0.25),
        (("mlperf_training_v5.0", "mlperf_training_v5.1"), False, 0.08, 0.25),
    ],
)
def test_errors_stay_below_the_line(
    scored: list[tuple[Row, Prediction]], groups: tuple[str, ...], neuron: bool, median: float, p90: float
) -> None:
    errors = [
        abs(value(p) / r.value - 1) for r, p in scored
        if p.value is not None and (not groups or r.group in groups)
        and (r.text("chip") or "").startswith("trn") == neuron
    ]  # fmt: skip
    assert np.median(errors) <= median
    assert np.quantile(errors, 0.9) <= p90


def test_every_metric_follows_from_the_same_step(predict: Predict) -> None:
    seconds, tokens = value(predict()), 128 * 8192
    assert value(predict(metric="tokens_per_s")) == pytest.approx(tokens / seconds)
    assert value(predict(metric="tokens_per_s_per_chip")) == pytest.approx(tokens / seconds / 64)
    assert value(predict(metric="sequences_per_s")) == pytest.approx(128 / seconds)
    rate = value(predict(metric="model_flops_per_s_per_chip"))
    assert value(predict(metric="mfu")) == pytest.approx(rate / 989.4e12)


def test_the_source_s_own_convention_counts_the_flops(predict: Predict) -> None:
    full = value(predict(metric="mfu"))
    causal = value(predict(metric="mfu", group="megatron_bridge"))
    layers, hidden, parameters = 80, 8192, 70.55e9
    products = 6 * (parameters - 128256 * hidden)
    square = 12 * layers * hidden * 8192
    assert full / causal == pytest.approx((products + square) / (products + square / 2), rel=1e-3)


def test_recomputation_counts_in_hardware_flops_only(predict: Predict) -> None:
    assert value(predict(metric="hfu", recompute="full")) == pytest.approx(
        4 / 3 * value(predict(metric="mfu", recompute="full"))
    )
    assert value(predict(metric="hfu")) == pytest.approx(value(predict(metric="mfu")))


def test_what_a_row_does_not_state_is_the_fastest_that_fits(predict: Predict) -> None:
    stated = {r: value(predict(recompute=r)) for r in ("none", "selective", "full")}
    assert value(predict(recompute=None)) == pytest.approx(min(stated.values()))
    tight = {"tp": 8, "pp": 1, "vpp": None, "dp": 4, "global_batch": 64, "zero": 1, "micro_batch": 4, "cp": 2}
    assert value(predict(recompute=None, **tight)) > value(predict(recompute="none", **tight))


def test_rows_of_one_call_equal_rows_alone(predict: Predict) -> None:
    every = [r for r in read(measurements() / "training.csv") if r.group == "mosaic_mpt" and r.counted][:12]
    together = [value(p) for p in training.predict(every, SETUP)]
    assert together == pytest.approx([value(training.predict([r], SETUP)[0]) for r in every], rel=1e-9)


def test_time_to_train_counts_the_samples_of_the_reference_runs(predict: Predict) -> None:
    cells = {"model": "llama-3.1-405b", "tp": 8, "pp": 8, "vpp": 8, "global_batch": 1152, "chips": 512, "dp": 4}
    steps = 313344 / 1152
    assert value(predict(metric="time_to_train_s", **cells)) == pytest.approx(steps * value(predict(**cells)))
    assert predict(metric="time_to_train_s").skipped == "no published convergence"


def test_power_of_a_node_adds_its_host(predict: Predict) -> None:
    system = SETUP.catalogue.system("smc-h100")
    assert system.overhead.host is not None
    watts = value(predict(metric="power_per_node_w", system="smc-h100"))
    host = 8 * float(system.overhead.host.value)
    assert 8 * 200 + host < watts <= 8 * 700 + host


def test_memory_is_of_a_chip_not_of_a_rank(predict: Predict) -> None:
    assert 10e9 < value(predict(metric="memory_per_chip_bytes")) < 120e9


def test_constants_may_be_stacked(predict: Predict) -> None:
    name = "chip/h100-sxm.fitted.gemm_efficiency.bf16"
    stacked = np.asarray(predict(SETUP.replaced({name: np.array([[0.5], [0.7]])})).value)
    assert stacked.shape == (2,)
    assert stacked[1] == pytest.approx(value(predict(SETUP.replaced({name: 0.7}))))


def test_mistakes_skip_the_row_with_a_reason(predict: Predict) -> None:
    assert "unknown system" in predict(system="no-such").skipped
    assert "unknown framework" in predict(framework="no-such").skipped
    assert "without a published config" in predict(model="no-such").skipped
    assert "unknown metric" in predict(metric="frames_per_s").skipped
