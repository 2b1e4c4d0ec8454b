"""Steps, what they read and write from one time to the next, and how they are composed."""

from __future__ import annotations

import numpy as np
import pytest

from trainshed.fabric.schedule import Schedule, Step, schedule
from trainshed.fabric.schedule.compose import backwards, split
from trainshed.fabric.schedule.gather import ring
from trainshed.fabric.schedule.kinds import NOTHING, end, start


def test_times_move_slots_within_wrap() -> None:
    step = Step(source=np.array([0]), target=np.array([1]), slot=np.array([4]), to=np.array([2]),
                offsets=np.array([0, 10]), repeat=4, shift=-2, wrap=6)  # fmt: skip
    times = list(step.times())
    assert [t.reads[0].tolist() for t in times] == [[4, 14], [2, 12], [0, 10], [4, 14]]
    assert [t.writes[0].tolist() for t in times] == [[2, 12], [0, 10], [4, 14], [2, 12]]
    assert all(t.repeat == 1 for t in times)


def test_parts_and_offsets_multiply() -> None:
    slot = np.array([[0, 4], [1, 5]])
    step = Step(source=np.array([0, 1]), target=np.array([1, 0]), slot=slot, to=slot, offsets=np.array([0, 8]))
    assert step.count == 4
    assert step.reads.tolist() == [[0, 8, 4, 12], [1, 9, 5, 13]]
    none = np.zeros(0, np.int64)
    assert Step(source=none, target=none, slot=none, to=none).reads.shape == (0, 1)


def test_bytes_follow_slots_and_weights() -> None:
    slot = np.array([0, 1])
    step = Step(
        source=slot, target=1 - slot, slot=slot, to=slot, weight=np.array([0.5, 2.0]), repeat=3, shift=1, wrap=2
    )
    made = Schedule(kind="all_gather", algorithm="x", ranks=2, slots=2, slot_share=0.5, steps=(step,))
    assert made.size(step, 8.0).tolist() == [2.0, 8.0]
    assert made.sends == 6


def test_backwards_twice_is_the_same_but_added() -> None:
    step = ring(5).steps[0]
    (twice,) = backwards(backwards([step]))
    for k in range(4):
        assert twice.time(k).reads.tolist() == step.time(k).reads.tolist()
        assert twice.time(k).target.tolist() == step.time(k).target.tolist()
    assert twice.reduce


def test_split_moves_the_pieces_together() -> None:
    step = split(ring(3).steps[0], 2)
    assert [t.reads.tolist() for t in step.times()] == [[[0, 1], [2, 3], [4, 5]], [[4, 5], [0, 1], [2, 3]]]


def test_a_ring_of_any_size_is_two_steps() -> None:
    made = schedule("all_reduce", "ring", 100_000)
    assert len(made.steps) == 2
    assert made.sends == 2 * 100_000 * 99_999


def test_a_hierarchy_of_a_million_ranks_is_a_few_columns() -> None:
    made = schedule("all_reduce", "hierarchical", 999_936, levels=(4, 36, 6944), ways="ring")
    assert sum(len(step) for step in made.steps) == 6 * 999_936


@pytest.mark.parametrize(("kind", "name"), [("all_reduce", "ring"), ("moe_combine", "direct"), ("broadcast", "mesh")])
def test_what_kinds_start_and_end_with(kind: str, name: str) -> None:
    made = schedule(kind, name, 3)
    have, want = start(made), end(made)
    assert have.shape == want.shape == (3, made.slots)
    if kind == "all_reduce":
        assert np.array_equal(have, want)
    if kind == "moe_combine":
        assert want.tolist() == [[0, NOTHING, NOTHING], [NOTHING, 1, NOTHING], [NOTHING, NOTHING, 2]]
    if kind == "broadcast":
        assert have.tolist() == [[0], [NOTHING], [NOTHING]]


@pytest.mark.parametrize(
    ("kind", "name"), [("reduce_scatter", "mesh"), ("all_gather", "mesh"), ("all_to_all", "direct")]
)
def test_ranks_issue_to_different_targets_first(kind: str, name: str) -> None:
    (step,) = schedule(kind, name, 6).steps
    firsts = [int(step.target[step.source == rank][0]) for rank in range(6)]
    assert sorted(firsts) == list(range(6))
