"""Launched Neuron programs: launch, the meeting of ranks, collectives."""

from __future__ import annotations

import numpy as np
import pytest

from trainshed.core import UserError, total
from trainshed.fabric import Group, collective, program
from trainshed.hardware.schema import Level

from .conftest import constant, level


def chip() -> Level:
    lv = level("chip", 1, 1e12, topology="chip", key="core")
    more = {"program": constant("interconnect/core.program", 1e-4, "s"),
            "meeting": constant("interconnect/core.meeting", 5e-4, "s")}  # fmt: skip
    return Level(**{**vars(lv), "fitted": {**lv.fitted, **more}})


def server() -> Level:
    lv = level("server", 16, 4e11, topology="torus", dims=(4, 4), key="link")
    meeting = constant("interconnect/link.meeting", 6e-4, "s")
    return Level(**{**vars(lv), "fitted": {**lv.fitted, "meeting": meeting}})


LEVELS = (chip(), server())


def run(ranks: float, count: object, **more: bool) -> np.ndarray:  # type: ignore[type-arg]
    group = Group(ranks=ranks)
    one = collective("all_reduce", size=32768, group=group, levels=LEVELS, ranks_per_chip=4.0).time
    cost = program(LEVELS, group=group, collectives=one, count=count, ranks_per_chip=4.0, **more)  # type: ignore[arg-type]
    return np.asarray(cost.value) - np.asarray(count) * float(np.asarray(one.value))


def test_an_empty_program_only_launches() -> None:
    assert run(16, 0.0) == pytest.approx(1e-4)


@pytest.mark.parametrize(("ranks", "meeting"), [(2, 5e-4), (4, 15e-4), (16, 15e-4 + 2 * 6e-4), (64, 15e-4 + 4 * 6e-4)])
def test_ranks_meet_once_per_launch_whatever_is_inside(ranks: int, meeting: float) -> None:
    """Ranks of a chip one after another, chips in rounds of pairs; 12 collectives meet as often as one."""
    assert run(ranks, np.array([1.0, 12.0])) == pytest.approx(1e-4 + meeting)


def test_runtimes_without_the_meeting() -> None:
    assert run(16, 1.0, meets=False) == pytest.approx(1e-4)


def test_only_neuron_systems_launch_programs(make_level: object) -> None:
    with pytest.raises(UserError, match="no launch time of whole programs"):
        program((level("rack", 8, 1e11),), group=Group(ranks=2), collectives=total("none", []), count=1.0)
