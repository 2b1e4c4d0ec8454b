"""Reductions, softmax and RMS norm against NumPy."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

import trainshed.nki.language as nl
from trainshed.chip.errors import NkiValidationError

REDUCTIONS = {
    "sum": np.sum, "max": np.max, "min": np.min, "mean": np.mean, "prod": np.prod, "var": np.var,
    "all": lambda x, axis, keepdims=False: np.all(x, axis=axis, keepdims=keepdims).astype(np.float32),
}  # fmt: skip
NAMES = ["sum", "max", "min", "mean", "prod"]


@pytest.mark.parametrize("dtype", [np.float32, ml_dtypes.bfloat16])
@pytest.mark.parametrize("name", [*NAMES, "var", "all"])
def test_over_the_free_dimension(on_tiles, rng, name, dtype):
    x = rng.uniform(0, 1.2, (128, 20)).astype(dtype)
    x[::7, 3] = 0
    found = on_tiles(lambda t: getattr(nl, name)(t, 1), x)
    expected = REDUCTIONS[name](x.astype(np.float32), axis=1)
    assert found.shape == (128, 1)
    assert found.dtype == np.dtype(dtype)
    np.testing.assert_allclose(found[:, 0].astype(np.float32), expected, rtol=1e-5 if dtype is np.float32 else 1e-2)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("axis", [2, -1, (1, 2), [1, 2], 1])
def test_over_several_or_an_inner_dimension(on_tiles, rng, name, axis):
    x = rng.uniform(0.5, 1.5, (32, 3, 8)).astype(np.float32)
    plain = tuple(axis) if isinstance(axis, list) else axis
    kept = on_tiles(lambda t: getattr(nl, name)(t, axis, keepdims=True), x)
    np.testing.assert_allclose(kept, REDUCTIONS[name](x, axis=plain, keepdims=True), rtol=1e-5)
    dropped = on_tiles(lambda t: getattr(nl, name)(t, axis), x)
    expected = REDUCTIONS[name](x, axis=plain)
    np.testing.assert_allclose(dropped, expected if expected.ndim > 1 else expected[:, None], rtol=1e-5)


def test_variance_keeps_its_dimensions(on_tiles, rng):
    x = rng.standard_normal((16, 3, 8)).astype(np.float32)
    np.testing.assert_allclose(on_tiles(lambda t: nl.var(t, 2), x), np.var(x, axis=2, keepdims=True), rtol=1e-5)


def test_reductions_of_bfloat16_are_summed_in_float32(on_tiles):
    x = np.full((4, 512), 1.0, ml_dtypes.bfloat16)
    assert on_tiles(lambda t: nl.sum(t, 1), x)[0, 0] == 512
    assert on_tiles(lambda t: nl.mean(t, 1, dtype=nl.float32), x).dtype == np.float32


@pytest.mark.parametrize("name", [*NAMES, "var", "all"])
def test_partitions_are_not_reduced(on_tiles, name):
    with pytest.raises(NkiValidationError, match="free dimensions") as caught:
        on_tiles(lambda t: getattr(nl, name)(t, 0), np.ones((4, 4), np.float32))
    assert caught.value.rule == "reduce-axis"


@pytest.mark.parametrize(("shape", "axis"), [((128, 100), -1), ((16, 4, 9), 2), ((16, 4, 9), (1, 2))])
def test_softmax(on_tiles, rng, shape, axis):
    x = (10 * rng.standard_normal(shape)).astype(np.float32)
    powers = np.exp(x - x.max(axis=axis, keepdims=True))
    expected = powers / powers.sum(axis=axis, keepdims=True)
    found = on_tiles(lambda t: nl.softmax(t, axis), x)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-7)
    np.testing.assert_allclose(found.sum(axis=axis), 1, rtol=1e-5)


def test_softmax_keeps_bfloat16(on_tiles, rng):
    x = rng.standard_normal((8, 32)).astype(ml_dtypes.bfloat16)
    assert on_tiles(nl.softmax, x).dtype == ml_dtypes.bfloat16


@pytest.mark.parametrize("rows", [64, 1])
def test_rms_norm(on_tiles, rng, rows):
    x, w = rng.standard_normal((64, 48)).astype(np.float32), rng.standard_normal((rows, 48)).astype(np.float32)
    expected = x / np.sqrt(np.mean(x * x, axis=1, keepdims=True) + 1e-3) * w
    found = on_tiles(lambda t, weight: nl.rms_norm(t, weight, 1, 48, epsilon=1e-3), x, w)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
