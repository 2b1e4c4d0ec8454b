"""Kernels of the library are good ones: their simulated time is near the longest of what their engines have to do."""

import numpy as np
import pytest

import trainshed.nki as nki
from trainshed.chip.accesses import accesses
from trainshed.chip.timing.timing import timing
from trainshed.kernels.library import library

ROWS = {"rows": 4096, "columns": 4096}
CASES = [
    ("gemm.matmul", {"m": 2048, "k": 2048, "n": 2048}, "bf16", 1.1),
    ("gemm.matmul", {"m": 1, "k": 4096, "n": 4096}, "bf16", 1.15),
    ("gemm.matmul_fp8", {"m": 1024, "k": 4096, "n": 2048}, "fp8", 1.12),
    ("gemm.matmul_mx", {"m": 1024, "k": 4096, "n": 2048}, "mxfp8", 1.2),
    ("norms.rmsnorm", ROWS, "bf16", 1.15),
    ("norms.layernorm", ROWS, "bf16", 1.15),
    ("norms.softmax", ROWS, "bf16", 1.15),
    ("rowwise.copy", ROWS, "bf16", 1.1),
    ("rowwise.cast", ROWS, "bf16", 1.1),
    ("rowwise.add", ROWS, "bf16", 1.1),
    ("rowwise.silu_gate", ROWS, "bf16", 1.1),
    ("rowwise.rope", {"tokens": 4096, "heads": 32, "dim": 128}, "bf16", 1.15),
    ("quantise.rows", ROWS, "bf16", 1.15),
    ("quantise.mx", ROWS, "bf16", 1.15),
    ("optimiser.adamw", {"rows": 1024, "columns": 4096}, "bf16", 1.1),
]
#: Matrix products on all their generations, the others on the middle one where they have it.
RUNS = [
    (*case, target)
    for case in CASES
    for target in library()[case[0]].targets
    if case[0].startswith("gemm") or target == "trn2" or case[0] == "quantise.mx"
]


class Zeros:
    """A generator of nothing: times do not depend on values."""

    def standard_normal(self, shape, dtype=np.float64):
        return np.zeros(shape, dtype)

    def uniform(self, low, _high, shape):
        return np.full(shape, low)


@pytest.mark.parametrize(("name", "shape", "dtype", "most", "target"), RUNS)
def test_time_is_near_its_bound(name, shape, dtype, most, target):
    one = library()[name]
    simulated = nki.simulate(one.kernel, target=target, values=False)
    simulated(**one.inputs(shape, dtype, Zeros()))
    found = timing([accesses(core) for core in simulated.launch.cores])
    assert found.bounds[found.limit] <= found.seconds <= most * found.bounds[found.limit]
