"""Explicit addresses that clash."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainshed.chip.accesses import accesses
from trainshed.chip.call import Call
from trainshed.chip.core import NeuronCore, Options, enter, target
from trainshed.chip.errors import NkiValidationError
from trainshed.chip.isa.dma import dma_compute, dma_copy, dma_transpose
from trainshed.chip.isa.tensor import nc_matmul
from trainshed.chip.launch import Launch
from trainshed.chip.overlap import check_overlap, overlapping_dmas
from trainshed.chip.profile import profile
from trainshed.chip.registers import VirtualRegister
from trainshed.chip.words import MemoryRegion, engine
from trainshed.numerics.formats import DType


def use(reads=(), writes=(), opcode="touch"):
    """One instruction that touches tensors, as a record alone."""
    return Call(opcode).issue(engine.vector, tuple(reads), tuple(writes))


def tile(core, address, shape=(128, 16), buffer="sbuf", name=""):
    return core.allocate(shape, DType("float32"), MemoryRegion(buffer), address=address, name=name)


def clash(core):
    """The error, if any."""
    try:
        check_overlap(accesses(core))
    except NkiValidationError as error:
        return error
    return None


def test_a_tensor_overwritten_before_its_last_read(core):
    a, b = tile(core, (0, 0), name="a"), tile(core, (0, 32), name="b")
    use(writes=[a], opcode="first")
    culprit = use(writes=[b], opcode="second")
    reader = use(reads=[a], opcode="third")
    error = clash(core)
    assert error.rule == "overlap"
    assert error.source == reader.source
    assert str(error) == (
        f"{reader.source}: third, a: reads bytes that second at {culprit.source} wrote over through: "
        "'b at address (0, 32)'; expected another address than (0, 0), which still holds live data."
    )


def test_reuse_in_turn_is_legal(core):
    a, b = tile(core, (0, 0)), tile(core, (0, 0))
    for _ in range(3):
        use(writes=[a])
        use(reads=[a])
        use(writes=[b])
        use(reads=[b])
    assert clash(core) is None


def test_a_result_may_replace_its_operand(core):
    a, b = tile(core, (0, 0)), tile(core, (0, 0))
    use(writes=[a])
    use(reads=[a], writes=[b])
    use(reads=[b])
    assert clash(core) is None


@pytest.mark.parametrize("address", [(0, 64), (64, 0)])
def test_neighbours_do_not_clash(core, address):
    a, b = tile(core, (0, 0), (64, 16)), tile(core, address, (64, 16))
    use(writes=[a])
    use(writes=[b])
    use(reads=[a])
    assert clash(core) is None


def test_only_the_bytes_that_are_read_matter(core):
    a, b = tile(core, (0, 0)), tile(core, (0, 32))  # b covers a's last 8 columns
    use(writes=[a])
    use(writes=[b])
    use(reads=[a[:, 0:8]])
    assert clash(core) is None
    use(reads=[a[:, 7:9]])
    assert clash(core).rule == "overlap"


def test_interleaved_columns_do_not_clash(core):
    a, b = tile(core, (0, 0)), tile(core, (0, 0))
    use(writes=[a[:, 0:16:2]])
    use(writes=[b[:, 1:16:2]])
    use(reads=[a[:, 0:16:2], b[:, 1:16:2]])
    assert clash(core) is None


def test_written_again_is_good_again(core):
    a, b = tile(core, (0, 0)), tile(core, (0, 0))
    use(writes=[a])
    use(writes=[b])
    use(writes=[a])
    use(reads=[a])
    assert clash(core) is None


def test_the_culprit_is_the_one_whose_bytes_are_read(core):
    a, left, right = tile(core, (0, 0)), tile(core, (0, 0), (128, 8), name="l"), tile(core, (0, 32), (128, 8), name="r")
    use(writes=[a])
    use(writes=[left])
    use(writes=[right])
    use(writes=[a[:, 8:16]])
    use(reads=[a])
    assert "'l at address (0, 0)'" in str(clash(core))


def test_the_earliest_clash_is_told(core):
    tensors = [tile(core, (0, 64 * (i // 2)), name=f"t{i}") for i in range(4)]
    use(writes=tensors[0::2])
    use(writes=tensors[1::2])
    first = use(reads=[tensors[2]])
    use(reads=[tensors[0]])
    assert clash(core).source == first.source


def test_psum_too(core):
    a, b = tile(core, (0, 0), buffer="psum"), tile(core, (0, 0), buffer="psum")
    use(writes=[a])
    use(writes=[b])
    use(reads=[a])
    assert clash(core).rule == "overlap"


@pytest.mark.parametrize("accumulate", [True, False])
def test_accumulation_needs_what_psum_holds(core, accumulate):
    a, b, operand = (tile(core, (0, 0), buffer=buffer) for buffer in ("psum", "psum", "sbuf"))
    Call("fill").write("operand", operand, np.ones((128, 16), np.float32))
    nc_matmul(a[0:16], operand, operand)
    nc_matmul(b[0:16], operand, operand)
    nc_matmul(a[0:16], operand, operand, accumulate=accumulate)
    assert (clash(core) is not None) == accumulate


def test_sbuf_and_psum_are_apart(core):
    a, b = tile(core, (0, 0), buffer="psum"), tile(core, (0, 0))
    use(writes=[a])
    use(writes=[b])
    use(reads=[a])
    assert clash(core) is None


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, 3), st.integers(0, 5), st.integers(1, 2), st.integers(1, 6)), min_size=2, max_size=5
    ),
    st.lists(
        st.tuples(st.integers(0, 4), st.booleans(), st.integers(0, 3), st.integers(1, 6), st.integers(1, 2)),
        max_size=15,
    ),
)
def test_like_a_memory_that_remembers_who_wrote_last(places, steps):
    """Against a plain model: each byte (column of one partition) knows the last tensor written there."""
    core = NeuronCore(target("trn2"), Options())
    enter(core)
    try:
        tensors = [tile(core, (p * 32, o * 4), (n * 32 if p * 32 + n * 32 <= 128 else 32, w)) for p, o, n, w in places]
        owner, held, wrong = {}, [{} for _ in tensors], False
        for which, write, start, count, step in steps:
            i = which % len(tensors)
            tensor = tensors[i]
            columns = range(tensor.shape[1])[start : start + count : step]
            if not columns:
                continue
            view = tensor[:, columns.start : columns.stop : step]
            partition, offset = tensor.storage.address
            cells = [(p + partition, c + offset // 4) for p in range(tensor.shape[0]) for c in columns]
            use(writes=[view]) if write else use(reads=[view])
            for cell in cells:
                if write:
                    owner[cell] = i
                    held[i][cell] = True
                elif held[i].get(cell) and owner[cell] != i:
                    wrong = True
                elif not held[i].get(cell) and any(h.get(cell) for h in held):
                    return  # read before it was written: another rule's business
            if wrong:
                break
        assert (clash(core) is not None) == wrong
    finally:
        enter(None)


# --- within one DMA -------------------------------------------------------------------------------------------


def test_a_dma_over_its_own_source_is_a_finding(core, tile, values):
    numbers = np.arange(8 * 64, dtype=np.float32).reshape(8, 64)
    t = tile(numbers, name="t")
    dma_copy(t[:, 8:40], t[:, 0:32])
    (found,) = overlapping_dmas(core)
    assert found.rule == "overlapping-dma"
    assert "dma_copy reads and writes the same bytes of t" in found.message
    assert found.source == core.instructions[-1].source
    np.testing.assert_array_equal(values(t)[:, 8:40], numbers[:, 0:32])


@pytest.mark.parametrize("buffer", ["sbuf", "shared_hbm"])
def test_dmas_that_disturb_nothing(core, tile, buffer):
    t = tile(np.ones((8, 64), np.float32), buffer=buffer)
    dma_copy(t, t)
    dma_copy(t.reshape((8, 4, 16)), t)  # the same elements in the same order
    dma_copy(t[:, 0:32], t[:, 32:64])
    dma_copy(t[:, 0:64:2], t[:, 1:64:2])
    dma_copy(t[0:4], t[4:8])
    dma_compute(t, [t, t], "add")
    assert overlapping_dmas(core) == []


def test_another_order_or_another_row_of_the_same_bytes(core, tile):
    t = tile(np.ones((16, 16), np.float32))
    dma_transpose(t, t)
    dma_copy(t.reshape((16, 4, 4)), t.reshape((16, 4, 4)).permute((0, 2, 1)))
    dma_copy(t[1:16], t[0:15])
    dma_compute(t[:, 0:8], [t[:, 8:16], t[:, 4:12]], "add")
    assert [f.source for f in overlapping_dmas(core)] == [i.source for i in core.instructions]


def test_a_place_found_at_run_time_is_left_out(core, tile):
    t = tile(np.ones((8, 64), np.float32), buffer="shared_hbm")
    dma_copy(t[0:1], t.select(0, VirtualRegister(1)).expand_dim(0))
    assert overlapping_dmas(core) == []


def test_the_profile_tells_every_core_and_line():
    def kernel(core):
        t = core.allocate((8, 64), DType("float32"), MemoryRegion.shared_hbm, name="t")
        for _ in range(3):
            dma_copy(t[2 * core.index : 2 * core.index + 1, 1:33], t[2 * core.index : 2 * core.index + 1, 0:32])

    launch = Launch(target("trn2"), Options(values=False), 2)
    launch.run(kernel)
    found = [f for f in profile(launch).findings if f.rule == "overlapping-dma"]
    assert [f.count for f in found] == [6]
    assert " of t:" in found[0].message


@settings(deadline=None)
@given(*[st.tuples(st.integers(0, 20), st.integers(1, 4))] * 2, st.integers(1, 8))
def test_overlap_of_two_strided_views(one, two, count):
    """Against the definition: a place in both, unless the views are one."""
    core = NeuronCore(target("trn2"), Options(values=False))
    enter(core)
    try:
        t = core.allocate((64,), DType("float32"), MemoryRegion.private_hbm)
        src, dst = ([start + stride * k for k in range(count)] for start, stride in (one, two))
        dma_copy(*(t.ap([[stride, count]], offset=start) for start, stride in (two, one)))
        assert bool(overlapping_dmas(core)) == (bool(set(src) & set(dst)) and src != dst)
    finally:
        enter(None)
