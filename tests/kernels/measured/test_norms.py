"""Norms at decode, and rows quantised with and without a norm."""

import numpy as np
import pytest

import trainshed.nki as nki
from trainshed.core.errors import UserError
from trainshed.kernels.measured import norms


def cores(kernel, lnc):
    return kernel if lnc == 1 else kernel[lnc]


@pytest.mark.parametrize(("target", "lnc"), [("trn1", 1), ("trn2", 1), ("trn2", 2), ("trn3", 2)])
@pytest.mark.parametrize("tokens", [1, 5])
def test_layernorm(target, lnc, tokens, bf16, close):
    x, weight, bias = bf16(tokens, 512) + bf16(tokens, 1), bf16(1, 512), bf16(1, 512)
    found = nki.simulate(cores(norms.layernorm_decode, lnc), target=target)(x, weight, bias)
    wide = x.astype(np.float64)
    centred = wide - wide.mean(axis=1, keepdims=True)
    wanted = centred / np.sqrt((centred**2).mean(axis=1, keepdims=True) + 1e-6) * weight.astype(float)
    close(found, wanted + bias.astype(float), 1.0)


def normed(x, weight):
    wide = x.astype(np.float64)
    return wide / np.sqrt((wide**2).mean(axis=1, keepdims=True) + 1e-6) * weight.astype(np.float64)


def agrees(found, wanted):
    """Rows within half a step of fp8, and scales that map the largest of a row to 240."""
    data, scales = found
    np.testing.assert_allclose(scales, np.abs(wanted).max(axis=1, keepdims=True) / 240, rtol=1e-2)
    error = np.abs(data.astype(np.float64) * scales - wanted)
    assert (error <= np.maximum(np.abs(wanted) * (2.0**-4 + 2.0**-7), np.abs(scales) * 2.0**-7)).all()


@pytest.mark.parametrize(("target", "lnc"), [("trn1", 1), ("trn2", 2), ("trn3", 1)])
@pytest.mark.parametrize("rows", [2, 300])
def test_rmsnorm_quant(target, lnc, rows, bf16):
    x, weight = bf16(rows, 96), bf16(1, 96)
    agrees(nki.simulate(cores(norms.rmsnorm_quant, lnc), target=target)(x, weight), normed(x, weight))


@pytest.mark.parametrize("bound", [0.0, 0.5])
def test_quant(target, bound, bf16):
    x = bf16(130, 96)
    found = nki.simulate(norms.quant, target=target)(x, bound=bound)
    agrees(found, np.clip(x.astype(np.float64), -bound, bound) if bound else x.astype(np.float64))


def test_rows_of_zeros_have_no_infinite_scale(target):
    data, scales = nki.simulate(norms.quant, target=target)(np.zeros((128, 8), np.float32))
    assert not data.astype(np.float32).any()
    assert (scales > 0).all()
    assert np.isfinite(scales).all()


@pytest.mark.parametrize(
    ("kernel", "arguments", "message"),
    [
        (norms.layernorm_decode, ((1, 100), (1, 100), (1, 100)), "hidden: 100; expected a multiple of 128"),
        (norms.layernorm_decode, ((1, 128), (1, 128), (1, 64)), r"shape of bias: \(1, 64\); expected \(1, 128\)"),
        (norms.rmsnorm_quant, ((4, 8), (8,)), r"shape of weight: \(8,\); expected \(1, 8\)"),
        (norms.quant, ((1, 4, 8),), "dimensions of x: 3; expected 2"),
        (norms.quant, ((4, 8), -1.0), "bound: -1.0; expected 0 "),
    ],
)
def test_arguments_that_do_not_fit(kernel, arguments, message):
    given = [np.zeros(one, np.float32) if isinstance(one, tuple) else one for one in arguments]
    with pytest.raises(UserError, match=message):
        nki.simulate(kernel, target="trn2", values=False)(*given)
