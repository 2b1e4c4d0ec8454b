"""Rounds say of each way what its schedule says."""

from __future__ import annotations

import numpy as np
import pytest

from trainshed.core import UserError
from trainshed.fabric.scale.rounds import WAYS, Everyone, Round, rounds
from trainshed.fabric.schedule import schedule

SIZES = {"ring": (2, 3, 5, 8), "mesh": (2, 3, 6), "rhd": (2, 4, 8, 16), "bruck": (2, 4, 7, 8, 14, 16)}


def said(each: Round | Everyone, ranks: int) -> set[tuple[int, int, float]]:
    """Source, target, part of the buffer of all sends of a round."""
    if isinstance(each, Everyone):
        return {(s, t, 1 / ranks) for s in range(ranks) for t in range(ranks) if s != t}
    rows = zip(each.source.tolist(), each.target.tolist(), (each.slots / ranks).tolist(), strict=True)
    return set(rows)


@pytest.mark.parametrize("kind", ["all_gather", "reduce_scatter", "all_reduce"])
@pytest.mark.parametrize(("way", "ranks"), [(way, n) for way in WAYS for n in SIZES[way]])
def test_sends_of_every_round(kind: str, way: str, ranks: int) -> None:
    steps = schedule(kind, "hierarchical", ranks, levels=(ranks,), ways=way).steps
    found = rounds(kind, way, ranks)
    assert len(found) == len(steps)
    for each, step in zip(found, steps, strict=True):
        part = step.count / schedule(kind, "hierarchical", ranks, levels=(ranks,), ways=way).slots
        wanted = {(s, t, part) for s, t in zip(step.source.tolist(), step.target.tolist(), strict=True)}
        got = said(each, ranks)
        assert {row[:2] for row in got} == {row[:2] for row in wanted}
        assert np.allclose(sorted(row[2] for row in got), part)
        assert getattr(each, "repeat", 1) == step.repeat
        assert each.adds == step.reduce


@pytest.mark.parametrize(("way", "ranks"), [("rhd", 6), ("rhd", 6944), ("bruck", 3), ("bruck", 5), ("bruck", 6)])
def test_rounds_that_overlap_are_refused(way: str, ranks: int) -> None:
    with pytest.raises(UserError, match=f"members of {way}"):
        rounds("all_reduce", way, ranks)


def test_one_member_has_nothing_to_do() -> None:
    assert all(rounds("all_reduce", way, 1) == () for way in WAYS)
