"""What waits for what, against every pair of accesses."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import trainshed.nki as nki
import trainshed.nki.isa as nisa
import trainshed.nki.language as nl
from trainshed.chip.accesses import accesses, meet
from trainshed.chip.memory import Storage
from trainshed.chip.record import Region
from trainshed.chip.timing.kinds import kinds
from trainshed.chip.timing.order import apart, box, dependencies, needed
from trainshed.chip.timing.rates import rates
from trainshed.chip.words import MemoryRegion
from trainshed.numerics.formats import DType

ROOM = {"sbuf": 1 << 18, "psum": 1 << 14}


def run(kernel, *arrays, target="trn2"):
    simulated = nki.simulate(kernel, target=target, values=False)
    simulated(*arrays)
    return simulated.launch


def edges(core, room=ROOM):
    """By instruction, what it waits for; and the same with the instruction before it on its engine."""
    columns = accesses(core)
    found = kinds(columns, rates("trn2"))
    waits = [[] for _ in core.instructions]
    for later, earlier in zip(*(column.tolist() for column in needed(dependencies(columns, room), found)), strict=True):
        waits[later].append(earlier)
    ordered, last = [list(item) for item in waits], {}
    for i, (queue, done) in enumerate(zip(found.queue().tolist(), found.in_order().tolist(), strict=True)):
        if queue in last:
            ordered[i].append(last[queue])
        if done:
            last[queue] = i
    return waits, ordered


def reaches(waits, later, earlier):
    """Whether ``later`` waits for ``earlier``, by way of others too."""
    seen, left = set(), [later]
    while left:
        for other in waits[left.pop()]:
            if other not in seen:
                seen.add(other)
                left.append(other)
    return earlier in seen


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.booleans(), st.integers(0, 7), st.integers(1, 8), st.integers(1, 3)), min_size=2, max_size=8)
)
def test_accesses_that_share_bytes_keep_their_order_and_no_others_wait(steps):
    """Copies between two tiles of 64 columns, from and to places chosen at random."""

    def kernel(a):
        first = nl.ndarray((32, 64), dtype=nl.float32, buffer=nl.sbuf)
        second = nl.ndarray((32, 64), dtype=nl.float32, buffer=nl.sbuf)
        nisa.memset(first, value=0.0)
        nisa.memset(second, value=0.0)
        for turn, start, count, step in steps * 2:  # every part again
            source, target = (first, second) if turn else (second, first)
            columns = slice(4 * start, 4 * start + count * step, step)
            nisa.tensor_copy(dst=target[:, columns], src=source[:, columns])
        out = nl.ndarray((32, 64), dtype=nl.float32, buffer=nl.shared_hbm)
        nisa.dma_copy(dst=out, src=first)
        return out

    launch = run(kernel, np.zeros((1, 1), np.float32))
    core = launch.cores[0]
    items, (waits, ordered) = core.instructions, edges(core)
    whole = [[] for _ in items]
    for later, earlier in zip(*(column.tolist() for column in dependencies(accesses(core), ROOM)), strict=True):
        whole[later].append(earlier)
    for later, item in enumerate(items):
        for earlier in range(later):
            other = items[earlier]
            pairs = [(w, x) for w in other.writes for x in (*item.reads, *item.writes)]
            pairs += [(r, w) for r in other.reads for w in item.writes]
            share = any(meet(one, two) for one, two in pairs)
            if share:
                assert reaches(ordered, later, earlier)
                assert reaches(whole, later, earlier)
            else:
                assert earlier not in waits[later]
                assert earlier not in whole[later]


@pytest.mark.parametrize(("first", "second", "separate"), [
    ((slice(0, 4), slice(0, 8)), (slice(0, 4), slice(8, 16)), True),
    ((slice(0, 4), slice(0, 8)), (slice(4, 8), slice(0, 8)), True),
    ((slice(0, 4), slice(0, 9)), (slice(3, 8), slice(8, 16)), False),
    ((slice(0, 8, 2), slice(0, 4)), (slice(6, 8), slice(0, 4)), False),
])  # fmt: skip
@pytest.mark.parametrize("buffer", [nl.sbuf, nl.shared_hbm])
def test_boxes_of_tiles(first, second, separate, buffer):
    def kernel(a):
        tile = nl.ndarray((8, 16), dtype=nl.float32, buffer=nl.sbuf)
        nisa.memset(tile, value=0.0)
        far = nl.ndarray((8, 16), dtype=nl.float32, buffer=buffer)
        for place in (first, second):
            nisa.dma_copy(dst=far[place], src=tile[place])
        return far

    launch = run(kernel, np.zeros((1, 1), np.float32))
    core = launch.cores[0]
    storage = {one.serial: one for one in core.storages}
    one, two = (item.writes[0] for item in core.instructions[-2:])
    assert apart(box(one, storage[one.storage]), box(two, storage[two.storage])) is separate


def test_what_runs_over_rows_takes_whole_rows():
    def kernel(a):
        far = nl.ndarray((6, 16), dtype=nl.float32, buffer=nl.shared_hbm)
        flat = far.reshape((96,))
        tile = nl.ndarray((1, 40), dtype=nl.float32, buffer=nl.sbuf)
        nisa.memset(tile, value=0.0)
        nisa.dma_copy(dst=flat[20:60].reshape((1, 40)), src=tile)
        return far

    launch = run(kernel, np.zeros((1, 1), np.float32))
    core = launch.cores[0]
    region = core.instructions[-1].writes[0]
    assert box(region, next(s for s in core.storages if s.serial == region.storage)) == ((1, 4), (0, 64))


@given(st.lists(st.tuples(st.integers(0, 40), st.lists(st.tuples(st.integers(-40, 40), st.integers(1, 4)), min_size=1,
       max_size=3), st.sampled_from(["uint8", "bfloat16", "float32"])), min_size=2, max_size=2))  # fmt: skip
def test_boxes_that_are_apart_share_no_byte(parts):
    """Any patterns over a tensor in HBM, of its own dtype and of others."""
    storage = Storage(7, (5, 6, 8), DType("bfloat16"), MemoryRegion.shared_hbm)
    regions = []
    for offset, pattern, dtype in parts:
        reach = sum(stride * (count - 1) for stride, count in pattern if stride < 0)
        regions.append(Region(7, MemoryRegion.shared_hbm, dtype, offset - reach, tuple(pattern)))
    one, two = (box(region, storage) for region in regions)
    if apart(one, two):
        assert not meet(*regions)


def test_memory_is_handed_round_when_it_is_full():
    """Of six tiles of 40 KiB a partition, five fit into 224 KiB: the sixth takes the room of the first."""

    def kernel(a):
        out = nl.ndarray((6, 128, 10240), dtype=nl.float32, buffer=nl.shared_hbm)
        for i in range(6):
            tile = nl.ndarray((128, 10240), dtype=nl.float32, buffer=nl.sbuf)
            nisa.memset(tile, value=float(i))
            nisa.dma_copy(dst=out[i], src=tile)
        return out

    launch = run(kernel, np.zeros((1, 1), np.float32))
    core = launch.cores[0]
    waits, _ = edges(core, {"sbuf": core.target.sbuf_row, "psum": core.target.psum_row})
    assert waits == [[], [0], [], [2], [], [4], [], [6], [], [8], [1], [10]]
