"""Offline and open arrivals: bounds, Little's law, queues without a steady state."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from trainshed.serving import Deployment, Worker, Workload, run, steps


def number(value: object) -> float:
    return float(np.asarray(getattr(value, "value", value)))


def test_offline_keeps_every_slot_busy(worker: Callable[..., Worker]) -> None:
    w = worker(max_batch=64.0, tokens_per_step=512.0)
    found = run(Deployment.of(w), Workload(mode="offline", isl=500.0, osl=500.0))
    prefill = number(steps.prefill(w, sequences=1.0, tokens=500.0).time)
    step = number(steps.decode(w, sequences=64.0, context=750.0).time)
    assert found.tokens_per_s == pytest.approx(64 * 500 / (64 * prefill + 500 * step), rel=0.02)


def test_memory_limits_the_batch(worker: Callable[..., Worker]) -> None:
    found = run(Deployment.of(worker(max_batch=1e6)), Workload(mode="offline", isl=20000.0, osl=2000.0))
    assert number(found.running) == number(found.room) < 30


def test_more_requests_wait_longer(worker: Callable[..., Worker]) -> None:
    waits = [
        number(run(Deployment.of(worker()), Workload(mode="offline", isl=500.0, osl=50.0, requests=n)).ttft)
        for n in (100.0, 1000.0, 2000.0)
    ]
    assert waits[0] < waits[1] < waits[2]
    found = run(Deployment.of(worker()), Workload(mode="offline", isl=500.0, osl=50.0, requests=2000.0))
    assert waits[2] == pytest.approx(2000 / number(found.requests_per_s) / 2, rel=0.2)


def test_running_sequences_follow_littles_law(worker: Callable[..., Worker]) -> None:
    found = run(Deployment.of(worker()), Workload(mode="open", isl=500.0, osl=200.0, rate_per_s=5.0))
    assert number(found.running) == pytest.approx(5.0 * 199 * number(found.tpot), rel=0.03)
    assert number(found.requests_per_s) == pytest.approx(5.0)


def test_too_many_arrivals_make_a_growing_queue(worker: Callable[..., Worker]) -> None:
    calm, flooded = (
        run(Deployment.of(worker()), Workload(mode="open", isl=500.0, osl=200.0, rate_per_s=r, requests=1000.0))
        for r in (2.0, 500.0)
    )
    assert number(flooded.requests_per_s) < 500
    wait = 1000 / 2 * (1 / number(flooded.requests_per_s) - 1 / 500)
    assert number(flooded.ttft) == pytest.approx(wait, rel=0.2)
    assert number(calm.ttft) < 0.1


def test_arrays_of_rates(worker: Callable[..., Worker]) -> None:
    rates = np.array([1.0, 5.0, 20.0])
    found = run(Deployment.of(worker()), Workload(mode="open", isl=500.0, osl=200.0, rate_per_s=rates))
    each = [
        number(run(Deployment.of(worker()), Workload(mode="open", isl=500.0, osl=200.0, rate_per_s=r)).tpot)
        for r in rates
    ]
    assert found.tpot is not None
    assert np.asarray(found.tpot.value) == pytest.approx(each)
