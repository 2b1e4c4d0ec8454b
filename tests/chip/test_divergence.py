"""Cores of one launch that do different things."""

from __future__ import annotations

import pytest

from trainshed.chip.core import Options, enter, target
from trainshed.chip.divergence import check_loops, check_results, divergence, note_trips
from trainshed.chip.errors import NkiValidationError, Source
from trainshed.chip.isa.dma import dma_copy
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


def output(core, *, name="", where=MemoryRegion.shared_hbm, value=None):
    """A tensor of the memory, and what the core writes to it, if anything."""
    made = core.allocate((1, 8), DType("float32"), where, name=name)
    if value is not None:
        tile = cleared(core)
        memset(tile, value)
        dma_copy(made, tile)
    return made


def named(core, *, name, **_):
    """As ``output``, at another line."""
    made = core.allocate((1, 8), DType("float32"), MemoryRegion.shared_hbm, name=name)
    dma_copy(made, cleared(core))
    return made


def results(kernel, values=True):
    """A launch whose cores have returned, each result a list of tensors."""
    made = Launch(target("trn2"), Options(values=values), 2)
    returned = made.run(kernel)
    check_results(made.cores, returned)
    return made


def own_line(core):
    """Each core allocates the output at a line of its own."""
    if core.index == 0:
        out = output(core, value=0.0)
    else:
        out = core.allocate((1, 8), DType("float32"), MemoryRegion.shared_hbm)
        dma_copy(out, cleared(core))
    return [out]


@pytest.mark.parametrize("values", [True, False])
def test_a_result_that_only_a_later_core_returns_is_an_error_of_its_line(values):
    with pytest.raises(NkiValidationError, match=r"result 0 of core 1, which would be lost: .*; expected what core 0 "
                       r"returns, .* of .*test_divergence\.py:\d+: allocated by all") as error:  # fmt: skip
        results(own_line, values)
    line = own_line.__code__.co_firstlineno + 5
    assert (error.value.rule, error.value.source) == ("divergent-results", Source(__file__, line))


def test_more_results_than_core_0_has_would_be_lost():
    with pytest.raises(NkiValidationError, match="expected what core 0 returns, nothing"):
        results(lambda core: [output(core, value=1.0)][: core.index])


def test_parts_of_one_tensor_would_be_lost():
    with pytest.raises(NkiValidationError, match="at element 4"):
        results(lambda core: [output(core, value=1.0)[:, 4 * core.index : 4 * core.index + 4]])


@pytest.mark.parametrize("kernel", [
    lambda core: [output(core, value=1.0)],
    lambda core: [(output if core.index else named)(core, name="out", value=1.0)],
    lambda core: [output(core, name=f"out{core.index}", value=None if core.index else 1.0)],
    lambda core: [output(core, value=1.0)][core.index :],
    lambda core: [],
])  # fmt: skip
def test_nothing_is_lost_where_cores_return_one_tensor_or_do_not_write_theirs(kernel):
    assert not any(core.findings for core in results(kernel).cores)


@pytest.mark.parametrize(("value", "count"), [(0.0, 1), (1.0, 0)])
def test_results_outside_shared_hbm_are_a_finding_where_they_differ(value, count):
    made = results(lambda core: [output(core, where=MemoryRegion.private_hbm, value=value if core.index else 1.0)])
    assert [f.rule for f in made.cores[1].findings] == ["divergent-results"] * count
