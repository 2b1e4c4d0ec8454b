"""A static batch against the sum of its steps, waves, and single phases."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from trainshed.serving import Deployment, Worker, Workload, run, steps


def number(value: object) -> float:
    return float(np.asarray(getattr(value, "value", value)))


def test_a_batch_is_its_prefill_and_every_step(worker: Callable[..., Worker]) -> None:
    w = worker(step_host=1e-3)
    found = run(Deployment.of(w), Workload(mode="static", isl=500.0, osl=300.0, batch=16.0))
    by_hand = number(steps.prefill(w, sequences=16.0, tokens=500.0).time)
    by_hand += sum(number(steps.decode(w, sequences=16.0, context=500.0 + i).time) for i in range(1, 300))
    assert number(found.e2e) == pytest.approx(by_hand, rel=2e-3)
    assert found.tokens_per_s == pytest.approx(16 * 300 / number(found.e2e))


def test_what_does_not_fit_runs_in_equal_waves(worker: Callable[..., Worker]) -> None:
    w = worker(max_batch=10.0)
    whole = run(Deployment.of(w), Workload(mode="static", isl=100.0, osl=100.0, batch=25.0))
    wave = run(Deployment.of(w), Workload(mode="static", isl=100.0, osl=100.0, batch=25.0 / 3))
    assert number(whole.e2e) == pytest.approx(3 * number(wave.e2e))


def test_replicas_share_the_batch(worker: Callable[..., Worker]) -> None:
    one = run(Deployment.of(worker()), Workload(mode="static", isl=100.0, osl=100.0, batch=8.0))
    four = run(Deployment.of(worker(plan="x4")), Workload(mode="static", isl=100.0, osl=100.0, batch=32.0))
    assert number(four.e2e) == pytest.approx(number(one.e2e))
    assert four.tokens_per_s == pytest.approx(4 * one.tokens_per_s)


def test_buckets_are_attended_whole(worker: Callable[..., Worker]) -> None:
    w = worker(bucket="power-of-two")
    found = run(Deployment.of(w), Workload(mode="decode", batch=32.0, context=1100.0))
    assert number(found.tpot) == pytest.approx(number(steps.decode(w, sequences=32.0, context=2048.0).time))


def test_prefill_alone(worker: Callable[..., Worker]) -> None:
    found = run(Deployment.of(worker()), Workload(mode="prefill", isl=1000.0, batch=4.0))
    assert number(found.ttft) == pytest.approx(number(steps.prefill(worker(), sequences=4.0, tokens=1000.0).time))
    assert found.tpot is None
    assert found.requests_per_s == pytest.approx(4 / number(found.ttft))
