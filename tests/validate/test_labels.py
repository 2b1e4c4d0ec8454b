"""Classes of rows, and the ideal of the null model against hand figures."""

from __future__ import annotations

import pytest

from trainshed.validate import labels, null
from trainshed.validate.setup import Setup
from trainshed.validate.table import Row, measurements


def row(table: str, **cells: object) -> Row:
    fixed = {"id": "x", "group": "g", "tier": "A", "value": 1.0, "primary": True}
    return Row(table=table, file=str(measurements() / f"{table}.csv"), line=1, cells={**fixed, **cells})


@pytest.mark.parametrize(
    ("metric", "quantity", "speed"),
    [
        ("step_time_s", "time", False),
        ("tokens_per_s_per_chip", "time", True),
        ("mfu", "time", True),
        ("prefill_tokens_per_s", "time", True),
        ("busbw_bytes_per_s", "time", True),
        ("hbm_read_bytes", "memory", False),
        ("power_per_chip_w", "power", False),
        ("energy_per_output_token_j", "energy", False),
    ],
)
def test_metrics(metric: str, quantity: str, speed: bool) -> None:
    assert (labels.quantity(metric), labels.speed(metric)) == (quantity, speed)


def test_labels_of_a_serving_row() -> None:
    cells = {"metric": "ttft_s", "mode": "closed", "model": "gpt-oss-120b", "dtype_weights": "mxfp4"}
    label = labels.label(row("serving", **cells, disaggregated=True))
    assert (label.job, label.phase, label.kind, label.dtype) == ("serving", "prefill", "moe", "4-bit")
    assert labels.regime(row("serving", **cells, disaggregated=True)) == "closed disaggregated"
    assert labels.label(row("serving", **{**cells, "metric": "tpot_s"})).phase == "decode"
    assert labels.label(row("serving", **{**cells, "metric": "requests_per_s"})).phase == "run"


def test_regimes() -> None:
    assert labels.regime(row("collectives", metric="time_s", scope="alone", size_bytes=4096.0)) == "alone latency"
    assert labels.regime(row("collectives", metric="time_s", scope="alone", size_bytes=2.0**30)) == "alone bandwidth"
    assert labels.regime(row("training", metric="step_time_s", job="sft", model="llama-3-8b")) == "sft dense"
    assert labels.regime(row("encoders", metric="latency_s", model="resnet34")) == "other"
    assert labels.regime(row("encoders", metric="latency_s", model="bert-base-uncased")) == "transformer"
    assert labels.regime(row("encoders", metric="step_time_s", model="flux.1-dev")) == "diffusion"
    assert labels.regime(row("power", metric="power_w", what="node", load="training")) == "node training"


def test_ideal_training_step() -> None:
    cells = {"metric": "step_time_s", "chip": "h100-sxm", "chips": 8, "model": "llama-3-8b", "dtype": "bf16"}
    value = null.ideal(row("training", **cells, seq=8192, global_batch=8.0), Setup())
    parameters, head, layers, width = 8.03e9, 128256 * 4096, 32, 4096
    flops = 6 * (parameters - head) + 6 * layers * width * 8192  # causal: half the square
    assert value == pytest.approx(flops * 8192 / 989.5e12, rel=0.02)


def test_ideal_decode_step_reads_weights_and_cache() -> None:
    cells = {"metric": "tpot_s", "chip": "h100-sxm", "chips": 1, "model": "llama-3-8b", "mode": "decode"}
    value = null.ideal(row("serving", **cells, batch=1.0, isl=1024.0, osl=1024.0), Setup())
    cache = 2 * 32 * 8 * 128 * 2 * 1536
    assert value == pytest.approx((2 * 8.03e9 + cache) / 3.35e12, rel=0.02)


def test_ideal_collective_uses_the_level_that_holds_the_ranks() -> None:
    cells = {"metric": "time_s", "chip": "h100-sxm", "system": "p5", "collective": "all_reduce", "size_bytes": 2.0**30}
    inside = null.ideal(row("collectives", **cells, ranks=8, chips=8), Setup())
    across = null.ideal(row("collectives", **cells, ranks=16, chips=16), Setup())
    assert inside == pytest.approx(2 * 7 / 8 * 2**30 / 450e9)
    assert across == pytest.approx(2 * 15 / 16 * 2**30 / 50e9)


def test_no_ideal_where_there_is_none() -> None:
    assert null.ideal(row("training", metric="time_to_train_s", chip="h100-sxm", model="llama-3-8b"), Setup()) is None
    assert null.ideal(row("training", metric="step_time_s", chip="no-chip", seq=1, model="llama-3-8b"), Setup()) is None
