"""Laws that any answer must keep, whatever the model of the machine."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import trainshed

TRAIN = {"on": "trn2-ultra", "chips": 16, "plan": "tp4 sp1 zero1", "seq": 4096, "global_batch": 64}
SERVE = {"on": "trn2", "chips": 4, "isl": 1000, "osl": 100}
MODEL = "llama-3.1-8b"

law = settings(max_examples=10, deadline=None)


def figures(result: trainshed.Result) -> Any:
    return result.result


@law
@given(factor=st.floats(1.0, 4.0), key=st.sampled_from(["chip.hbm_bandwidth", "system.server.bandwidth"]))
def test_more_bandwidth_is_never_slower(factor: float, key: str) -> None:
    base = {"chip.hbm_bandwidth": 2.9e12, "system.server.bandwidth": 512e9}[key]
    plain = figures(trainshed.train(MODEL, **TRAIN))
    faster = figures(trainshed.train(MODEL, **TRAIN, set_values=[f"{key}={factor * base:.17g}B/s"]))
    assert faster["step_time_s"] <= plain["step_time_s"] * (1 + 1e-9)


@law
@given(users=st.integers(1, 128))
def test_more_users_mean_no_shorter_waits_and_no_fewer_tokens(users: int) -> None:
    few, many = (figures(trainshed.serve(MODEL, **SERVE, concurrency=n)) for n in (users, 2 * users))
    assert many["tpot_s"]["mean"] >= few["tpot_s"]["mean"] * (1 - 1e-6)
    assert many["tokens_per_s"] >= few["tokens_per_s"] * (1 - 1e-6)


@law
@given(batch=st.integers(1, 16))
def test_a_larger_batch_takes_longer_but_not_per_sequence(batch: int) -> None:
    options = {k: v for k, v in TRAIN.items() if k != "global_batch"}
    small, large = (figures(trainshed.train(MODEL, **options, global_batch=16 * n)) for n in (batch, 2 * batch))
    assert small["step_time_s"] < large["step_time_s"] <= 2 * small["step_time_s"] * (1 + 1e-9)


@pytest.mark.parametrize("system", ["trn2-ultra", "trn3-gen2", "p5"])
def test_the_best_plan_of_more_chips_is_no_slower(system: str) -> None:
    steps = [
        figures(trainshed.train(MODEL, on=system, chips=n, seq=4096, global_batch=256))["step_time_s"]
        for n in (8, 16, 32)
    ]
    assert steps == sorted(steps, reverse=True)


@pytest.mark.parametrize("system", ["trn1", "trn2", "trn3-gen2", "trn4", "p5", "p6-b200", "tpu-v5p-pod"])
def test_no_decode_step_beats_reading_the_weights(system: str) -> None:
    answer = figures(trainshed.serve(MODEL, on=system, chips=4, isl=1000, osl=100, batch=1))
    catalogue = trainshed.hardware_list()
    chip = next(s["chip"] for s in figures(catalogue)["systems"] if s["name"] == system)
    bandwidth = next(c["hbm_bandwidth_bytes_per_s"] for c in figures(catalogue)["chips"] if c["name"] == chip)
    weights = 2.0 * 7.5e9  # bf16, without the embedding table
    assert answer["tpot_s"]["mean"] >= weights / (4 * bandwidth)
