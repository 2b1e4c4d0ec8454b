"""Copies and RMSNorm by tiles of 128 rows."""

import numpy as np
import pytest

import trainshed.nki as nki
from trainshed.core.errors import UserError
from trainshed.kernels.measured import rowwise


@pytest.mark.parametrize("rows", [128, 300])
def test_copy(rows, target, bf16):
    x = bf16(rows, 48)
    np.testing.assert_array_equal(nki.simulate(rowwise.copy_tiled, target=target)(x), x)


@pytest.mark.parametrize("rows", [128, 200])
def test_rmsnorm(rows, target, bf16, close):
    x, weight = bf16(rows, 96), bf16(1, 96)
    wide = x.astype(np.float32)
    wanted = wide / np.sqrt((wide**2).mean(axis=1, keepdims=True) + 1e-6) * weight.astype(np.float32)
    close(nki.simulate(rowwise.rmsnorm, target=target)(x, weight), wanted, 1.0)


def test_epsilon_counts_where_rows_are_small():
    x, weight = np.full((128, 4), 1e-3, np.float32), np.ones((1, 4), np.float32)
    found = nki.simulate(rowwise.rmsnorm, target="trn2")(x, weight)
    np.testing.assert_allclose(found, np.full_like(x, 1e-3 / np.sqrt(2e-6)), rtol=1e-3)


def test_instructions():
    simulated = nki.simulate(rowwise.rmsnorm, target="trn2", values=False)
    simulated(np.ones((256, 8), np.float32), np.ones((1, 8), np.float32))
    found = [record.opcode for record in simulated.launch.cores[0].instructions]
    assert found[:128] == ["dma_copy"] * 128
    body = ["dma_copy", "activation_reduce", "activation", "tensor_scalar", "tensor_tensor", "dma_copy"]
    assert found[128:] == body * 2


def test_shapes_that_do_not_fit():
    x = np.ones((128, 8), np.float32)
    with pytest.raises(UserError, match=r"rmsnorm: shape of weight: \(8,\); expected \(1, 8\)"):
        nki.simulate(rowwise.rmsnorm)(x, np.ones(8, np.float32))
    for kernel, arguments in ((rowwise.copy_tiled, ()), (rowwise.rmsnorm, (np.ones((1, 8), np.float32),))):
        with pytest.raises(UserError, match="dimensions of x: 3; expected 2"):
            nki.simulate(kernel)(np.ones((2, 64, 8), np.float32), *arguments)
