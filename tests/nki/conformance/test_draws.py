"""The suite's draws, taken whole."""

# ruff: noqa: NPY002 (the suite draws from the global generator)
from __future__ import annotations

import numpy as np
import pytest

from trainshed.nki.conformance.draws import block_draws


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
