"""What repeats is told exactly: the same times as by stepping."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import trainshed.nki as nki
import trainshed.nki.isa as nisa
import trainshed.nki.language as nl
from trainshed.chip.accesses import accesses
from trainshed.chip.errors import NkiValidationError
from trainshed.chip.timing.clock import clocks, program
from trainshed.chip.timing.order import Edges
from trainshed.chip.timing.rates import rates
from trainshed.chip.timing.repeat import Run, runs
from trainshed.chip.timing.stepper import Stepper
from trainshed.kernels.measured import matmul, rowwise

BF16 = nl.bfloat16.storage


def ran(kernel, *arrays, target="trn2"):
    simulated = nki.simulate(kernel, target=target, values=False)
    simulated(*arrays)
    return simulated.launch


def both(launch, target="trn2"):
    """The same program told and stepped."""
    of = rates(target)
    made, _ = program([accesses(core) for core in launch.cores], of)
    told, stepped = Stepper(made, of, runs(made.kind, made.edges)), Stepper(made, of, [])
    told.run()
    stepped.run()
    return told, stepped


def assert_same(told, stepped):
    for name in ("start", "end", "ready", "release"):
        np.testing.assert_array_equal(getattr(told, name), getattr(stepped, name))
    assert (told.cause == stepped.cause).mean() > 0.99  # ties may be told either way


def square(n, k=None):
    return np.zeros((k or n, n), BF16), np.zeros((k or n, n), BF16)


@pytest.mark.parametrize(("kernel", "arrays"), [
    (matmul.tiled, square(1024)), (matmul.hoisted, square(1536)), (matmul.blocked, square(1024, 2048)),
    (rowwise.copy_tiled, (np.zeros((16384, 256), BF16),)),
    (rowwise.rmsnorm, (np.zeros((8192, 512), np.float32), np.zeros((1, 512), np.float32))),
])  # fmt: skip
@pytest.mark.parametrize("target", ["trn1", "trn2", "trn3"])
def test_kernels_take_the_same_time_told_and_stepped(kernel, arrays, target):
    told, stepped = both(ran(kernel, *arrays, target=target), target)
    assert_same(told, stepped)


def test_most_of_a_long_loop_is_told():
    told, stepped = both(ran(rowwise.copy_tiled, np.zeros((65536, 256), BF16)))
    assert_same(told, stepped)
    assert told.stepped < 0.3 * len(told.start)
    assert len(stepped.start) == 1024


@st.composite
def loops(draw):
    """Bodies of loops over a few tiles that are kept, and some that are new in every trip."""
    step = st.tuples(
        st.sampled_from(["load", "store", "add", "exp", "copy", "matmul", "tanh"]), st.integers(0, 2), st.integers(0, 2)
    )
    body = st.lists(step, min_size=1, max_size=5)
    return draw(st.lists(st.tuples(body, st.integers(20, 60)), min_size=1, max_size=3)), draw(st.integers(256, 4096))


def kernel_of(parts, width, tail=()):
    """The loops, and a tail of instructions that read what the loops made."""

    def kernel(a):
        out = nl.ndarray((3, 128, width), dtype=nl.bfloat16, buffer=nl.shared_hbm)
        kept = [nl.ndarray((128, width), dtype=nl.bfloat16, buffer=nl.sbuf) for _ in range(3)]
        for tile in kept:
            nisa.memset(tile, value=0.0)
        early = []
        for body, times in parts:
            for _ in range(times):
                fresh = nl.ndarray((128, width), dtype=nl.bfloat16, buffer=nl.sbuf)
                nisa.dma_copy(dst=fresh, src=a[0])
                tiles = [*kept[:2], fresh]
                early.append(fresh)
                for kind, i, j in body:
                    apply(kind, tiles, i, j, a, out)
        for kind, place, i in tail:
            apply(kind, [kept[2], early[place % len(early)], kept[i]], 0, 1, a, out)
        return out

    return kernel


def apply(kind, tiles, i, j, a, out):
    if kind == "load":
        nisa.dma_copy(dst=tiles[i], src=a[j])
    elif kind == "store":
        nisa.dma_copy(dst=out[j], src=tiles[i])
    elif kind == "add":
        nisa.tensor_tensor(tiles[i], tiles[i], tiles[j], op=nl.add)
    elif kind == "exp":
        nisa.activation(tiles[i], op=nl.exp, data=tiles[j])
    elif kind == "copy":
        nisa.tensor_copy(tiles[i], tiles[j], engine=nisa.gpsimd_engine)
    elif kind == "tanh":
        nisa.activation(tiles[i], op=nl.tanh, data=tiles[j])
    else:
        product = nl.ndarray((128, 128), dtype=nl.float32, buffer=nl.psum)
        nisa.nc_matmul(product, stationary=tiles[i][:, :128], moving=tiles[j][:, :128])
        nisa.tensor_copy(tiles[i][:, :128], product)


TAIL = st.lists(st.tuples(st.sampled_from(["add", "exp", "copy", "tanh"]), st.integers(0, 99), st.integers(0, 2)),
                max_size=8)  # fmt: skip


@settings(max_examples=25, deadline=None)
@given(loops(), TAIL, st.sampled_from(["trn1", "trn2", "trn3"]))
def test_any_loops_take_the_same_time_told_and_stepped(drawn, tail, target):
    parts, width = drawn
    told, stepped = both(ran(kernel_of(parts, width, tail), np.zeros((3, 128, width), BF16), target=target), target)
    assert_same(told, stepped)


def test_what_first_runs_after_a_loop_may_wait_for_its_middle():
    def kernel(a):
        tiles = []
        for i in range(300):
            tiles.append(nl.ndarray((128, 64), dtype=nl.bfloat16, buffer=nl.sbuf))
            nisa.dma_copy(dst=tiles[-1], src=a[i])
        for tile in tiles[100:150]:
            nisa.activation(tile, op=nl.exp, data=tile)
        return a

    told, stepped = both(ran(kernel, np.zeros((300, 128, 64), BF16)))
    assert_same(told, stepped)
    assert told.stepped + told.told == len(told.start)
    assert (told.end > 0).all()


def test_two_cores_are_told_too():
    def kernel(a):
        out = nl.ndarray(a.shape, dtype=a.dtype, buffer=nl.shared_hbm)
        me = nl.program_id(0)
        for i in range(400):
            tile = nl.ndarray((128, 2048), dtype=a.dtype, buffer=nl.sbuf)
            nisa.dma_copy(dst=tile, src=a[2 * i + me])
            nisa.activation(tile, op=nl.exp, data=tile)
            nisa.dma_copy(dst=out[2 * i + me], src=tile)
        return out

    told, stepped = both(ran(nki.jit(kernel)[2], np.zeros((800, 128, 2048), BF16)))
    assert_same(told, stepped)
    assert told.stepped < 0.5 * len(told.start)


def test_runs_are_found_by_kinds_and_edges():
    kind = np.tile(np.arange(50), 10)
    later = np.arange(1, 500)
    assert (
        runs(kind, Edges(later, later - 1)) == [Run(0, 500, 50)] or runs(kind, Edges(later, later - 1))[0].period == 50
    )
    other = kind.copy()
    other[250] = 7
    for run in runs(other, Edges(later, later - 1)):
        inside = np.arange(run.start + run.period, run.stop)
        np.testing.assert_array_equal(other[inside], other[inside - run.period])
    # an edge that is elsewhere in one trip
    moved = later - 1
    moved[300] -= 1
    for run in runs(kind, Edges(later, moved)):
        assert not run.start + run.period <= 301 < run.stop
        assert not run.start <= 301 < run.stop - run.period


def test_short_programs_are_stepped():
    assert runs(np.zeros(100, np.int64), Edges(np.zeros(0, np.int64), np.zeros(0, np.int64))) == []


def test_barriers_make_cores_wait_for_each_other():
    """The second core loads 1 MiB before the barrier, the first nothing: both store after that."""

    def kernel(a):
        out = nl.ndarray((2, 128, 4096), dtype=a.dtype, buffer=nl.shared_hbm)
        tile = nl.ndarray((128, 4096), dtype=a.dtype, buffer=nl.sbuf)
        nisa.memset(tile, value=0.0)
        me = nl.program_id(0)
        if me == 1:
            nisa.dma_copy(dst=tile, src=a)
        nisa.dma_copy(dst=out[me], src=tile)
        nisa.core_barrier(out, (0, 1))
        nisa.dma_copy(dst=tile, src=out[1 - me])
        return out

    launch = ran(nki.jit(kernel)[2], np.zeros((128, 4096), BF16))
    columns = [accesses(core) for core in launch.cores]
    found = clocks(columns, rates("trn2"))
    barrier = [next(i for i, item in enumerate(c.core.instructions) if item.opcode == "core_barrier") for c in columns]
    stored = found[1].ready[barrier[1] - 1]
    assert found[0].start[barrier[0]] >= stored > found[0].ready[barrier[0] - 1]
    assert found[0].start[barrier[0] + 1] > stored


def test_transposes_of_v4_run_beside_other_matmuls():
    def kernel(a):
        tile = nl.ndarray((128, 512), dtype=nl.bfloat16, buffer=nl.sbuf)
        nisa.memset(tile, value=0.0)
        for _ in range(2):
            product = nl.ndarray((128, 512), dtype=nl.float32, buffer=nl.psum)
            nisa.nc_matmul(product, stationary=tile[:, :128], moving=tile)
            turned = nl.ndarray((128, 128), dtype=nl.bfloat16, buffer=nl.psum)
            nisa.nc_transpose(turned, tile[:, :128], engine=nisa.tensor_engine)
        return a

    found = {}
    for target in ("trn2", "trn3"):
        launch = ran(kernel, np.zeros((4, 4), BF16), target=target)
        (clock,) = clocks([accesses(launch.cores[0])], rates(target))
        found[target] = clock.start[3] - clock.start[1]
    turn = 128 / 2.4e9
    warm = 2 * 512 / 2.4e9  # all of it on the power ramp
    assert found["trn2"] == pytest.approx(warm + 2 * turn)
    assert found["trn3"] == pytest.approx(warm + 2 * 64 / 2.4e9)


def test_dmas_whose_descriptors_gpsimd_makes_let_others_pass():
    def kernel(mode):
        def body(a):
            wide = nl.ndarray((128, 4096), dtype=nl.bfloat16, buffer=nl.sbuf)
            nisa.dma_copy(dst=wide[:, ::2], src=a[0, :, ::2], dge_mode=mode)
            for i in range(1, 6):
                tile = nl.ndarray((128, 4096), dtype=nl.bfloat16, buffer=nl.sbuf)
                nisa.dma_copy(dst=tile, src=a[i])
            return a

        return body

    launch = ran(kernel(nisa.dge_mode.swdge), np.zeros((6, 128, 4096), BF16))
    (clock,) = clocks([accesses(launch.cores[0])], rates("trn2"))
    assert clock.start[1] == pytest.approx(rates("trn2").semaphore)
    assert clock.start[0] > clock.start[1]


def test_instructions_that_wait_for_each_other_are_one_sentence():
    def kernel(a):
        one = nl.ndarray((128, 64), dtype=nl.float32, buffer=nl.sbuf)
        two = nl.ndarray((128, 64), dtype=nl.float32, buffer=nl.sbuf)
        first = nisa.memset(one, value=0.0, engine=nisa.vector_engine)
        second = nisa.memset(two, value=0.0, engine=nisa.gpsimd_engine)
        first.depends_on(second)
        if circle:
            second.depends_on(first)
        return a

    for circle in (False, True):
        launch = ran(kernel, np.zeros((4, 4), np.float32))
        if circle:
            with pytest.raises(NkiValidationError, match="waits for: 'an instruction that waits for it'"):
                clocks([accesses(launch.cores[0])], rates("trn2"))
        else:
            (clock,) = clocks([accesses(launch.cores[0])], rates("trn2"))
            assert clock.start[0] >= clock.ready[1]
