"""The suite's draws, taken whole."""

# ruff: noqa: NPY002 (the suite draws from the global generator)
from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

from trainshed.nki.conformance.draws import Uniform, block_draws, uniform


@pytest.mark.parametrize("blocks", [0, 1, 5, 5000])
@pytest.mark.parametrize("seed", range(4))
def test_blocks_are_drawn_as_by_four_calls_each(seed: int, blocks: int) -> None:
    np.random.seed(seed)
    np.random.random(seed)  # the generator need not stand at its start
    state = np.random.get_state()
    expected = [
        (np.random.randint(0, 7), np.random.randint(0, 3), np.random.choice([-1, 1]), np.random.random())
        for _ in range(blocks)
    ]
    after = np.random.random(4)
    np.random.set_state(state)
    rows, columns, signs, mantissas = block_draws(blocks)
    assert list(zip(rows, columns, signs, mantissas, strict=True)) == expected
    np.testing.assert_array_equal(np.random.random(4), after)


@pytest.mark.parametrize("dtype", [ml_dtypes.bfloat16, np.float32, np.float64])
def test_a_uniform_array_is_drawn_in_parts_as_whole(dtype: type) -> None:
    np.random.seed(3)
    expected, after = np.random.uniform(-0.1, 0.1, (3, 50, 301)).astype(dtype), np.random.random(4)
    np.random.seed(3)
    np.testing.assert_array_equal(Uniform(-0.1, 0.1, [3, 50, 301]).astype(dtype), expected)
    np.testing.assert_array_equal(np.random.random(4), after)


def test_only_large_arrays_wait_for_their_format() -> None:
    assert isinstance(uniform(0, 1, (1 << 12, 1 << 12)), Uniform)
    assert uniform(0, 1, (4, 4)).shape == (4, 4)
    assert isinstance(uniform(), float)
