"""Times of whole kernels: closed forms, bounds, and what more work does."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import trainshed.nki as nki
import trainshed.nki.isa as nisa
import trainshed.nki.language as nl
from trainshed.chip.accesses import accesses
from trainshed.chip.timing.clock import clock
from trainshed.chip.timing.cost import cost
from trainshed.chip.timing.order import dependencies
from trainshed.chip.timing.rates import rates
from trainshed.chip.words import engine

ONE = np.zeros((1, 1), np.float32)


def timed(kernel, *arrays, target="trn2"):
    """The core of a run without values, its clock and its rates."""
    simulated = nki.simulate(kernel, target=target, values=False)
    simulated(*arrays)
    core, of = simulated.launch.cores[0], rates(target)
    return simulated.launch, core.instructions, clock(accesses(core), of), of


def test_a_chain_on_one_engine_is_the_sum_of_its_instructions():
    def kernel(a):
        tile = nl.ndarray((128, 512), dtype=nl.float32, buffer=nl.sbuf)
        for _ in range(5):
            nisa.memset(tile, value=1.0, engine=nisa.vector_engine)
        out = nl.ndarray((128, 512), dtype=nl.float32, buffer=nl.shared_hbm)
        nisa.dma_copy(dst=out, src=tile)
        return out

    _, items, found, of = timed(kernel, ONE)
    each = cost(items[0], of).busy
    np.testing.assert_allclose(found.start[:5], np.arange(5) * each)
    assert found.cause[5] == 4
    assert found.start[5] == pytest.approx(5 * each + of.semaphore)


@pytest.mark.parametrize(("columns", "each"), [(128, 81e-9), (4096, 8192 / 27.2e9)])
def test_a_transfer_shares_its_rows_out_to_sixteen_engines(columns, each):
    """128 rows: eight descriptors an engine, of their bytes or at least 81 ns."""

    def kernel(a):
        tile = nl.ndarray((128, columns), dtype=nl.bfloat16, buffer=nl.sbuf)
        nisa.dma_copy(dst=tile, src=a)
        out = nl.ndarray((128, columns), dtype=nl.bfloat16, buffer=nl.shared_hbm)
        nisa.dma_copy(dst=out, src=tile)
        return out

    _, _, found, of = timed(kernel, np.zeros((128, columns), nl.bfloat16.storage))
    assert found.end[0] - found.start[0] == pytest.approx(8 * each)
    assert found.start[0] == pytest.approx(of.semaphore)
    assert found.start[1] == pytest.approx(found.ready[0] + of.semaphore)


def test_loads_of_the_next_trip_run_behind_this_one_s_work():
    """Twenty loads of 1 MiB, each squared: the time is that of the loads and one trip's rest."""

    def kernel(a):
        out = nl.ndarray((20, 128, 4096), dtype=nl.bfloat16, buffer=nl.shared_hbm)
        for i in range(20):
            tile = nl.ndarray((128, 4096), dtype=nl.bfloat16, buffer=nl.sbuf)
            nisa.dma_copy(dst=tile, src=a[i])
            nisa.activation(tile, op=nl.square, data=tile)
        nisa.dma_copy(dst=out[0], src=tile)
        return out

    _, items, found, of = timed(kernel, np.zeros((20, 128, 4096), nl.bfloat16.storage))
    load = 8 * 8192 / 27.2e9
    work = cost(items[1], of).busy
    assert work > load
    assert found.end[-2] == pytest.approx(of.semaphore + load + 1e-6 + 20 * work, rel=0.02)


@st.composite
def programs(draw):
    """Steps of a kernel: loads, products, sums and stores over a few tiles."""
    return draw(st.lists(st.tuples(st.sampled_from(["load", "store", "add", "copy", "matmul"]), st.integers(0, 3),
                                   st.integers(0, 3)), min_size=1, max_size=14))  # fmt: skip


def kernel_of(steps):
    def kernel(a):
        far = nl.ndarray((4, 128, 128), dtype=nl.bfloat16, buffer=nl.shared_hbm)
        tiles = [nl.ndarray((128, 128), dtype=nl.bfloat16, buffer=nl.sbuf) for _ in range(4)]
        for tile in tiles:
            nisa.memset(tile, value=0.0)
        for kind, i, j in steps:
            if kind == "load":
                nisa.dma_copy(dst=tiles[i], src=a[j])
            elif kind == "store":
                nisa.dma_copy(dst=far[j], src=tiles[i])
            elif kind == "add":
                nisa.tensor_tensor(tiles[i], tiles[i], tiles[j], op=nl.add)
            elif kind == "copy":
                nisa.activation(tiles[i], op=nl.copy, data=tiles[j])
            else:
                product = nl.ndarray((128, 128), dtype=nl.float32, buffer=nl.psum)
                nisa.nc_matmul(product, stationary=tiles[i], moving=tiles[j])
                nisa.tensor_copy(tiles[i], product)
        return far

    return kernel


FOUR = np.zeros((4, 128, 128), nl.bfloat16.storage)


@settings(max_examples=40, deadline=None)
@given(programs())
def test_no_time_is_below_its_bounds(steps):
    """Engines' work, the bytes of DMA, and every chain of dependencies."""
    launch, items, found, of = timed(kernel_of(steps), FOUR)
    busy = dict.fromkeys(engine, 0.0)
    for item in items:
        if item.engine is not engine.dma:
            busy[item.engine] += cost(item, of).busy
    moved = sum(item.work["bytes"] for item in items if item.engine is engine.dma)
    bounds = [*busy.values(), moved / (of.dma_bandwidth * of.dma_engines)]
    assert found.seconds >= max(bounds) * (1 - 1e-9)
    edges = dependencies(accesses(launch.cores[0]), {"sbuf": of.sbuf_row, "psum": of.psum_row})
    for later, earlier in zip(edges.later.tolist(), edges.earlier.tolist(), strict=True):
        both = items[later].engine is items[earlier].engine is engine.tensor
        assert found.start[later] >= (found.end if both else found.ready)[earlier]
    assert found.seconds == found.ready.max()
    assert found.cause.count(-1) >= 1


@settings(max_examples=60, deadline=None)
@given(programs(), programs())
def test_more_instructions_never_end_sooner(steps, more):
    assert timed(kernel_of([*steps, *more]), FOUR)[2].seconds >= timed(kernel_of(steps), FOUR)[2].seconds * (1 - 1e-12)


def test_times_are_the_same_every_time():
    steps = [("load", 0, 1), ("matmul", 0, 2), ("store", 0, 3), ("add", 1, 0), ("load", 2, 2), ("copy", 3, 2)]
    one, two = (timed(kernel_of(steps), FOUR)[2] for _ in range(2))
    np.testing.assert_array_equal(one.start, two.start)
    np.testing.assert_array_equal(one.ready, two.ready)
