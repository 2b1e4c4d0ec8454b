"""Cores of one launch that do different things."""

from __future__ import annotations

import pytest

from trainshed.chip.core import Options, enter, target
from trainshed.chip.divergence import check_loops, divergence, note_trips
from trainshed.chip.errors import NkiValidationError, Source
from trainshed.chip.isa.move import memset
from trainshed.chip.launch import Launch
from trainshed.chip.words import MemoryRegion
from trainshed.numerics.formats import DType


@pytest.fixture
def launch():
    """Two cores of Trainium2; only records."""
    yield Launch(target("trn2"), Options(values=False), 2)
    enter(None)


def cleared(core):
    """A tile set to zero."""
    tile = core.allocate((1, 8), DType("float32"), MemoryRegion.sbuf)
    memset(tile, 0.0)
    return tile


def test_different_programs_are_a_finding(launch):
    def kernel(core):
        tile = cleared(core)
        if core.index == 0:
            memset(tile, 1.0)
        else:
            memset(tile, 1.0)
        memset(tile, 2.0)

    launch.run(kernel)
    found = divergence(launch.cores)
    assert [f.rule for f in found] == ["lnc-divergence"]
    assert found[0].source == launch.cores[1].instructions[1].source
    assert found[0].message.startswith("cores 0 and 1 execute different instructions from here on (3 and 3 in all)")
    assert divergence(launch.cores[:1]) == []


@pytest.mark.parametrize("longer", [0, 1])
def test_a_longer_program_differs_where_the_other_ends(launch, longer):
    def kernel(core):
        cleared(core)
        if core.index == longer:
            cleared(core)

    launch.run(kernel)
    (found,) = divergence(launch.cores)
    assert found.source == launch.cores[longer].instructions[1].source


def test_equal_programs_do_not_diverge(launch):
    launch.run(cleared)
    assert divergence(launch.cores) == []


@pytest.mark.parametrize(("trips", "value"), [([3, 5], 5), ([3], 0), ([3, 4, 1], 1)])
def test_loops_of_the_hardware_run_alike_on_all_cores(launch, trips, value):
    for core, counts in zip(launch.cores, ([3, 4], trips), strict=True):
        for line, count in enumerate(counts):
            note_trips(core, count, Source("k.py", line))
    with pytest.raises(NkiValidationError, match=r"k.py:\d: dynamic loop: trips on core 1: ") as error:
        check_loops(launch.cores)
    assert (error.value.rule, error.value.value) == ("lnc-divergence", value)
    launch.cores[1].state["trips"] = launch.cores[0].state["trips"]
    check_loops(launch.cores)
