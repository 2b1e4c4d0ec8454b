"""Norms and softmax: values, the rows of each core, what engines share."""

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import trainshed.nki as nki
from trainshed.core.errors import UserError
from trainshed.kernels.norms import layernorm, rmsnorm, softmax

BF16 = ml_dtypes.bfloat16


@pytest.mark.parametrize("target", ["trn1", "trn2", "trn3"])
@pytest.mark.parametrize("name", ["norms.rmsnorm", "norms.layernorm", "norms.softmax"])
def test_values(holds, name, target):
    holds(name, target)


@pytest.mark.parametrize("rows", [1, 3, 200])
def test_two_cores_share_the_rows(rng, rows):
    x, ones = rng.standard_normal((rows, 320), np.float32), np.ones((1, 320), np.float32)
    for kernel, weights in ((rmsnorm, [ones]), (layernorm, [ones, 0 * ones]), (softmax, [])):
        alone, simulated = nki.simulate(kernel)(x, *weights), nki.simulate(kernel[2])
        np.testing.assert_allclose(simulated(x, *weights), alone, rtol=1e-5, atol=1e-6)
        stored = [sum(i.work.get("hbm_write", 0) for i in core.instructions) for core in simulated.launch.cores]
        assert sum(stored) == x.nbytes
        assert abs(stored[0] - stored[1]) <= x[0].nbytes


def test_few_rows_are_cut_over_partitions(rng, recorded):
    x, weight = rng.standard_normal((3, 4096), np.float32), rng.standard_normal((1, 4096), np.float32)
    elements = max(i.work.get("elements", 0) for i in recorded(rmsnorm, x, weight).launch.cores[0].instructions)
    assert elements == 4096 // 32
    wide = x.astype(np.float64)
    good = wide / np.sqrt((wide**2).mean(1, keepdims=True) + 1e-6) * weight
    np.testing.assert_allclose(nki.simulate(rmsnorm, target="trn1")(x, weight), good, rtol=1e-5, atol=1e-6)


def test_each_element_is_read_and_written_once(recorded):
    x, weight = np.zeros((1000, 512), BF16), np.zeros((1, 512), BF16)
    profile = recorded(softmax, x).profile
    assert (profile.hbm_read_bytes, profile.hbm_write_bytes) == (x.nbytes, x.nbytes)
    assert recorded(rmsnorm, x, weight).profile.hbm_read_bytes == x.nbytes + 125 * weight.nbytes


@settings(max_examples=10, deadline=None)
@given(st.floats(-50, 50), st.integers(1, 40))
def test_softmax_of_shifted_rows_is_the_same(shift, columns):
    x = np.linspace(-3, 3, 4 * columns, dtype=np.float32).reshape(4, columns)
    run = nki.simulate(softmax, target="trn2")
    found, moved = run(x), run(x + np.float32(shift))
    np.testing.assert_allclose(found.sum(axis=1), 1, rtol=1e-5)
    np.testing.assert_allclose(moved, found, rtol=1e-4, atol=1e-6)


def test_layernorm_of_a_large_mean(rng):
    x = (1000 + rng.standard_normal((5, 700))).astype(np.float32)
    ones = np.ones((1, 700), np.float32)
    found, wide = nki.simulate(layernorm, target="trn1")(x, ones, 0 * ones), x.astype(np.float64)
    good = (wide - wide.mean(1, keepdims=True)) / wide.std(1, keepdims=True)
    np.testing.assert_allclose(found, good, atol=2e-3)


@pytest.mark.parametrize(
    ("kernel", "arguments", "message"),
    [
        (rmsnorm, [(2, 3, 4), (1, 4)], "rmsnorm: dimensions of x: 3; expected 2"),
        (rmsnorm, [(2, 4), (4, 1)], r"rmsnorm: shape of weight: \(4, 1\); expected \(1, 4\)"),
        (layernorm, [(2, 4), (1, 4), (1, 3)], r"layernorm: shape of bias: \(1, 3\); expected \(1, 4\)"),
        (softmax, [(2, 20000)], "softmax: columns: 20000; expected at most 14336"),
    ],
)
def test_arguments_that_do_not_fit(kernel, arguments, message):
    with pytest.raises(UserError, match=f"kernels.norms.{message}"):
        nki.simulate(kernel, target="trn2")(*[np.zeros(shape, BF16) for shape in arguments])
