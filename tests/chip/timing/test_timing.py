"""What is told of a launch's time."""

import math

import numpy as np
import pytest

import trainshed.nki as nki
import trainshed.nki.isa as nisa
import trainshed.nki.language as nl
from trainshed.chip.accesses import accesses
from trainshed.chip.timing.timing import timing


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
    assert found.limit == "dma"
    assert found.seconds >= max(*found.busy.values(), *found.bounds.values())
    assert found.busy["dma"] > 0.8 * found.seconds
    clock = {"trn1": 2.8e9, "trn2": 2.4e9, "trn3": 2.4e9}[target]
    assert found.mfu == pytest.approx(16 * 512 / clock / found.seconds)


def test_the_critical_path_is_the_whole_time_by_lines():
    found = times(kernel, *ARRAYS)
    assert sum(step.seconds for step in found.critical) == pytest.approx(found.seconds)
    assert found.critical[0].opcode == "dma_copy"
    assert "test_timing.py:" in found.critical[0].source


def test_json_holds_plain_numbers():
    plain = times(kernel, *ARRAYS).to_json()
    assert set(plain) == {"seconds", "busy", "bounds", "limit", "mfu", "mbu", "critical"}
    assert all(math.isfinite(value) for value in (plain["seconds"], plain["mfu"], plain["mbu"]))
    assert plain["critical"][0].keys() == {"source", "opcode", "engine", "count", "seconds"}
