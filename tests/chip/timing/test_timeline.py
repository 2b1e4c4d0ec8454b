"""Engines and memories over time."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import trainshed.nki as nki
import trainshed.nki.isa as nisa
import trainshed.nki.language as nl
from trainshed.chip.timing.clock import Clock
from trainshed.chip.timing.order import Edges
from trainshed.chip.timing.origins import Origin, Origins
from trainshed.chip.timing.path import activity
from trainshed.chip.timing.timeline import busy_shares, live_bytes

LOAD = Origin("k.py:1", "dma_copy", "dma")


def clock_of(starts, ends):
    start, end = np.array(starts, float), np.array(ends, float)
    none = np.zeros(0, np.int64)
    count = len(start)
    seconds = float(end.max(initial=0.0))
    return Clock(start, end, end, start, [-1] * count, seconds, ["load"] * count, Edges(none, none))


def test_shares_of_equal_parts():
    found = busy_shares(Origins((LOAD,), np.zeros(2, np.int64)), clock_of([1, 4], [3, 8]), 4)
    np.testing.assert_allclose(found["dma"], [0.5, 0.5, 1.0, 1.0])


@given(st.lists(st.tuples(st.integers(0, 40), st.integers(1, 20)), min_size=1, max_size=12), st.integers(1, 17))
@settings(deadline=None)
def test_shares_add_up_to_the_active_time_and_count_overlaps_once(spans, count):
    starts, ends = zip(*((start, start + length) for start, length in spans), strict=True)
    where, clock = Origins((LOAD,), np.zeros(len(spans), np.int64)), clock_of(starts, ends)
    shares = busy_shares(where, clock, count)["dma"]
    covered = len({second for start, end in zip(starts, ends, strict=True) for second in range(start, end)})
    assert shares.sum() * clock.seconds / count == pytest.approx(covered)
    assert activity(where, clock)["dma"].busy == pytest.approx(covered)


def test_no_time_has_no_parts():
    assert busy_shares(Origins((), np.zeros(0, np.int64)), clock_of([], []), 4) == {}


def test_tiles_live_from_their_first_write_to_their_last_use():
    def kernel(a):
        out = nl.ndarray((128, 512), dtype=nl.float32, buffer=nl.shared_hbm)
        one, two = (nl.ndarray((128, 512), nl.float32, nl.sbuf) for _ in range(2))
        nisa.dma_copy(dst=one, src=a)
        nisa.tensor_scalar(two, one, nl.add, 1.0)
        nisa.dma_copy(dst=out, src=two)
        return out

    run = nki.simulate(kernel, values=False)
    run(np.zeros((128, 512), np.float32))
    (clock,), (columns,) = run.clocks, run.columns
    moments, held = live_bytes(columns, clock, "sbuf")
    np.testing.assert_allclose(moments, [clock.start[0], clock.start[1], clock.ready[1], clock.ready[2]])
    assert held.tolist() == [2048, 4096, 2048, 0]
    assert [len(part) for part in live_bytes(columns, clock, "psum")] == [0, 0]
