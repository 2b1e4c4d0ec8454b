"""Algorithms of the user's own."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from trainshed.core import UserError
from trainshed.fabric.schedule import ALGORITHMS, Builder, Schedule, algorithm, check, replay, schedule
from trainshed.fabric.schedule.registry import ALGORITHMS as REGISTERED


@pytest.fixture
def star() -> Iterator[None]:
    """Everyone adds to rank 0, which sends the sum to everyone."""

    @algorithm("all_reduce", "star")
    def star(ranks: int, centre: int = 0) -> Schedule:
        build = Builder("all_reduce", ranks)
        for rank in range(ranks):
            if rank != centre:
                build.send(rank, centre, slot=0, reduce=True)
        build.next()
        others = np.delete(np.arange(ranks), centre)
        build.send(centre, others, slot=0)
        return build.schedule()

    yield
    del REGISTERED["all_reduce"]["star"]


@pytest.mark.usefixtures("star")
@pytest.mark.parametrize(("ranks", "centre"), [(2, 0), (7, 3), (12, 11)])
def test_a_users_algorithm_is_one_like_any_other(ranks: int, centre: int) -> None:
    made = schedule("all_reduce", "star", ranks, centre=centre)
    check(made)
    given = np.arange(ranks * 5).reshape(ranks, 5)
    assert np.array_equal(replay(made, given), np.tile(given.sum(axis=0), (ranks, 1)))
    assert (made.algorithm, made.sends, len(made.steps)) == ("star", 2 * (ranks - 1), 2)


def test_built_as_the_library_builds_it() -> None:
    build = Builder("all_gather", 5, slots=10)
    for k in range(4):
        ring = np.arange(5)
        build.send(ring, (ring + 1) % 5, 2 * ((ring - k) % 5), count=2)
        build.next()
    build.next()  # nothing was sent since
    made = build.schedule()
    check(made)
    given = np.arange(15).reshape(5, 3)
    assert np.array_equal(replay(made, given), np.tile(given.reshape(-1), (5, 1)))
    assert len(made.steps) == 4
    assert sum(float(made.size(s, 1.0).sum()) for s in made.steps) == pytest.approx(4.0)


def test_scratch_and_output() -> None:
    """An all_to_all of two ranks by way of scratch."""
    build = Builder("all_to_all", 3, scratch=4)
    build.send([0, 1, 2], [1, 2, 0], [1, 2, 0], [3, 4, 5])
    build.send([0, 1, 2], [1, 2, 0], [2, 0, 1], 6)
    build.next()
    build.send([1, 2, 0], [2, 0, 1], 6, [3, 4, 5])
    made = build.schedule(output=3)
    check(made)
    given = np.arange(9).reshape(3, 3)
    assert np.array_equal(replay(made, given), given.T)


def test_permute_knows_its_partners() -> None:
    build = Builder("permute", 3)
    build.send([0, 1, 2], [2, 0, 1], 0)
    with pytest.raises(UserError, match="rank 0 ends with the wrong thing"):
        check(build.schedule())
    check(build.schedule(partner=[2, 0, 1]))


@pytest.mark.parametrize(
    ("send", "words"),
    [
        (lambda b: b.send([0, 1], [1, 2, 3], 0), "differ in length"),
        (lambda b: b.send(0, 1, 0.5), "whole numbers"),
        (lambda b: (b.send(0, 1, 0), b.send(1, 2, 0, reduce=True)), "reduce=False, count=1 as before, or next"),
        (lambda b: (b.send(0, 1, 0), b.send(1, 2, 0, count=2)), "count=1 as before"),
    ],
)
def test_bad_sends_are_one_sentence(send: object, words: str) -> None:
    with pytest.raises(UserError, match=words):
        send(Builder("all_reduce", 4))  # type: ignore[operator]


def test_bad_builders_and_names() -> None:
    with pytest.raises(UserError, match="unknown collective"):
        Builder("all_reduec", 4)
    with pytest.raises(UserError, match="a multiple of 4 ranks"):
        Builder("all_gather", 4, slots=6)
    with pytest.raises(UserError, match="unknown collective"):
        algorithm("gather", "mine")


def test_names_are_those_of_the_closed_forms() -> None:
    """All but nvls, where the switch adds up and no schedule of sends can say it."""
    from trainshed.fabric import ALGORITHMS as CLOSED

    for kind, ways in CLOSED.items():
        assert set(ways) - {"nvls"} <= set(ALGORITHMS[kind]), kind
