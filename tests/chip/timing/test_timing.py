"""What is told of a launch's time."""

import json

import numpy as np
import pytest

import trainshed.nki as nki
import trainshed.nki.isa as nisa
import trainshed.nki.language as nl
from trainshed.chip.accesses import accesses
from trainshed.chip.timing.timing import timing
from trainshed.hardware.catalogue import Catalogue


def kernel(a, b):
    """Sixteen products of 128 x 128 x 512, of tiles loaded one after the other."""
    out = nl.ndarray((16, 128, 512), dtype=nl.bfloat16, buffer=nl.shared_hbm)
    for i in range(16):
        stationary, moving = (
            nl.ndarray(shape, dtype=nl.bfloat16, buffer=nl.sbuf) for shape in ((128, 128), (128, 512))
        )
        nisa.dma_copy(dst=stationary, src=a[i])
        nisa.dma_copy(dst=moving, src=b[i])
        product = nl.ndarray((128, 512), dtype=nl.float32, buffer=nl.psum)
        nisa.nc_matmul(product, stationary=stationary, moving=moving)
        result = nl.ndarray((128, 512), dtype=nl.bfloat16, buffer=nl.sbuf)
        nisa.tensor_copy(result, product)
        nisa.dma_copy(dst=out[i], src=result)
    return out


def times(function, *arrays, target="trn2"):
    simulated = nki.simulate(function, target=target, values=False)
    simulated(*arrays)
    return timing([accesses(core) for core in simulated.launch.cores])


ARRAYS = np.zeros((16, 128, 128), nl.bfloat16.storage), np.zeros((16, 128, 512), nl.bfloat16.storage)


@pytest.mark.parametrize("target", ["trn1", "trn2", "trn3"])
def test_a_small_matmul_is_bound_by_its_loads(target):
    found = times(kernel, *ARRAYS, target=target)
    assert found.limit.startswith("dma")
    assert found.ratio(found.limit) == min(found.ratio(name) for name in found.bounds) >= 1
    assert found.seconds >= max(*found.busy.values(), *found.bounds.values())
    assert found.busy["dma"] > 0.8 * found.seconds
    clock = {"trn1": 2.8e9, "trn2": 2.4e9, "trn3": 2.4e9}[target]
    assert found.mfu == found.hfu == pytest.approx(16 * 512 / clock / found.seconds)


def test_the_critical_path_is_the_whole_time_by_lines():
    found = times(kernel, *ARRAYS)
    assert sum(step.seconds for step in found.critical) == pytest.approx(found.seconds)
    assert found.critical[0].opcode == "dma_copy"
    assert "test_timing.py:" in found.critical[0].source


def test_tensor_engine_waits_for_the_loads():
    found = times(kernel, *ARRAYS).engines["tensor"]
    assert found.waits[0].opcode == "dma_copy"
    assert found.waits[0].seconds > 0.5 * found.idle


def test_json_holds_plain_numbers_with_their_units():
    found = times(kernel, *ARRAYS)
    plain = json.loads(json.dumps(found.to_json()))
    assert plain["time_s"] == found.seconds
    assert plain["bounds"]["tensor"] == {"time_s": found.bounds["tensor"], "ratio": found.ratio("tensor")}
    assert plain["engines"]["vector"]["active_s"] == found.busy["vector"]
    assert plain["engines"]["vector"]["active_percent"] == pytest.approx(100 * found.engines["vector"].share)
    assert plain["critical"][0].keys() == {"source", "opcode", "engine", "count", "time_s", "share"}


def test_a_kernel_that_does_nothing_takes_no_time():
    found = times(lambda a: a, np.zeros((4, 4), np.float32))
    assert (found.seconds, found.limit, found.mfu, found.mbu, found.critical) == (0, "", 0, 0, ())


def halves(a):
    """Core 0 copies three tiles, core 1 one."""
    out = nl.ndarray((4, 128, 512), dtype=nl.float32, buffer=nl.shared_hbm)
    for i in range(3) if nl.program_id(0) == 0 else [3]:
        tile = nl.ndarray((128, 512), nl.float32, nl.sbuf)
        nisa.dma_copy(dst=tile, src=a[i])
        nisa.dma_copy(dst=out[i], src=tile)
    return out


def test_two_cores_are_told_by_the_one_that_ends_last():
    simulated = nki.simulate(nki.jit(halves)[2], target="trn2", values=False)
    simulated(np.zeros((4, 128, 512), np.float32))
    found = simulated.timing
    assert found.seconds == found.cores[0] > found.cores[1]
    assert found.engines["dma"].instructions == 6
    share = Catalogue().chip("trn2").hbm_bandwidth.value / 8
    assert found.mbu == pytest.approx(8 * 128 * 512 * 4 / (2 * share * found.seconds))
