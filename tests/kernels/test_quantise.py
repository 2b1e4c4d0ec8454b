"""Quantising: scales, values, and operands that matrix products take as they are."""

import ml_dtypes
import numpy as np
import pytest

import trainshed.nki as nki
from trainshed.chip.errors import NkiValidationError
from trainshed.core.errors import UserError
from trainshed.kernels.blocks import blocks
from trainshed.kernels.gemm import matmul_mx
from trainshed.kernels.gemm_layout import mx_rows, mx_values
from trainshed.kernels.quantise import mx, rows

BF16 = ml_dtypes.bfloat16


@pytest.mark.parametrize("target", ["trn1", "trn2", "trn3"])
def test_values(holds, target):
    holds("quantise.rows", target)


def test_values_of_mx(holds):
    holds("quantise.mx", "trn3")


@pytest.mark.parametrize(("name", "largest"), [("float8_e4m3", 240), ("float8_e4m3fn", 448), ("float8_e5m2", 57344)])
def test_the_largest_of_a_row_becomes_the_largest_of_the_format(rng, name, largest):
    x = (rng.standard_normal((200, 300)) * np.exp(rng.uniform(-9, 9, (200, 1)))).astype(BF16)
    q, scale = nki.simulate(rows[2], target="trn3")(x, name)
    wide = x.astype(np.float64)
    np.testing.assert_allclose(scale, np.abs(wide).max(1, keepdims=True) / largest, rtol=1e-6)
    np.testing.assert_array_equal(np.abs(q.astype(np.float64)).max(1), largest)
    step = 2.0 ** -(2 if name == "float8_e5m2" else 3)
    assert (np.abs(q.astype(np.float64) * scale - wide) <= step / 2 * np.abs(wide).max(1, keepdims=True)).all()


def test_rows_of_zeros(rng):
    x = np.zeros((3, 40), BF16)
    q, scale = nki.simulate(rows, target="trn2")(x)
    assert not q.astype(np.float32).any()
    assert (scale > 0).all()


@pytest.mark.parametrize("columns", [3, 2100])
def test_two_cores_share_the_columns(rng, columns):
    x = rng.standard_normal((96, columns)).astype(BF16)
    alone, shared = nki.simulate(mx)(x), nki.simulate(mx[2])(x)
    for one, two in zip(alone, shared, strict=True):
        np.testing.assert_array_equal(one, two)


def test_what_is_quantised_here_is_multiplied_as_it_is(rng):
    x, w = (rng.standard_normal((640, n)).astype(BF16) for n in (70, 200))
    run = nki.simulate(mx, target="trn3")
    left, right = run(x), run(w)
    product = nki.simulate(matmul_mx, target="trn3")(left[0], right[0], 640, left[1], right[1]).astype(np.float64)
    exact = x.astype(np.float64).T @ w.astype(np.float64)
    assert np.abs(product - exact).max() <= 0.05 * np.abs(exact).max()
    same = mx_rows(x, blocks(70, 640, 200, "mxfp8", "trn3"), "float8_e4m3fn_x4")
    np.testing.assert_array_equal(mx_values(*left), mx_values(*same))


def test_mx_runs_on_the_last_generation_only():
    with pytest.raises(NkiValidationError, match=r"quantize_mx.*NeuronCore-v4"):
        nki.simulate(mx, target="trn2")(np.zeros((32, 4), BF16))


@pytest.mark.parametrize(
    ("kernel", "x", "options", "message"),
    [
        (rows, np.zeros((2, 3), BF16), {"dtype": "int8"}, "rows: dtype: 'int8'; expected float8_e4m3 or"),
        (rows, np.zeros(3, BF16), {}, "rows: dimensions of x: 1; expected 2"),
        (mx, np.zeros((40, 3), BF16), {}, "mx: rows of x: 40; expected a multiple of 32"),
        (mx, np.zeros(32, BF16), {}, "mx: dimensions of x: 1; expected 2"),
    ],
)
def test_arguments_that_do_not_fit(kernel, x, options, message):
    with pytest.raises(UserError, match=f"kernels.quantise.{message}"):
        nki.simulate(kernel, target="trn3")(x, **options)
