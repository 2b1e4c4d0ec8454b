"""Dependencies from slots, against the definition followed access by access."""

from __future__ import annotations

import sys
from collections import defaultdict
from dataclasses import dataclass

import numpy as np
import pytest

from trainshed.fabric.flow.sends import Sends
from trainshed.fabric.schedule import ALGORITHMS, Schedule, Step, join, schedule, sends
from trainshed.fabric.schedule.steps import Ints

EVERY = [(kind, name) for kind, ways in ALGORITHMS.items() for name in ways]


@dataclass(frozen=True)
class Placed:
    chip: Ints


def spread(ranks: int) -> Placed:
    return Placed(np.arange(ranks))


def must_wait(made: Schedule) -> list[set[int]]:
    """All pairs that share a slot and of which one writes, in different steps; and the turns of repeated steps."""
    accesses: dict[tuple[int, int], list[tuple[int, bool, int]]] = defaultdict(list)
    waits: list[set[int]] = []
    time = number = 0
    for step in made.steps:
        for k, once in enumerate(step.times()):
            for send in range(len(step)):
                waits.append({number - len(step)} if k else set())
                for rank, slots, write in ((once.source, once.reads, False), (once.target, once.writes, True)):
                    for slot in slots[send].tolist():
                        accesses[int(rank[send]), slot].append((time, write, number))
                number += 1
            time += 1
    for seen in accesses.values():
        for at, write, later in seen:
            waits[later] |= {s for before, wrote, s in seen if before < at and (write or wrote)}
    return waits


def closure(waits: list[set[int]]) -> list[set[int]]:
    whole: list[set[int]] = []
    for before in waits:
        whole.append(before.union(*(whole[b] for b in before)))
    return whole


def direct(made: Sends) -> list[set[int]]:
    return [set(made.before[made.first[k] : made.first[k + 1]].tolist()) for k in range(len(made))]


@pytest.mark.parametrize(("kind", "name"), EVERY)
@pytest.mark.parametrize("ranks", [1, 2, 5, 8])
def test_waits_are_those_of_the_definition(kind: str, name: str, ranks: int) -> None:
    made = schedule(kind, name, ranks)
    got = direct(sends(made, 1e6, spread(ranks)))
    assert all(max(before, default=-1) < k for k, before in enumerate(got))
    assert closure(got) == closure(must_wait(made))


@pytest.mark.parametrize("at_once", [1, 300, 10**6])
@pytest.mark.parametrize("kind", ["all_reduce", "all_to_all", "moe_combine"])
def test_ranks_a_few_at_a_time_wait_for_the_same(kind: str, at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    made = schedule(kind, "hierarchical", 24, levels=(3, 2, 4))
    monkeypatch.setattr(sys.modules[sends.__module__], "AT_ONCE", at_once)
    assert closure(direct(sends(made, 1e6, spread(24)))) == closure(must_wait(made))


def test_random_schedules_wait_as_the_definition_says() -> None:
    """Anything a user may build, right or not: several slots, parts, turns, additions."""
    random = np.random.default_rng(11)
    for _ in range(60):
        steps = []
        for _ in range(int(random.integers(1, 5))):
            count = int(random.integers(1, 7))
            source = random.integers(0, 4, count)
            parts = (count,) if random.random() < 0.5 else (count, 2)
            steps.append(Step(
                source=source, target=(source + random.integers(1, 4, count)) % 4, slot=random.integers(0, 5, parts),
                to=random.integers(0, 5, parts), offsets=np.arange(int(random.integers(1, 3))),
                reduce=bool(random.random() < 0.5), repeat=int(random.integers(1, 4)), shift=1, wrap=5,
            ))  # fmt: skip
        made = Schedule(kind="all_reduce", algorithm="any", ranks=4, slots=6, slot_share=0.2, steps=tuple(steps))
        assert closure(direct(sends(made, 1e6, spread(4)))) == closure(must_wait(made))


def test_what_a_ring_and_a_mesh_wait_for() -> None:
    """Ring of 4: nobody at first, then for the rank before and one's own last. Mesh: for all additions."""
    ring = direct(sends(schedule("all_gather", "ring", 4), 4.0, spread(4)))
    assert ring == [set()] * 4 + [{(k - 1) % 4 + 4 * t, k + 4 * t} for t in range(2) for k in range(4)]
    mesh = direct(sends(schedule("all_reduce", "mesh", 4), 4.0, spread(4)))
    assert mesh[:12] == [set()] * 12
    assert all(len(before) == 3 for before in mesh[12:])


@pytest.mark.parametrize(("kind", "name"), EVERY)
def test_columns_are_the_schedules(kind: str, name: str) -> None:
    made = schedule(kind, name, 12)
    got = sends(made, 6e5, Placed(np.arange(12) // 2), start=2.0, group=3)
    whole = sum(float(made.size(step, 6e5).sum()) * step.repeat for step in made.steps)
    assert len(got) == made.sends
    assert got.size.sum() == pytest.approx(whole)
    assert (got.earliest == 2.0).all()
    assert (got.group == 3).all()
    assert got.source.max() <= 5


def test_joined_collectives_do_not_wait_for_each_other() -> None:
    ring = sends(schedule("all_reduce", "ring", 4), 4.0, spread(4))
    mesh = sends(schedule("all_to_all", "direct", 5), 5.0, spread(5), start=1.0, group=1)
    both = join([ring, mesh, ring])
    assert len(both) == 2 * len(ring) + len(mesh)
    assert direct(both)[: len(ring)] == direct(ring)
    last = direct(both)[len(ring) + len(mesh) :]
    assert last == [{b + len(ring) + len(mesh) for b in before} for before in direct(ring)]
    assert both.group.tolist() == [0] * len(ring) + [1] * len(mesh) + [0] * len(ring)
    assert len(join([])) == 0
