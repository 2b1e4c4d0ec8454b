"""The optimiser step: values, several steps, and what it moves."""

import ml_dtypes
import numpy as np
import pytest

import trainshed.nki as nki
from trainshed.core.errors import UserError
from trainshed.kernels.optimiser import adamw, step_rates

BF16 = ml_dtypes.bfloat16


@pytest.mark.parametrize("target", ["trn1", "trn2", "trn3"])
def test_values(holds, target):
    holds("optimiser.adamw", target)


def test_steps_go_down_a_valley(rng):
    """Ten steps on the sum of squares: as the textbook's loop has it, and nearer to 0."""
    start = rng.standard_normal((5, 300)).astype(np.float32) + 3
    weight, first, second = start, np.zeros_like(start), np.zeros_like(start)
    good, mean, square = start.astype(np.float64), np.zeros(start.shape), np.zeros(start.shape)
    run = nki.simulate(adamw[2], target="trn2")
    for step in range(1, 11):
        gradient = 2 * weight
        weight, first, second, _ = run(weight, gradient, first, second, step_rates(step, 0.05))
        g = 2 * good
        mean, square = 0.9 * mean + 0.1 * g, 0.95 * square + 0.05 * g * g
        good = good - 0.05 * (mean / (1 - 0.9**step) / (np.sqrt(square / (1 - 0.95**step)) + 1e-8) + 0.1 * good)
    np.testing.assert_allclose(weight, good, rtol=1e-4)
    assert (np.abs(weight) < np.abs(start)).all()


def test_no_gradient_leaves_the_moments_alone_but_weights_decay():
    ones, zeros = np.ones((3, 7), np.float32), np.zeros((3, 7), np.float32)
    weight, first, second, narrow = nki.simulate(adamw)(ones, zeros.astype(BF16), zeros, zeros, step_rates(1, 0.5))
    np.testing.assert_allclose(weight, 0.95 * ones, rtol=1e-6)
    assert not first.any()
    assert not second.any()
    assert narrow.dtype == BF16


def test_bytes_that_it_moves(recorded):
    wide, narrow = np.zeros((256, 1024), np.float32), np.zeros((256, 1024), BF16)
    profile = recorded(adamw, wide, narrow, wide, wide, step_rates(1, 0.1)).profile
    assert profile.hbm_read_bytes == wide.size * 14 + 128 * 12
    assert profile.hbm_write_bytes == wide.size * 14


def test_arguments_that_do_not_fit():
    wide, rates = np.zeros((2, 3), np.float32), step_rates(1, 0.1)
    run = nki.simulate(adamw, target="trn2")
    with pytest.raises(UserError, match=r"optimiser.adamw: shape of second: \(3, 2\); expected \(2, 3\)"):
        run(wide, wide, wide, wide.T.copy(), rates)
    with pytest.raises(UserError, match=r"optimiser.adamw: shape of rates: \(1, 2\); expected \(1, 3\)"):
        run(wide, wide, wide, wide, rates[:, :2].copy())
    with pytest.raises(UserError, match=r"kernels.optimiser: step: 0; expected at least 1"):
        step_rates(0, 0.1)
