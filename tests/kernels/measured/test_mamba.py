"""The state-space scan: values of both versions, what they load, and sizes that do not fit."""

import numpy as np
import pytest

import trainshed.nki as nki
from trainshed.core.errors import UserError
from trainshed.kernels.measured import mamba

CHANNELS, STATES = 256, 3


def arguments(rng, sequence):
    shapes = {"delta": (CHANNELS, sequence), "u": (CHANNELS, sequence), "A": (CHANNELS, STATES),
              "B": (STATES, sequence), "C": (STATES, sequence)}  # fmt: skip
    made = {name: rng.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}
    return {**made, "delta": np.abs(made["delta"]), "A": -np.abs(made["A"])}


def scanned(delta, u, A, B, C):
    """Element by element in float64."""
    h, y = np.zeros((CHANNELS, STATES)), np.zeros(delta.shape)
    for t in range(delta.shape[1]):
        d, x = delta[:, t : t + 1].astype(np.float64), u[:, t : t + 1]
        h = np.exp(d * A) * h + d * x * B[:, t]
        y[:, t] = h @ C[:, t]
    return y


@pytest.mark.parametrize(
    ("kernel", "sequence"), [(mamba.reordered, 96), (mamba.sequence_tiled, 512), (mamba.sequence_tiled, 1024)]
)
def test_values(kernel, sequence, target, rng):
    given = arguments(rng, sequence)
    found = nki.simulate(kernel, target=target)(**given)
    np.testing.assert_allclose(found, scanned(**given), rtol=2e-4, atol=2e-4)


def test_what_is_loaded(rng):
    given = arguments(rng, 512)
    simulated = nki.simulate(mamba.reordered, target="trn1", values=False)
    simulated(**given)
    once = sum(given[name].nbytes for name in ("delta", "u", "A"))
    for_each_tile = (CHANNELS // 128) * (given["B"].nbytes + given["C"].nbytes)
    assert simulated.profile.hbm_read_bytes == once + for_each_tile
    assert simulated.profile.hbm_write_bytes == given["u"].nbytes


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"delta": (200, 512)}, "channels: 200; expected a multiple of 128"),
        ({"delta": (256, 500)}, "sequence: 500; expected a multiple of 512"),
        ({"u": (256, 8)}, r"shape of u: \(256, 8\); expected \(256, 512\)"),
        ({"C": (2, 512)}, r"shape of C: \(2, 512\); expected \(3, 512\)"),
    ],
)
def test_sizes_that_do_not_fit(changed, message):
    shapes = {"delta": (256, 512), "u": (256, 512), "A": (256, 3), "B": (3, 512), "C": (3, 512), **changed}
    arrays = {name: np.zeros(shape, np.float32) for name, shape in shapes.items()}
    with pytest.raises(UserError, match=message):
        nki.simulate(mamba.sequence_tiled, target="trn1", values=False)(**arrays)


def test_the_longest_sequence_fits():
    shapes = {"delta": (128, 4096), "u": (128, 4096), "A": (128, 2), "B": (2, 4096), "C": (2, 4096)}
    arrays = {name: np.zeros(shape, np.float32) for name, shape in shapes.items()}
    simulated = nki.simulate(mamba.reordered, target="trn1", values=False)
    simulated(**arrays)
    scans = [record for record in simulated.launch.cores[0].instructions if record.opcode == "tensor_tensor_scan"]
    assert [record.work["elements"] for record in scans] == [4096] * 2


def test_a_whole_sequence_has_to_fit_in_psum():
    shapes = {"delta": (128, 4608), "u": (128, 4608), "A": (128, 1), "B": (1, 4608), "C": (1, 4608)}
    arrays = {name: np.zeros(shape, np.float32) for name, shape in shapes.items()}
    with pytest.raises(UserError, match="sequence: 4608; expected at most 4096"):
        nki.simulate(mamba.reordered, target="trn1", values=False)(**arrays)
