"""Accesses of two cores that nothing orders."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainshed.chip.accesses import accesses
from trainshed.chip.call import Call
from trainshed.chip.core import Options, enter, target
from trainshed.chip.errors import Source
from trainshed.chip.hazards import duplicate_finding, race_error, races
from trainshed.chip.isa.dma import dma_copy
from trainshed.chip.isa.exchange import core_barrier, sendrecv
from trainshed.chip.isa.move import memset
from trainshed.chip.launch import Launch
from trainshed.chip.registers import VirtualRegister
from trainshed.chip.words import MemoryRegion, engine
from trainshed.numerics.formats import DType


def caller():
    """The line of the test."""
    frame = sys._getframe(1)
    while not frame.f_code.co_name.startswith("test_"):
        frame = frame.f_back
    return Source(frame.f_code.co_filename, frame.f_lineno)


class Pair:
    """Two cores and what they issue, as records alone."""

    def __init__(self, cores=2):
        self.launch = Launch(target("trn2"), Options(values=False), cores)
        self.cores = self.launch.cores
        self.turn = 0

    def tensor(self, shape=(64, 64), name="t"):
        """A tensor in shared HBM that all cores see."""
        tensors = []
        for core in self.cores:
            enter(core)
            tensors.append(core.allocate(shape, DType("float32"), MemoryRegion.shared_hbm, name=name))
        return tensors[0]

    def on(self, index, reads=(), writes=(), opcode="dma_copy", **attributes):
        enter(self.cores[index])
        record = Call(opcode).issue(engine.dma, tuple(reads), tuple(writes), attributes=attributes)
        record.source = caller()
        return record

    def write(self, index, view):
        return self.on(index, writes=[view])

    def read(self, index, view):
        return self.on(index, reads=[view])

    def barrier(self, tensor):
        self.turn += 1
        for index in range(len(self.cores)):
            self.on(index, reads=[tensor], opcode="core_barrier", barrier=self.turn)

    def exchange(self, pipe=0, cores=(0, 1)):
        self.turn += 1
        for index, other in zip(cores, cores[::-1], strict=True):
            self.on(index, opcode="sendrecv", pipe=pipe, turn=self.turn, receive_from=other, send_to=other)

    def races(self):
        enter(None)
        return races(self.cores, [accesses(core) for core in self.cores])


@pytest.fixture
def pair():
    yield Pair()
    enter(None)


def test_a_read_of_what_another_core_writes(pair):
    t = pair.tensor()
    writer = pair.write(0, t)
    reader = pair.read(1, t)
    (race,), _ = pair.races()
    error = race_error(race)
    assert error.rule == "race"
    assert error.source == reader.source
    assert str(error) == (
        f"{reader.source}: dma_copy, t: core 1 reads bytes that dma_copy at {writer.source} writes on core 0, "
        "in either order: 'nothing orders the two'; expected nki.isa.core_barrier on t between them, or disjoint parts."
    )


def test_a_barrier_orders(pair):
    t = pair.tensor()
    pair.write(0, t[0:32])
    pair.write(1, t[32:64])
    pair.barrier(t)
    pair.read(0, t)
    pair.read(1, t)
    assert pair.races() == ([], [])


def test_a_barrier_before_the_write_does_not(pair):
    t = pair.tensor()
    pair.barrier(t)
    pair.write(0, t)
    pair.read(1, t)
    found, _ = pair.races()
    assert len(found) == 1


def test_an_exchange_orders(pair):
    t = pair.tensor()
    pair.write(0, t)
    pair.exchange()
    pair.read(1, t)
    assert pair.races() == ([], [])


def test_one_way_messages_order_one_way(pair):
    t = pair.tensor()
    pair.write(1, t)
    pair.on(0, opcode="sendrecv", pipe=0, turn=0, receive_from=1, send_to=0)
    pair.on(1, opcode="sendrecv", pipe=0, turn=0, receive_from=1, send_to=0)
    pair.read(0, t)
    assert pair.races() == ([], [])
    pair.write(1, t)
    assert len(pair.races()[0]) == 1


def test_interleaved_rows_and_columns_are_disjoint(pair):
    t = pair.tensor()
    pair.write(0, t[0:64:2])
    pair.write(1, t[1:64:2])
    u = pair.tensor(name="u")
    pair.write(0, u[:, 0:64:2])
    pair.write(1, u[:, 1:64:2])
    assert pair.races() == ([], [])


def test_one_shared_element_is_enough(pair):
    t = pair.tensor()
    pair.write(0, t[0:64:2])
    pair.write(1, t[62:63, 63:64])
    (race,), _ = pair.races()
    assert race.both_write
    assert not race.same


def test_reads_do_not_race(pair):
    t = pair.tensor()
    pair.read(0, t)
    pair.read(1, t)
    assert pair.races() == ([], [])


def test_private_hbm_is_private(pair):
    for index, core in enumerate(pair.cores):
        enter(core)
        t = core.allocate((64, 64), DType("float32"), MemoryRegion.private_hbm)
        pair.write(index, t)
        pair.read(index, t)
    assert pair.races() == ([], [])


def both(pair, *steps):
    """Both cores do the same: each step is ``("write", line, view)`` or ``("read", line, view)``."""
    for index in (0, 1):
        for kind, line, view in steps:
            record = (pair.write if kind == "write" else pair.read)(index, view)
            record.source = Source("k.py", line)


def test_the_same_write_on_both_cores_is_told_apart(pair):
    t = pair.tensor()
    both(pair, ("write", 1, t), ("read", 2, t))
    (race,), _ = pair.races()
    assert race.same


def test_zeros_then_values_on_both_cores_end_alike(pair):
    """Each core's last write is the same, so the order of the cores does not matter."""
    t = pair.tensor()
    both(pair, ("write", 1, t), ("write", 2, t[0:3]), ("write", 2, t[5:6]))
    (race,), _ = pair.races()
    assert race.same


def test_zeros_then_values_may_be_read_between(pair):
    """The other core's zeros may come after this core's values and before it reads them."""
    t = pair.tensor()
    both(pair, ("write", 1, t), ("write", 2, t[0:3]), ("read", 3, t[2:4]))
    (race,), _ = pair.races()
    assert not race.same
    assert (race.first.source.line, race.second.source.line) == (1, 3)


def test_parts_written_alike_and_read_whole(pair):
    t = pair.tensor()
    both(pair, ("write", 1, t[0:32]), ("write", 2, t[32:64]), ("read", 3, t))
    (race,), _ = pair.races()
    assert race.same


def test_a_read_before_both_cores_write_alike(pair):
    t = pair.tensor()
    both(pair, ("read", 1, t), ("write", 2, t))
    (race,), _ = pair.races()
    assert not race.same


def test_zeros_on_both_cores_and_a_part_on_each(pair):
    """The other core's zeros may wipe this core's part."""
    t = pair.tensor()
    for index in (0, 1):
        pair.write(index, t).source = Source("k.py", 1)
        pair.write(index, t[32 * index : 32 * index + 32]).source = Source("k.py", 2)
    (race,), _ = pair.races()
    assert not race.same


def test_equal_checksums_make_twins(pair):
    t = pair.tensor()
    both(pair, ("write", 1, t))
    for core, value in zip(pair.cores, (7, 8), strict=True):
        core.state["write-values"] = {(0, t.storage.serial): (value, True)}
    assert not pair.races()[0][0].same
    pair.cores[0].state["write-values"] = pair.cores[1].state["write-values"]
    assert pair.races()[0][0].same


def test_a_barrier_on_another_tensor_is_a_finding(pair):
    t, other = pair.tensor(), pair.tensor(name="other")
    pair.write(0, t)
    pair.barrier(other)
    reader = pair.read(1, t)
    found, findings = pair.races()
    assert found == []
    assert [(f.rule, f.source) for f in findings] == [("barrier-data", reader.source)]


def test_order_passes_through_a_third_core():
    trio = Pair(3)
    try:
        t = trio.tensor()
        trio.write(0, t)
        trio.exchange(0, (0, 1))
        trio.exchange(1, (1, 2))
        trio.read(2, t)
        assert trio.races() == ([], [])
        trio.write(1, t)
        assert len(trio.races()[0]) == 1
    finally:
        enter(None)


def scatter_kernel(core, rows, value, tail):
    """Write ``value`` to some rows of a shared tensor whose first rows all cores agree on, then ``tail``."""
    kind = DType("float32")
    out = core.allocate((16, 8), kind, MemoryRegion.shared_hbm, name="out")
    data = core.allocate((len(rows), 8), kind, MemoryRegion.sbuf)
    index = core.allocate((len(rows), 1), DType("int32"), MemoryRegion.sbuf)
    memset(data, value)
    Call("fill").write("index", index, np.array(rows, np.int32)[:, None])
    dma_copy(out.vector_select(0, index), data)
    tail(core, out, data)


@pytest.mark.parametrize(
    ("rows", "value", "races_"),
    [([8, 9, 10], 2.0, False), ([5, 9, 10], 2.0, True), ([1, 3, 5], 2.0, True), ([1, 3, 5], 1.0, False)],
)
def test_scattered_rows_that_meet_are_a_finding(rows, value, races_):
    """AWS's MoE kernels send all padding to one spare row; disjoint rows and equal values are nothing new."""
    launch = Launch(target("trn2"), Options(), 2)
    launch.run(lambda core: scatter_kernel(core, rows if core.index else [1, 3, 5], value if core.index else 1.0,
                                           lambda *_: None))  # fmt: skip
    found, _ = races(launch.cores, [accesses(core) for core in launch.cores])
    assert all(race.same for race in found)
    assert any(race.scatter for race in found) == races_
    assert {duplicate_finding(race).rule for race in found if race.scatter} == (
        {"duplicate-scatter"} if races_ else set()
    )


def test_a_scatter_and_a_plain_write_that_meet_are_a_race():
    def kernel(core):
        if core.index:
            scatter_kernel(core, [1, 3, 5], 1.0, lambda *_: None)
        else:
            kind = DType("float32")
            out = core.allocate((16, 8), kind, MemoryRegion.shared_hbm, name="out")
            data = core.allocate((1, 8), kind, MemoryRegion.sbuf)
            memset(data, 2.0)
            dma_copy(out[3:4], data)

    launch = Launch(target("trn2"), Options(), 2)
    launch.run(kernel)
    found, _ = races(launch.cores, [accesses(core) for core in launch.cores])
    assert any(not race.same for race in found)


@pytest.mark.parametrize(("row", "races_"), [(5, True), (6, False)])
def test_a_gather_meets_only_the_rows_it_reads(row, races_):
    def tail(core, out, data):
        if core.index:
            register = VirtualRegister(row)
            dma_copy(data[0:1], out.select(0, register).expand_dim(0))

    launch = Launch(target("trn2"), Options(), 2)
    launch.run(lambda core: scatter_kernel(core, [6, 7, 8] if core.index else [1, 3, 5], 1.0, tail))
    found, _ = races(launch.cores, [accesses(core) for core in launch.cores])
    assert bool(found) == races_


def test_a_copy_onto_itself_on_both_cores_disturbs_nobody():
    """AWS's ``dynamic_elementwise_add`` ends with one, as a fence."""

    def kernel(core):
        kind = DType("float32")
        out = core.allocate((2, 8), kind, MemoryRegion.shared_hbm, name="out")
        tile = core.allocate((2, 8), kind, MemoryRegion.sbuf)
        memset(tile, 1.0)
        dma_copy(out, tile)
        dma_copy(out, out)

    launch = Launch(target("trn2"), Options(), 2)
    launch.run(kernel)
    found, _ = races(launch.cores, [accesses(core) for core in launch.cores])
    assert [race.same for race in found] == [True]


@pytest.mark.parametrize("order", ["none", "barrier", "exchange"])
def test_with_the_instructions_themselves(order):
    def kernel(core):
        kind = DType("float32")
        out = core.allocate((2, 8), kind, MemoryRegion.shared_hbm, name="out")
        tile, other = (core.allocate((1, 8), kind, MemoryRegion.sbuf) for _ in range(2))
        memset(tile, 1.0)
        if core.index == 0:
            dma_copy(out[0:1], tile)
        if order == "barrier":
            core_barrier(out, (0, 1))
        elif order == "exchange":
            sendrecv(tile, other, 1 - core.index, 1 - core.index, pipe_id=0)
        if core.index == 1:
            dma_copy(tile, out[0:1])

    launch = Launch(target("trn2"), Options(), 2)
    launch.run(kernel)
    found, findings = races(launch.cores, [accesses(core) for core in launch.cores])
    assert (len(found), findings) == (int(order == "none"), [])


STEP = st.one_of(
    st.tuples(st.just("barrier")),
    st.tuples(st.sampled_from([0, 1]), st.booleans(), st.integers(0, 6), st.integers(1, 4), st.integers(1, 3)),
)


@settings(deadline=None)
@given(st.lists(STEP, max_size=14))
def test_races_are_conflicts_between_two_barriers(steps):
    """Against the definition: same bytes, one writes, no barrier between them."""
    pair = Pair()
    try:
        t = pair.tensor((16,))
        phase, seen, expected = 0, [], False
        for step in steps:
            if step == ("barrier",):
                pair.barrier(t)
                phase += 1
                continue
            index, write, start, count, stride = step
            places = set(range(start, 16, stride)[:count])
            view = t.ap([[stride, len(places)]], offset=start)
            (pair.write if write else pair.read)(index, view)
            expected |= any(p == phase and i != index and (w or write) and cells & places for p, i, w, cells in seen)
            seen.append((phase, index, write, places))
        found, findings = pair.races()
        assert bool(found) == expected
        assert findings == []
    finally:
        enter(None)
