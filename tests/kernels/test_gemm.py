"""Matrix products: values on three generations, what they read, and what they refuse."""

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import trainshed.nki as nki
from trainshed.chip.errors import NkiValidationError
from trainshed.core.errors import UserError
from trainshed.kernels.blocks import blocks
from trainshed.kernels.gemm import matmul, matmul_mx
from trainshed.kernels.gemm_layout import arranged, mx_rows, mx_values

BF16, F32, E4M3 = ml_dtypes.bfloat16, np.float32, ml_dtypes.float8_e4m3
TARGETS = ("trn1", "trn2", "trn3")


@pytest.mark.parametrize("target", TARGETS)
def test_values(holds, target):
    holds("gemm.matmul", target)


@pytest.mark.parametrize("target", TARGETS[:2])
def test_values_of_fp8(holds, target):
    holds("gemm.matmul_fp8", target)


def test_values_of_mx(holds):
    holds("gemm.matmul_mx", "trn3")


def product(x, w, target="trn2", lnc=1, values=True, **options):
    simulated = nki.simulate(matmul[lnc], target=target, values=values)
    return simulated(x, w, **options), simulated


def close(found, wanted, bits=8):
    assert np.abs(found.astype(np.float64) - wanted).max() <= 2.0**-bits * np.abs(wanted).max()


@settings(max_examples=12, deadline=None)
@given(st.integers(1, 300), st.integers(1, 600), st.integers(1, 1100), st.sampled_from(TARGETS), st.booleans())
def test_any_sizes(m, k, n, target, narrow):
    """Small whole numbers, whose sums are exact: every element is used once."""
    x, w = ((np.arange(k * size) * 7 % 11 - 5).reshape(k, size).astype(E4M3 if narrow else F32) for size in (m, n))
    found, _ = product(x, w, target)
    good = x.astype(np.float32).T @ w.astype(np.float32)
    np.testing.assert_array_equal(found, good.astype(found.dtype))


def test_exchanged_operands_turn_the_result(rng):
    x, w = (rng.standard_normal((200, size), np.float32) for size in (90, 130))
    np.testing.assert_allclose(product(w, x)[0].T, product(x, w)[0], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("n", [1, 700, 1536])
def test_two_cores_share_the_columns(rng, n):
    x, w = (rng.standard_normal((200, size), np.float32) for size in (130, n))
    found, simulated = product(x, w, lnc=2)
    close(found, x.astype(np.float64).T @ w, 18)
    work = [sum(i.work.get("columns", 0) for i in core.instructions) for core in simulated.launch.cores]
    assert work[0] == work[1] if n > 1 else work[1] == 0


def test_scales_of_rows_and_columns(rng):
    x, w = (rng.standard_normal((300, n), np.float32).astype(ml_dtypes.float8_e4m3) for n in (150, 600))
    rows, columns = rng.uniform(1, 3, (150, 1)).astype(np.float32), rng.uniform(1, 3, (1, 600)).astype(np.float32)
    plain = x.astype(np.float64).T @ w.astype(np.float64)
    for target in TARGETS:
        close(product(x, w, target, x_scale=rows, w_scale=columns)[0], plain * rows * columns)
        close(product(x, w, target, w_scale=columns)[0], plain * columns)


def test_each_operand_is_read_once_where_it_fits():
    x, w = np.zeros((1024, 3000), ml_dtypes.bfloat16), np.zeros((1024, 700), ml_dtypes.bfloat16)
    _, simulated = product(x, w, values=False)
    assert simulated.profile.hbm_read_bytes == x.nbytes + w.nbytes
    assert simulated.profile.hbm_write_bytes == 3000 * 700 * 2


def test_w_is_read_once_for_each_block_of_rows():
    x, w = np.zeros((4096, 2048), ml_dtypes.bfloat16), np.zeros((4096, 1024), ml_dtypes.bfloat16)
    assert product(x, w, values=False)[1].profile.hbm_read_bytes == x.nbytes + 2 * w.nbytes


def test_both_pass_where_k_is_very_long(rng):
    x, w = (rng.standard_normal((6400, n), np.float32) for n in (520, 513))
    found, simulated = product(x, w, "trn1")
    assert simulated.profile.hbm_read_bytes == 2 * x.nbytes + w.nbytes
    close(found, x.T.astype(np.float64) @ w, 18)


def test_fp8_takes_two_tiles_of_k_at_a_time():
    x, w = np.zeros((515, 128), ml_dtypes.float8_e4m3), np.zeros((515, 512), ml_dtypes.float8_e4m3)
    double = ["none"] * 2 + ["double_row"] * 2
    for target, modes in {"trn1": ["none"] * 5, "trn2": double, "trn3": double}.items():
        _, simulated = product(x, w, target, values=False)
        found = [i.attributes["perf_mode"] for i in simulated.launch.cores[0].instructions if "macs" in i.work]
        assert sorted(found, reverse=True) == modes, target


def test_arranged_weights_come_in_long_rows():
    w = np.arange(6 * 1100, dtype=np.float32).reshape(6, 1100)
    cut = blocks(1, 6, 1100, "fp32", "trn2")
    blocked = arranged(w, cut)
    assert blocked.shape == (3, 6, 367)
    np.testing.assert_array_equal(np.concatenate(list(blocked), axis=1)[:, :1100], w)
    assert not np.concatenate(list(blocked), axis=1)[:, 1100:].any()
    x, wide = np.zeros((4096, 1), ml_dtypes.bfloat16), np.zeros((4096, 1024), ml_dtypes.bfloat16)
    _, plain = product(x, wide, values=False)
    _, long = product(x, arranged(wide, blocks(1, 4096, 1024, "bf16", "trn2")), values=False)
    longest = [
        max(i.work["descriptor_bytes"] for i in run.launch.cores[0].instructions if i.work.get("hbm_read"))
        for run in (plain, long)
    ]
    assert longest == [1024, 4096]


def test_results_of_few_columns_leave_in_long_rows():
    x, w = np.zeros((128, 1024), BF16), np.zeros((128, 96), BF16)
    _, simulated = product(x, w, values=False)
    stores = [i.work for i in simulated.launch.cores[0].instructions if i.work.get("hbm_write")]
    assert [(item["descriptors"], item["descriptor_bytes"]) for item in stores] == [(128, 8 * 96 * 2)]


def test_formats_of_mx_mix(rng):
    cut = blocks(33, 1000, 300, "mxfp8", "trn3")
    x = mx_rows(rng.standard_normal((1000, 33)), cut, "float8_e5m2_x4")
    w = mx_rows(rng.standard_normal((1000, 300)), cut, "float4_e2m1fn_x4")
    found = nki.simulate(matmul_mx, target="trn3")(x[0], w[0], 1000, x[1], w[1])
    close(found, mx_values(*x).T @ mx_values(*w))
    alone = nki.simulate(matmul_mx, target="trn3")(x[0], w[0], 1000, w_scale=w[1])
    close(alone, mx_values(x[0], None).T @ mx_values(*w))


@pytest.mark.parametrize(("name", "step"), [("float8_e4m3fn_x4", 2.0**-4), ("float4_e2m1fn_x4", 2.0**-2)])
def test_mx_rows_are_groups_of_32_of_k(rng, name, step):
    x = rng.standard_normal((640, 5)) * np.exp2(np.arange(640) // 32 % 7)[:, None]
    data, scales = mx_rows(x, blocks(5, 640, 5, "mxfp8", "trn3"), name)
    values = mx_values(data, scales)
    groups = np.abs(x).reshape(20, 32, 5).max(axis=1)
    error = np.abs(values[:640] - x).reshape(20, 32, 5).max(axis=1)
    assert (error <= step * groups).all()
    assert not values[640:].any()
    zeros = mx_values(*mx_rows(np.zeros((64, 2)), blocks(2, 64, 2, "mxfp4", "trn3"), name))
    assert not zeros.any()


def test_mx_runs_on_the_last_generation_only(rng):
    cut = blocks(4, 128, 4, "mxfp8", "trn3")
    operand = mx_rows(rng.standard_normal((128, 4)), cut, "float8_e4m3fn_x4")
    with pytest.raises(NkiValidationError, match=r"nc_matmul_mx.*NeuronCore-v4"):
        nki.simulate(matmul_mx, target="trn2")(operand[0], operand[0], 128, operand[1], operand[1])


@pytest.mark.parametrize(
    ("x", "w", "options", "message"),
    [
        (np.zeros((4, 2), BF16), np.zeros((5, 2), BF16), {}, "k of w: 5; expected 4, as x"),
        (np.zeros((4, 2), BF16), np.zeros((4, 2), F32), {}, "dtype of w: .*float32.*; expected bfloat16, as x"),
        (np.zeros((4, 2), np.int8), np.zeros((4, 2), np.int8), {}, "dtype of x: .*int8.*; expected bf16"),
        (np.zeros((4, 2), BF16), np.zeros((4, 2), BF16), {"columns": 3}, "columns: 3; expected 1 to 2"),
        (np.zeros((4, 2), BF16), np.zeros((2, 4, 2), BF16), {}, r"blocks of w: \(2, 2\); expected \(1, 4\)"),
    ],
)
def test_operands_that_do_not_fit(x, w, options, message):
    with pytest.raises(UserError, match=f"kernels.gemm.matmul: {message}"):
        product(x, w, **options)


def test_mx_operands_that_do_not_fit(rng):
    x = mx_rows(rng.standard_normal((128, 4)), blocks(4, 128, 4, "mxfp8", "trn3"), "float8_e4m3fn_x4")
    run = nki.simulate(matmul_mx, target="trn3")
    with pytest.raises(UserError, match=r"kernels.gemm.matmul_mx: shape of x: \(32, 1, 4\); expected \(64, 1, m\)"):
        run(x[0], x[0], 256, x[1], x[1])
    with pytest.raises(UserError, match=r"dtype of w: .*uint8.*; expected a packed MX format"):
        run(x[0], x[1], 128, x[1])
