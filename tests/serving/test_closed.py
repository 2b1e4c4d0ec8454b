"""Closed loops: limits, laws, and a discrete simulation of the same policy."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from trainshed.serving import Deployment, Worker, Workload, run, steps


def number(value: object) -> float:
    return float(np.asarray(getattr(value, "value", value)))


def closed(worker: Worker, users: float, **changes: object) -> tuple[float, float, float]:
    work = Workload(mode="closed", isl=1000.0, osl=200.0, concurrency=users, **changes)  # type: ignore[arg-type]
    found = run(Deployment.of(worker), work)
    return number(found.ttft), number(found.tpot), number(found.tokens_per_s)


def test_one_user_never_waits(worker: Callable[..., Worker]) -> None:
    w = worker(schedule="prefill-first")
    ttft, tpot, _ = closed(w, 1.0)
    step = number(steps.decode(w, sequences=1.0, context=1100.0).time)
    assert tpot == pytest.approx(step, rel=0.06)
    assert ttft == pytest.approx(number(steps.prefill(w, sequences=1.0, tokens=1000.0).time) + step / 2, rel=0.02)


def simulate(prefill: float, step: Callable[[int], float], users: int, osl: int, requests: int) -> float:
    """Tokens per second of an engine that prefills waiting prompts one by one before it decodes."""
    now, waiting, running, done = 0.0, users, [], 0
    started = np.linspace(1, osl, users).astype(int).tolist()  # spread out from the start: no waves
    running, waiting = started, 0
    while done < requests:
        while waiting:
            now += prefill
            running.append(1)
            waiting -= 1
        now += step(len(running))
        running = [n + 1 for n in running]
        ended = sum(n >= osl for n in running)
        running = [n for n in running if n < osl]
        done += ended
        waiting += ended
    return done * osl / now


@pytest.mark.parametrize("users", [4, 32, 128])
def test_throughput_is_that_of_a_simulated_engine(worker: Callable[..., Worker], users: int) -> None:
    w = worker(schedule="prefill-first", step_host=1e-3, tokens_per_step=1000.0)
    prefill = number(steps.prefill(w, sequences=1.0, tokens=1000.0).time)
    times = {n: number(steps.decode(w, sequences=float(n), context=1100.0).time) for n in range(1, users + 1)}
    simulated = simulate(prefill, times.__getitem__, users, 200, 20 * users)
    assert closed(w, float(users))[2] == pytest.approx(simulated, rel=0.07)


def test_more_users_mean_more_tokens_and_longer_steps(worker: Callable[..., Worker]) -> None:
    work = Workload(mode="closed", isl=1000.0, osl=200.0, concurrency=np.array([1.0, 4, 16, 64, 256]))
    found = run(Deployment.of(worker()), work)
    assert np.all(np.diff(np.asarray(found.tokens_per_s)) > 0)
    assert found.tpot is not None
    assert np.all(np.diff(np.asarray(found.tpot.value)) > 0)


def test_users_beyond_the_batch_limit_only_wait(worker: Callable[..., Worker]) -> None:
    few, many = closed(worker(max_batch=16.0), 16.0), closed(worker(max_batch=16.0), 64.0)
    assert many[1] == pytest.approx(few[1], rel=0.02)
    assert many[2] == pytest.approx(few[2], rel=0.10)
    assert many[0] > 3 * few[0]


def test_the_first_burst_lengthens_the_mean_wait(worker: Callable[..., Worker]) -> None:
    assert closed(worker(), 64.0, requests=128.0)[0] > closed(worker(), 64.0, requests=6400.0)[0]


def test_equal_requests_return_in_waves_where_prefill_goes_first(worker: Callable[..., Worker]) -> None:
    w = worker(schedule="prefill-first")
    one = number(steps.prefill(w, sequences=8.0, tokens=1000.0).time) / 8
    assert closed(w, 64.0, equal=True)[0] == pytest.approx(33 * one, rel=0.15)


def test_pools_do_not_disturb_each_other(worker: Callable[..., Worker]) -> None:
    work = Workload(mode="closed", isl=4000.0, osl=200.0, concurrency=32.0)
    apart = run(Deployment(prefill=worker(plan="x4"), decode=worker()), work)
    shared = run(Deployment.of(worker()), work)
    assert number(apart.tpot) < number(shared.tpot)
    step = number(steps.decode(worker(), sequences=number(apart.running), context=4100.0).time)
    assert number(apart.tpot) == pytest.approx(step, rel=1e-3)


def test_the_kv_cache_moves_between_pools(worker: Callable[..., Worker]) -> None:
    work = Workload(mode="closed", isl=4000.0, osl=2.0, concurrency=1.0)
    near = number(run(Deployment(prefill=worker(), decode=worker()), work).ttft)
    far = number(run(Deployment(prefill=worker(handover=0.3), decode=worker(handover=0.3)), work).ttft)
    assert far - near == pytest.approx(0.3)
    moved = 4000 * 2 * 32 * 8 * 128 * 2 / (4e11 * 0.8)
    assert near == pytest.approx(number(steps.prefill(worker(), sequences=1.0, tokens=4000.0).time) + moved, rel=0.02)
