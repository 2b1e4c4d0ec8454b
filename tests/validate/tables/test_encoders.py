"""Encoders and denoisers in compiled graphs."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest

from trainshed.validate.setup import Setup
from trainshed.validate.table import Prediction, Row, measurements, read
from trainshed.validate.tables import encoders


@cache
def predicted() -> tuple[tuple[Row, Prediction], ...]:
    rows = [r for r in read(measurements() / "encoders.csv") if r.counted]
    return tuple(zip(rows, encoders.predict(rows, Setup.default()), strict=True))


def test_transformers_are_covered_and_inside_the_gate() -> None:
    found = [(r, p) for r, p in predicted() if "diffusion" not in r.group]
    covered = [(r, p) for r, p in found if p.value is not None]
    networks = [p.skipped for _, p in found if p.value is None]
    assert all("architecture not read" in why for why in networks)
    error = np.array([float(np.asarray(p.value)) / r.value - 1 for r, p in covered])
    assert np.median(np.abs(error)) < 0.15
    assert np.quantile(np.abs(error), 0.9) < 0.35


def test_denoising_steps_of_good_kernels_come_near() -> None:
    steps = [(r, p) for r, p in predicted() if r.metric == "step_time_s"]
    assert len(steps) == 3
    for row, prediction in steps:
        assert 0.5 < float(np.asarray(prediction.value)) / row.value < 1.5


def row(**cells: Any) -> Row:
    base = {
        "id": "e", "group": "g", "tier": "A", "metric": "latency_s", "value": 1.0, "chip": "inf2",
        "system": "inf2.xlarge", "model": "bert-base-uncased", "batch": 8, "seq": 128, "dtype_weights": "fp32",
        "dtype_activations": "bf16", "framework": "torch-neuronx (PyTorch 2.5)", "parallelism": "dp2",
    }  # fmt: skip
    file = str(measurements() / "encoders.csv")
    return Row(table="encoders", file=file, line=1, cells={k: v for k, v in {**base, **cells}.items() if v})


def value(**cells: Any) -> float:
    prediction = encoders.predict([row(**cells)], Setup.default())[0]
    assert prediction.value is not None, prediction.skipped
    return float(np.asarray(prediction.value))


def test_copies_of_the_model_add_throughput_and_no_latency() -> None:
    assert value(metric="inferences_per_s") == pytest.approx(2 * 8 / value())
    assert value(parallelism="dp1") == value()


def test_products_without_cast_run_in_fp32() -> None:
    assert value(dtype_activations="fp32") > 1.5 * value()


def test_pictures_become_tokens_and_steps_passes() -> None:
    picture = {"model": "pixart-alpha", "seq": None, "image_size": "512x512", "batch": 1}
    twenty = value(**picture, steps=20)
    assert value(**picture, steps=10) == pytest.approx(twenty / 2)
    assert value(**{**picture, "image_size": "1024x1024"}, steps=20) > 3 * twenty
    assert value(**picture, steps=20, metric="step_time_s") == pytest.approx(twenty / 20)


def test_prompts_that_a_benchmark_adds_are_counted() -> None:
    clip = {"model": "clip-vit-large-patch14", "seq": None, "image_size": "224x224", "batch": 1}
    assert value(**clip) > 2 * value(model="vit-base-patch16-224", seq=None, image_size="224x224", batch=1)


@pytest.mark.parametrize(
    ("cells", "reason"),
    [
        ({"seq": None}, "size of the input not stated: "),
        ({"model": "vit-base-patch16-224", "seq": None}, "size of the input not stated: "),
        ({"model": "resnet34"}, "architecture not read: cnn"),
        ({"metric": "power_w"}, "no formula for power_w"),
    ],
)
def test_rows_that_no_formula_expresses_say_why(cells: dict[str, Any], reason: str) -> None:
    assert encoders.predict([row(**cells)], Setup.default())[0].skipped == reason
