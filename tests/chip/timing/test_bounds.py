"""What a kernel cannot be faster than: by hand, and as a law of random kernels."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import trainshed.nki as nki
import trainshed.nki.isa as nisa
import trainshed.nki.language as nl
from trainshed.chip.timing.bounds import hbm_bytes, products
from trainshed.chip.timing.rates import rates
from trainshed.chip.timing.timing import timing
from trainshed.hardware.catalogue import Catalogue


def run(function, *arrays, target="trn2"):
    simulated = nki.simulate(function, target=target, values=False)
    simulated(*arrays)
    return simulated


def products_of(kind, stationary=(128, 128), moving=(128, 512)):
    """Two transposes, then three products."""

    def kernel(a, b):
        one, two = nl.ndarray(stationary, a.dtype, nl.sbuf), nl.ndarray(moving, b.dtype, nl.sbuf)
        nisa.dma_copy(dst=one, src=a)
        nisa.dma_copy(dst=two, src=b)
        for _ in range(2):
            turned = nl.ndarray(stationary[::-1], a.dtype, nl.psum)
            nisa.nc_transpose(turned, one)
        total = nl.ndarray((stationary[1], moving[1]), nl.float32, nl.psum)
        for _ in range(3):
            nisa.nc_matmul(total, stationary=one, moving=two)
        out = nl.ndarray((stationary[1], moving[1]), nl.float32, nl.shared_hbm)
        result = nl.ndarray((stationary[1], moving[1]), nl.float32, nl.sbuf)
        nisa.tensor_copy(result, total)
        nisa.dma_copy(dst=out, src=result)
        return out

    return kernel, np.zeros(stationary, kind.storage), np.zeros(moving, kind.storage)


@pytest.mark.parametrize(("kind", "name", "target"), [
    (nl.bfloat16, "bf16", "trn1"), (nl.bfloat16, "bf16", "trn2"), (nl.float32, "fp32", "trn2"),
    (nl.bfloat16, "bf16", "trn3"),
])  # fmt: skip
def test_utilisation_is_flops_over_the_peak_of_their_dtype(kind, name, target):
    found = run(*products_of(kind), target=target).timing
    core = Catalogue().chip(target).neuron
    columns = 3 * 512 / core.columns_per_cycle[name].value
    assert found.mfu == pytest.approx(columns / core.tensor_clock.value / found.seconds)
    assert found.hfu == pytest.approx((columns + 2 * 128) / core.tensor_clock.value / found.seconds)
    assert found.bounds["tensor"] >= found.hfu * found.seconds * (1 - 1e-12)


def test_half_an_array_reaches_half_its_peak():
    whole = run(*products_of(nl.bfloat16)).launch.cores[0].instructions
    half = run(*products_of(nl.bfloat16, (64, 128), (64, 512))).launch.cores[0].instructions
    assert products(half, rates("trn2"))[0] == pytest.approx(products(whole, rates("trn2"))[0] / 2)


def test_bytes_and_descriptors_of_dma():
    ran = run(*products_of(nl.bfloat16))
    found, core = ran.timing, Catalogue().chip("trn2").neuron
    loaded, stored = 2 * 128 * (128 + 512), 4 * 128 * 512
    assert hbm_bytes(ran.launch.cores[0].instructions) == loaded + stored
    assert found.bounds["dma"] == pytest.approx((loaded + stored) / core.dma_bandwidth.value)
    assert found.bounds["dma_descriptors"] == pytest.approx(3 * 128 * core.dma_per_descriptor.value / 16)
    chip = Catalogue().chip("trn2")
    assert found.bounds["hbm"] == pytest.approx((loaded + stored) / chip.hbm_bandwidth.value)
    assert found.mbu == pytest.approx((loaded + stored) / (chip.hbm_bandwidth.value / 8) / found.seconds)
    assert found.dma == pytest.approx(found.bounds["dma"] / found.seconds)


def copies(chained, count=20):
    def kernel(a):
        tiles = [nl.ndarray((128, 64), nl.float32, nl.sbuf) for _ in range(count + 1)]
        nisa.memset(tiles[0], 0.0)
        for i in range(count):
            source = tiles[i if chained else 0]
            if i % 2:
                nisa.activation(tiles[i + 1], nl.exp, source)
            else:
                nisa.tensor_copy(tiles[i + 1], source, engine=nisa.vector_engine)
        return a

    return kernel


def test_a_chain_of_copies_is_as_long_as_its_time_and_copies_side_by_side_are_not():
    side, chain = (run(copies(chained), np.zeros((4, 4), np.float32)).timing for chained in (False, True))
    assert chain.bounds["dependencies"] == pytest.approx(chain.seconds)
    assert chain.limit == "dependencies"
    assert chain.ratio("dependencies") == pytest.approx(1)
    assert side.bounds["dependencies"] < 0.6 * side.seconds  # the chain loads the table of exp too


@st.composite
def programs(draw):
    return draw(st.lists(
        st.tuples(
            st.sampled_from(("load", "store", "vector", "scalar", "gpsimd", "matmul", "transpose")),
            st.integers(0, 3), st.integers(0, 3), st.sampled_from((16, 64, 128)),
        ),
        min_size=1, max_size=25,
    ))  # fmt: skip


def interpreted(program):
    """A kernel that executes a list of instructions on four SBUF tiles and two PSUM tiles."""

    def kernel(a):
        out = nl.ndarray((4, 128, 128), nl.float32, nl.shared_hbm)
        tiles = [nl.ndarray((128, 128), nl.float32, nl.sbuf) for _ in range(4)]
        sums = [nl.ndarray((128, 128), nl.float32, nl.psum) for _ in range(2)]
        for tile in (*tiles, *sums):
            nisa.memset(tile, 0.0)
        for what, to, by, width in program:
            if what == "load":
                nisa.dma_copy(dst=tiles[to][:, :width], src=a[by, :, :width])
            elif what == "store":
                nisa.dma_copy(dst=out[to, :, :width], src=tiles[by][:, :width])
            elif what == "matmul":
                nisa.nc_matmul(sums[to % 2][:, :width], stationary=tiles[by], moving=tiles[to][:, :width])
            elif what == "transpose":
                nisa.nc_transpose(sums[to % 2], tiles[by])
            elif what == "scalar":
                nisa.activation(tiles[to][:, :width], nl.exp, tiles[by][:, 128 - width :])
            else:
                engine = {"vector": nisa.vector_engine, "gpsimd": nisa.gpsimd_engine}[what]
                nisa.tensor_copy(tiles[to][:, :width], tiles[by][:, 128 - width :], engine=engine)
        return out

    return kernel


@given(programs(), st.sampled_from(("trn1", "trn2", "trn3")), st.booleans())
@settings(max_examples=40, deadline=None)
def test_no_kernel_is_faster_than_its_bounds_and_its_parts_add_up(program, target, busy):
    ran = run(interpreted(program), np.zeros((4, 128, 128), np.float32), target=target)
    found = timing(ran.columns, rates(target).busy_chip()) if busy else ran.timing
    for name in found.bounds:
        assert found.bounds[name] <= found.seconds * (1 + 1e-9), name
    assert sum(step.seconds for step in found.critical) == pytest.approx(found.seconds)
    for name, one in found.engines.items():
        assert one.busy + one.idle == pytest.approx(found.seconds)
        assert sum(wait.seconds for wait in one.waits) == pytest.approx(one.idle)
        if name != "dma":
            assert one.busy == pytest.approx(found.bounds[name])
    assert 0 <= found.mfu <= found.hfu <= 1
