"""``nl.rand``, ``nl.random_seed`` and ``nl.dropout``."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

import trainshed.nki as nki
import trainshed.nki.language as nl


@pytest.mark.parametrize("target", ["trn1", "trn2", "trn3"])
@pytest.mark.parametrize("buffer", [nl.sbuf, nl.psum, nl.shared_hbm])
def test_rand_is_uniform_and_its_seed_repeats_it(target, buffer):
    def kernel(x):
        outs = []
        for seed in (42, 42, 43):
            nl.random_seed(nl.full((1, 1), seed, dtype=nl.int32))
            made = nl.rand((128, 256), nl.float32, buffer)
            out = nl.ndarray((128, 256), nl.float32, nl.shared_hbm)
            nl.store(out, made if nl.is_on_chip(buffer) else nl.load(made))
            outs.append(out)
        return tuple(outs)

    first, again, other = nki.simulate(kernel, target=target)(np.zeros((1, 1), np.float32))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()
    assert first.min() >= 0
    assert first.max() < 1
    assert abs(first.mean() - 0.5) < 0.01
    assert abs(first.var() - 1 / 12) < 0.003


def test_dropout(on_tiles):
    x = np.full((128, 256), 2, ml_dtypes.bfloat16)
    found = on_tiles(lambda t: nl.dropout(t, 0.25), x)
    assert found.dtype == x.dtype
    assert set(np.unique(found.astype(np.float32))) == {0, 2}
    assert abs((found == 0).mean() - 0.25) < 0.02
    assert on_tiles(lambda t: nl.dropout(t, 1.0, dtype=nl.float32), x).dtype == np.float32


def test_dropout_with_a_rate_for_each_partition(on_tiles):
    x, rate = np.ones((4, 64), np.float32), np.float32([[0], [1], [0], [1]])
    np.testing.assert_array_equal(on_tiles(nl.dropout, x, rate).mean(axis=1), [1, 0, 1, 0])
