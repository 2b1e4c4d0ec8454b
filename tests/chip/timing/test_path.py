"""The critical path and idle engines, on a clock made by hand."""

import numpy as np
import pytest

from trainshed.chip.timing.clock import Clock
from trainshed.chip.timing.order import Edges
from trainshed.chip.timing.origins import Origin, Origins
from trainshed.chip.timing.path import activity, critical, path

LOAD, COPY, STORE = Origin("k.py:1", "dma_copy", "dma"), Origin("k.py:2", "tensor_copy", "vector"), Origin(
    "k.py:3", "dma_copy", "dma"
)  # fmt: skip
#: Two loads, two copies that wait for them, a store that waits for the second.
ORIGINS = Origins((LOAD, COPY, STORE), np.array([0, 0, 1, 1, 2]))
CLOCK = Clock(
    start=np.array([1.0, 4.0, 3.5, 7.0, 9.0]), end=np.array([3.0, 6.0, 5.0, 8.0, 11.0]),
    ready=np.array([3.5, 7.0, 5.0, 8.0, 12.0]), release=np.array([0.0, 3.0, 3.5, 7.0, 8.0]), cause=[-1, 0, 0, 1, 3],
    seconds=12.0, queue=["load", "load", "vector", "vector", "store"],
    edges=Edges(np.array([2, 3, 4]), np.array([0, 1, 3])),
)  # fmt: skip


DMAS = np.array([0, 1, 4])


def test_the_path_runs_back_over_causes_from_what_ends_last():
    steps, begins = path(CLOCK, DMAS)
    assert steps.tolist() == [4, 3, 1, 0]
    assert begins.tolist() == [8.0, 7.0, 3.0, 0.0]


def test_seconds_of_the_critical_path_are_from_release_to_release():
    found = critical(ORIGINS, CLOCK)
    assert [(s.source, s.count, s.seconds) for s in found] == [
        ("k.py:1", 2, 7.0), ("k.py:3", 1, 4.0), ("k.py:2", 1, 1.0),
    ]  # fmt: skip
    assert sum(step.share for step in found) == pytest.approx(1)


def test_a_transfer_that_waits_for_the_engines_leads_to_the_one_before():
    """Three loads asked for at once, one second from release to start, two on the engines."""
    starts = np.array([1.0, 3.0, 5.0])
    queue = ["load"] * 3
    none = np.zeros(0, np.int64)
    waiting = Clock(starts, starts + 2, starts + 2.5, np.zeros(3), [-1, -1, -1], 7.5, queue, Edges(none, none))
    steps, begins = path(waiting, np.arange(3))
    assert steps.tolist() == [2, 1, 0]
    assert begins.tolist() == [5.0, 3.0, 0.0]
    (step,) = critical(Origins((LOAD,), np.zeros(3, np.int64)), waiting)
    assert (step.count, step.seconds) == (3, 7.5)


def test_what_waits_for_another_core_is_told():
    one, none = np.array([4.0]), np.zeros(0, np.int64)
    clock = Clock(one, one + 1, one + 1, one, [-1], 5.0, ["vector"], Edges(none, none))
    where = Origins((COPY,), np.zeros(1, np.int64))
    assert [(s.opcode, s.seconds) for s in critical(where, clock)] == [("another core", 4.0), ("tensor_copy", 1.0)]
    (wait,) = activity(where, clock)["vector"].waits
    assert (wait.opcode, wait.seconds) == ("another core", 4.0)


def test_an_idle_engine_says_whose_instruction_it_waited_for():
    found = activity(ORIGINS, CLOCK)
    vector = found["vector"]
    assert (vector.instructions, vector.busy, vector.idle) == (2, 2.5, 9.5)
    assert [(w.opcode, w.source, w.engine, w.count, w.seconds) for w in vector.waits] == [
        ("dma_copy", "k.py:1", "dma", 2, 5.5), ("no more work", "", "", 1, 4.0),
    ]  # fmt: skip
    assert vector.share == pytest.approx(2.5 / 12)


def test_transfers_that_overlap_keep_dma_busy_once():
    found = activity(ORIGINS, CLOCK)["dma"]
    assert (found.busy, found.idle) == (6.0, 6.0)
    assert {w.opcode + w.source: w.seconds for w in found.waits} == {
        "tensor_copyk.py:2": 3.0, "dma_copyk.py:1": 1.0, "start of the kernel": 1.0, "no more work": 1.0,
    }  # fmt: skip


def test_a_core_without_instructions_has_no_path():
    nothing = np.zeros(0)
    none = np.zeros(0, np.int64)
    empty = Clock(nothing, nothing, nothing, nothing, [], 0.0, [], Edges(none, none))
    none = Origins((), np.zeros(0, np.int64))
    assert critical(none, empty) == ()
    assert activity(none, empty) == {}
