"""Pipeline stages: layers add up, and the closed form equals a 1F1B schedule played through."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from trainshed.core import Plan
from trainshed.parallel import in_flight, split_layers, stage_times


@given(layers=st.integers(1, 130), pp=st.integers(1, 32), vpp=st.integers(1, 8))
def test_every_layer_is_on_one_stage(layers: int, pp: int, vpp: int) -> None:
    assume(pp * vpp <= layers)
    stages = split_layers(Plan(pp=pp, vpp=vpp), layers)
    total = float(stages.first) + (float(stages.middle) * (pp - 2) + float(stages.last) if pp > 1 else 0.0)
    assert total == pytest.approx(layers)
    assert min(float(stages.first), float(stages.last)) >= 0


@pytest.mark.parametrize(
    ("layers", "pp", "vpp", "held"), [(80, 4, 5, (20, 20, 20)), (126, 8, 8, (15, 16, 15)), (61, 16, 1, (3, 4, 2))]
)
def test_uneven_layers_leave_room_for_embedding_and_head(layers: int, pp: int, vpp: int, held: tuple[int, ...]) -> None:
    stages = split_layers(Plan(pp=pp, vpp=vpp), layers)
    assert (float(stages.first), float(stages.middle), float(stages.last)) == held


@pytest.mark.parametrize(("ends", "last"), [(0.0, 14), (1.2, 14), (3.4, 13), (9.0, 13)])
def test_missing_layers_make_room_for_what_the_last_stage_has_besides(ends: float, last: int) -> None:
    # DeepSeek-V3's 61 layers in 16 chunks of four: three are missing
    stages = split_layers(Plan(pp=4, vpp=4), 61, ends=ends)
    assert float(stages.last) == last
    assert float(stages.first) + 2 * float(stages.middle) + float(stages.last) == 61


def play_1f1b(times: list[tuple[float, float]], micro_batches: int) -> float:
    """Seconds of a 1F1B schedule with instant sends: each stage runs its own list of passes in order."""
    p = len(times)
    orders = []
    for stage in range(p):
        warm = min(p - stage, micro_batches)
        order = [("f", i) for i in range(warm)]
        for i in range(micro_batches):
            order.append(("b", i))
            if warm + i < micro_batches:
                order.append(("f", warm + i))
        orders.append(order)
    done: dict[tuple[str, int, int], float] = {}
    clock, position = [0.0] * p, [0] * p
    while any(position[s] < len(orders[s]) for s in range(p)):
        for s in range(p):
            if position[s] == len(orders[s]):
                continue
            kind, i = orders[s][position[s]]
            needs = ("f", s - 1, i) if kind == "f" else ("b", s + 1, i)
            if kind == "b" and s == p - 1:
                needs = ("f", s, i)
            ready = 0.0 if (kind == "f" and s == 0) else done.get(needs)
            if ready is None:
                continue
            clock[s] = max(clock[s], ready) + times[s][0 if kind == "f" else 1]
            done[kind, s, i] = clock[s]
            position[s] += 1
    return max(clock)


@pytest.mark.parametrize("micro_batches", [1, 4, 9, 32])
@pytest.mark.parametrize("pp", [1, 2, 4, 8])
def test_equal_stages_take_m_plus_p_minus_one_slots(pp: int, micro_batches: int) -> None:
    played = play_1f1b([(1.0, 2.0)] * pp, micro_batches)
    stages = split_layers(Plan(pp=pp), pp)
    first, middle, last = (float(t) for t in stage_times(stages, 3.0, 0.0, 0.0))
    slowest = max(first, middle, last)
    assert played == pytest.approx(micro_batches * slowest + (pp * 3.0 - slowest))


def test_a_slower_last_stage_sets_the_pace() -> None:
    played = play_1f1b([(1.0, 2.0)] * 3 + [(1.5, 3.0)], 64)
    assert played == pytest.approx(64 * 4.5 + 3 * 3.0, rel=0.01)


def test_activations_in_flight() -> None:
    # arXiv:2205.05198, section 4.2.3: p micro-batches, interleaved 1 + (p - 1) / (p m) times as many
    assert float(in_flight(Plan(pp=8), 64)) == 8
    assert float(in_flight(Plan(pp=8, vpp=4), 64)) == pytest.approx(8 * (1 + 7 / 32))
    assert float(in_flight(Plan(pp=8), 2)) == 2
    assert np.array_equal(in_flight(Plan.stack([Plan(pp=2), Plan(pp=4)]), 8), [2, 4])
