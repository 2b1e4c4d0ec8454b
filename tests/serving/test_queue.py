"""The closed loop against exact mean value analysis and against its limits."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainshed.serving.queue import balance, stay


def exact(members: int, service: float, away: float) -> float:
    """Mean value analysis of one station and a delay (Reiser and Lavenberg 1980): seconds at the station."""
    queue = 0.0
    waited = service
    for n in range(1, members + 1):
        waited = service * (1 + queue)
        queue = n * waited / (waited + away)
    return waited


@given(members=st.integers(1, 200), service=st.floats(0.001, 1.0), away=st.floats(0.1, 100.0))
def test_the_stay_is_near_exact_mean_value_analysis(members: int, service: float, away: float) -> None:
    found = float(stay(service, service, np.asarray(members - 1.0), away))
    assert found == pytest.approx(exact(members, service, away), rel=0.35)


def test_alone_nobody_is_ahead() -> None:
    found = balance(members=1.0, steps=100.0, step=lambda n: 0.01 * np.ones_like(n), stall=np.zeros(()), latency=0.2,
                    service=lambda step: 0.2)  # fmt: skip
    assert float(found.ahead) == 0
    assert float(found.stay) == pytest.approx(0.2)
    assert float(found.decoding) == pytest.approx(1.0 / 1.2, rel=1e-6)


def test_a_saturated_prefill_sets_the_pace() -> None:
    found = balance(members=1000.0, steps=1.0, step=lambda n: 0.01 * np.ones_like(n), stall=np.zeros(()), latency=0.1,
                    service=lambda step: 0.1)  # fmt: skip
    cycle = float(found.stay + found.residence)
    assert 1000.0 / cycle == pytest.approx(1.0 / 0.1, rel=0.01)


@given(members=st.floats(1.0, 500.0), servers=st.floats(1.0, 8.0))
def test_more_prefill_servers_never_make_prompts_wait_longer(members: float, servers: float) -> None:
    def solve(count: float) -> float:
        found = balance(members=members, steps=200.0, step=lambda n: 0.005 + 1e-5 * n, stall=np.zeros(()),
                        latency=0.1, service=lambda step: 0.1, servers=count)  # fmt: skip
        return float(found.stay)

    assert solve(servers) <= solve(1.0) * (1 + 1e-6)


def test_requests_in_decode_and_in_prefill_are_all_there_are() -> None:
    found = balance(members=np.array([4.0, 64.0]), steps=500.0, step=lambda n: 0.004 + 1e-5 * n, stall=0.02,
                    latency=0.05, service=lambda step: 0.03)  # fmt: skip
    inside = found.decoding * (found.stay + found.residence) / found.residence
    assert inside == pytest.approx(np.array([4.0, 64.0]), rel=1e-3)
