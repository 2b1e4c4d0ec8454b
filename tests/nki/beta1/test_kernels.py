"""Kernels of NKI Beta 1, in its own words, against NumPy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import trainshed.nki.beta1 as nki
import trainshed.nki.beta1.compiler as ncc
import trainshed.nki.beta1.isa as nisa
import trainshed.nki.beta1.language as nl
import trainshed.nki.beta1.typing as nt
from trainshed.chip.errors import NkiValidationError

RNG = np.random.default_rng(0)


def values(*shape: int, dtype: Any = np.float32) -> np.ndarray[Any, Any]:
    return RNG.standard_normal(shape).astype(dtype)


def test_load_add_store() -> None:
    @nki.jit
    def kernel(a: nt.tensor, b: nt.tensor[128, 512]) -> Any:
        out = nl.ndarray(a.shape, dtype=a.dtype, buffer=nl.shared_hbm)
        nl.store(out, nl.load(a) + nl.load(b))
        return out

    a, b = values(128, 512), values(128, 512)
    assert np.array_equal(kernel(a, b), a + b)


@pytest.mark.parametrize("shape", [(128, 512), (200, 700), (1, 1)])
def test_masks_keep_tiles_inside(shape: tuple[int, int]) -> None:
    @nki.jit
    def kernel(a: Any) -> Any:
        out = nl.ndarray(a.shape, dtype=a.dtype, buffer=nl.shared_hbm)
        rows, columns = a.shape
        for i in nl.affine_range((rows + 127) // 128):
            for j in nl.affine_range((columns + 511) // 512):
                p, f = nl.mgrid[0:128, 0:512]
                inside = (i * 128 + p < rows) & (j * 512 + f < columns)
                tile = nl.load(a[i * 128 + p, j * 512 + f], mask=inside)
                nl.store(out[i * 128 + p, j * 512 + f], nl.exp(tile), mask=inside)
        return out

    a = values(*shape)
    np.testing.assert_allclose(kernel(a), np.exp(a), rtol=1e-6)


def test_a_mask_that_is_no_rectangle() -> None:
    @nki.jit
    def kernel(a: Any) -> Any:
        out = nl.zeros(a.shape, dtype=a.dtype, buffer=nl.shared_hbm)
        p, f = nl.mgrid[0:2, 0:64]
        nl.store(out[p, f], nl.load(a[p, f]), mask=p * 64 + f < 100)
        return out

    a = values(2, 64)
    expected = np.where(np.arange(128).reshape(2, 64) < 100, a, 0)
    assert np.array_equal(kernel(a), expected)


def test_arange_and_strided_access() -> None:
    @nki.jit
    def split(a: Any) -> Any:
        rows, columns = a.shape
        even = nl.ndarray((rows, columns // 2), dtype=a.dtype, buffer=nl.shared_hbm)
        odd = nl.ndarray((rows, columns // 2), dtype=a.dtype, buffer=nl.shared_hbm)
        p, f = nl.arange(rows)[:, None], nl.arange(columns // 2)[None, :]
        tile = nl.load(a)
        nl.store(even[p, f], tile[p, 2 * f])
        nl.store(odd[p, f], tile[p, 2 * f + 1])
        return even, odd

    a = values(16, 32)
    even, odd = split(a)
    assert np.array_equal(even, a[:, ::2])
    assert np.array_equal(odd, a[:, 1::2])


def test_matmul_accumulates_in_psum_over_blocks() -> None:
    @nki.jit
    def kernel(lhs_t: Any, rhs: Any) -> Any:
        k, m = lhs_t.shape
        n = rhs.shape[1]
        out = nl.ndarray((m, n), dtype=lhs_t.dtype, buffer=nl.shared_hbm)
        left = nl.ndarray((k // 128, nl.par_dim(128), m), dtype=lhs_t.dtype, buffer=nl.sbuf)
        for i in nl.affine_range(k // 128):
            left[i] = nl.load(lhs_t[i * 128 : (i + 1) * 128, :])
        total = nl.zeros((m, n), nl.float32, buffer=nl.psum)
        for i in nl.affine_range(k // 128):
            total += nl.matmul(left[i], nl.load(rhs[i * 128 : (i + 1) * 128, :]), transpose_x=True)
        nl.store(out, total)
        return out

    left, right = values(384, 64), values(384, 256)
    np.testing.assert_allclose(kernel(left, right), left.T @ right, rtol=1e-4, atol=1e-4)
    again = kernel(left, right)
    assert np.array_equal(again, kernel(left, right))


def test_a_product_is_issued_into_its_place() -> None:
    """``+=`` is the tensor engine's accumulation, and an assignment no copy."""
    a, b = values(128, 64), values(128, 32)

    def kernel(a: Any, b: Any) -> Any:
        left, right = nl.load(a), nl.load(b)
        total = nl.zeros((64, 32), nl.float32, buffer=nl.psum)
        for _ in range(3):
            total[...] += nisa.nc_matmul(left, right)
        out = nl.ndarray((64, 32), dtype=nl.float32, buffer=nl.shared_hbm)
        kept = nl.ndarray((64, 32), dtype=nl.float32, buffer=nl.sbuf)
        kept[...] = nisa.activation(nl.exp, total, scale=0.01)
        nl.store(out, kept)
        return out

    run = nki.Simulated(nki.jit(kernel))
    np.testing.assert_allclose(run(a, b), np.exp(0.03 * a.T @ b), rtol=1e-5)
    assert run.launch is not None
    opcodes = [item.opcode for item in run.launch.cores[0].instructions]
    assert opcodes == ["dma_copy", "dma_copy", "memset", *["nc_matmul"] * 3, "activation", "dma_copy"]


def test_a_sum_onto_other_contents_is_no_accumulation() -> None:
    @nki.jit
    def kernel(a: Any, b: Any) -> Any:
        total = nl.full((64, 32), 2.0, nl.float32, buffer=nl.psum)
        total += nisa.nc_matmul(nl.load(a), nl.load(b))
        out = nl.ndarray((64, 32), dtype=nl.float32, buffer=nl.shared_hbm)
        nl.store(out, total)
        return out

    a, b = values(128, 64), values(128, 32)
    np.testing.assert_allclose(kernel(a, b), a.T @ b + 2, rtol=1e-4, atol=1e-4)


def test_order_is_the_programs() -> None:
    """A value kept back is computed before what it reads is overwritten."""

    @nki.jit
    def kernel(a: Any) -> Any:
        tile = nl.load(a)
        before = nisa.tensor_copy(tile)
        tile[...] = 0.0
        out = nl.ndarray(a.shape, dtype=a.dtype, buffer=nl.shared_hbm)
        nl.store(out, before + tile)
        return out

    a = values(8, 16)
    assert np.array_equal(kernel(a), a)


def test_broadcasts_and_operators() -> None:
    @nki.jit
    def kernel(a: Any, row: Any) -> Any:
        tile = nl.load(a)
        top = nl.max(tile, axis=1, keepdims=True)
        shifted = (tile - top) * 2.0 + 1.0 / (tile * tile + 1.0)
        shifted = nisa.tensor_tensor(shifted, nl.zeros((8, 1), dtype=nl.float32), op=np.add)
        scaled = -shifted * nl.broadcast_to(nl.load(row), shape=(8, 16))
        out = nl.ndarray(a.shape, dtype=a.dtype, buffer=nl.shared_hbm)
        nl.store(out, nl.where(tile > 0.0, scaled, tile))
        return out

    a, row = values(8, 16), values(1, 16)
    expected = -((a - a.max(1, keepdims=True)) * 2 + 1 / (a * a + 1)) * row
    np.testing.assert_allclose(kernel(a, row), np.where(a > 0, expected, a), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["softmax", "rms_norm", "mean", "var"])
def test_composed_functions(name: str) -> None:
    a, weight = values(32, 64), values(32, 64)

    @nki.jit
    def kernel(a: Any, w: Any) -> Any:
        tile = nl.load(a)
        result = {
            "softmax": lambda: nl.softmax(tile, axis=1),
            "rms_norm": lambda: nl.rms_norm(tile, nl.load(w), axis=1, n=64),
            "mean": lambda: nl.mean(tile, axis=1),
            "var": lambda: nl.var(tile, axis=1),
        }[name]()
        out = nl.ndarray(result.shape, dtype=nl.float32, buffer=nl.shared_hbm)
        nl.store(out, result)
        return out

    powers = np.exp(a - a.max(1, keepdims=True))
    expected = {
        "softmax": powers / powers.sum(1, keepdims=True),
        "rms_norm": a / np.sqrt((a * a).mean(1, keepdims=True) + 1e-6) * weight,
        "mean": a.mean(1, keepdims=True),
        "var": a.var(1, keepdims=True),
    }[name]
    np.testing.assert_allclose(kernel(a, weight), expected, rtol=1e-4, atol=1e-5)


def test_reductions_over_windows() -> None:
    """Pooling: reduced dimensions need not be the last."""

    @nki.jit
    def kernel(a: Any) -> Any:
        tile = nl.load(a)
        p, y, dy, x, dx = nl.mgrid[0:4, 0:3, 0:2, 0:5, 0:2]
        out = nl.ndarray((4, 3, 5), dtype=a.dtype, buffer=nl.shared_hbm)
        nl.store(out, nl.sum(tile[p, 2 * y + dy, 2 * x + dx], axis=[2, 4]))
        return out

    a = values(4, 6, 10)
    np.testing.assert_allclose(kernel(a), a.reshape(4, 3, 2, 5, 2).sum((2, 4)), rtol=1e-5)


def test_indirect_load_and_store() -> None:
    @nki.jit
    def kernel(data: Any, index: Any) -> Any:
        gathered = nl.ndarray((8, 16), dtype=data.dtype, buffer=nl.shared_hbm)
        scattered = nl.zeros(data.shape, dtype=data.dtype, buffer=nl.shared_hbm)
        p, f = nl.arange(8)[:, None], nl.arange(16)[None, :]
        rows = nl.load(index[p])
        tile = nl.load(data[rows[p, 0], f])
        nl.store(gathered, tile)
        nl.store(scattered[rows[p, 0], f], tile)
        return gathered, scattered

    data, index = values(32, 16), np.array([3, 1, 31, 8, 0, 7, 20, 5], np.int32)
    gathered, scattered = kernel(data, index)
    expected = np.zeros_like(data)
    expected[index] = data[index]
    assert np.array_equal(gathered, data[index])
    assert np.array_equal(scattered, expected)


def test_affine_select_of_a_comparison() -> None:
    @nki.jit
    def kernel(a: Any) -> Any:
        p, f = nl.mgrid[0:16, 0:32]
        out = nl.ndarray(a.shape, dtype=a.dtype, buffer=nl.shared_hbm)
        nl.store(out, nisa.affine_select(pred=(f <= p + 3), on_true_tile=nl.load(a), on_false_value=-1.0))
        return out

    a = values(16, 32)
    assert np.array_equal(kernel(a), np.where(np.arange(32)[None] <= np.arange(16)[:, None] + 3, a, -1))


def test_iota_and_transpose() -> None:
    @nki.jit
    def kernel(a: Any) -> Any:
        out = nl.ndarray((16, 32), dtype=nl.int32, buffer=nl.shared_hbm)
        turned = nl.ndarray((24, 40), dtype=a.dtype, buffer=nl.shared_hbm)
        p, f = nl.mgrid[0:16, 0:32]
        nl.store(out, nisa.iota(p * 100 - f + 7, dtype=nl.int32))
        nl.store(turned, nl.transpose(nl.load(a)))
        return out, turned

    a = values(40, 24)
    numbers, turned = kernel(a)
    assert np.array_equal(numbers, np.arange(16)[:, None] * 100 - np.arange(32)[None] + 7)
    assert np.array_equal(turned, a.T)


def test_grids_of_programs() -> None:
    @nki.jit
    def kernel(a: Any) -> Any:
        out = nl.ndarray(a.shape, dtype=a.dtype, buffer=nl.shared_hbm)
        i, j = nl.program_id(0), nl.program_id(1)
        assert (nl.num_programs(), nl.num_programs(axes=1), nl.program_ndim()) == (6, 3, 2)
        p, f = nl.mgrid[0:4, 0:8]
        nl.store(out[i * 4 + p, j * 8 + f], nl.load(a[i * 4 + p, j * 8 + f]) * 2.0)
        return out

    a = values(8, 24)
    assert np.array_equal(kernel[nl.spmd_dim(nl.nc(2)), 3](a), a * 2)


def test_outputs_that_are_arguments_are_written_in_place() -> None:
    def kernel(a: Any, out: nt.mutable_tensor) -> None:
        nl.store(out, nl.load(a) + 1.0)

    a, out = values(4, 4), np.zeros((4, 4), np.float32)
    nki.simulate_kernel(kernel, a, out)
    assert np.array_equal(out, a + 1)
    out[:] = 0
    nki.baremetal(kernel)(a, out)
    assert np.array_equal(out, a + 1)


def test_kernels_call_kernels() -> None:
    @nki.jit
    def double(tile: Any) -> Any:
        return nl.multiply(tile, 2.0)

    @nki.jit(mode="simulation", platform_target="trn2")
    def kernel(a: Any) -> Any:
        out = nl.ndarray(a.shape, dtype=a.dtype, buffer=nl.shared_hbm)
        nl.store(out, double(nl.load(a)))
        return out

    a = values(4, 4)
    assert np.array_equal(kernel(a), a * 2)


def test_sum_over_a_loop() -> None:
    @nki.jit
    def kernel(a: Any) -> Any:
        out = nl.ndarray((8, 16), dtype=a.dtype, buffer=nl.shared_hbm)
        total = nl.ndarray((8, 16), dtype=nl.float32, buffer=nl.sbuf)
        for k in nl.affine_range(3):
            total[...] = nl.loop_reduce(nl.load(a[k]), op=np.add, loop_indices=[k], dtype=nl.float32)
        nl.store(out, total)
        return out

    a = values(3, 8, 16)
    np.testing.assert_allclose(kernel(a), a.sum(0), rtol=1e-6, atol=1e-6)


def test_allocators_name_memories() -> None:
    @nki.jit
    def kernel(a: Any) -> Any:
        out = nl.ndarray(a.shape, dtype=a.dtype, buffer=nl.shared_hbm)
        tiles = nl.ndarray(
            (2, nl.par_dim(4), 8), dtype=a.dtype, buffer=ncc.sbuf.mod_alloc(base_addr=0, num_free_tiles=(1,))
        )
        for i in nl.affine_range(2):
            tiles[i] = nl.load(a[i])
            nl.store(out[i], tiles[i])
        return out

    a = values(2, 4, 8)
    assert np.array_equal(kernel(a), a)


REFUSED = {
    "nl.all_reduce is not run": lambda a: nl.all_reduce(nl.load(a), np.add, 0),
    "tensor_copy_dynamic_src is not run": lambda a: nisa.tensor_copy_dynamic_src(nl.load(a)),
    "not affine": lambda a: nisa.iota(nl.arange(8)[None, :] ** 2, dtype=nl.int32),
    "no affine expression": lambda a: nl.load(a[nl.arange(8)[:, None], nl.arange(8)[None, :] // 3]),
    "no single comparison": lambda a: nisa.affine_select(pred=True, on_true_tile=nl.load(a), on_false_value=0.0),
    "a tile as a Python condition": lambda a: bool(nl.load(a)),
    "mask= of nc_matmul": lambda a: nisa.nc_matmul(nl.load(a), nl.load(a), mask=nl.arange(4) < 2),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_does_not_run_says_what_to_write(what: str) -> None:
    kernel = nki.jit(REFUSED[what])
    with pytest.raises(NkiValidationError, match=what) as caught:
        kernel(values(8, 8))
    assert caught.value.rule == "beta1"
    assert "in NKI 0.3 and later: " in str(caught.value)
    assert caught.value.source is not None
    assert caught.value.source.file == __file__


def test_out_of_bounds_without_a_mask() -> None:
    @nki.jit
    def kernel(a: Any) -> None:
        nl.load(a[nl.arange(16)[:, None], nl.arange(8)[None, :]])

    with pytest.raises(NkiValidationError, match=r"index of dimension 0: '0 to 15'; expected 0 to 7"):
        kernel(values(8, 8))


def test_a_block_is_not_a_tile() -> None:
    @nki.jit
    def kernel(a: Any) -> None:
        tiles = nl.zeros((2, nl.par_dim(4), 8), dtype=a.dtype, buffer=nl.sbuf)
        nl.store(a, tiles)

    with pytest.raises(NkiValidationError, match="block dimensions"):
        kernel(values(8, 8))


def test_low_precision_as_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    """``NKI_PRECISE_FP=0``, which is how Beta 1 simulated: bfloat16 constants and tiles hold float32."""
    monkeypatch.setenv("NKI_PRECISE_FP", "0")

    @nki.jit
    def kernel(a: Any) -> Any:
        out = nl.ndarray(a.shape, dtype=a.dtype, buffer=nl.shared_hbm)
        identity = nl.load(nl.shared_identity_matrix(n=32, dtype=nl.bfloat16))
        tile = nl.copy(nl.load(a), dtype=nl.bfloat16)
        nl.store(out, nisa.nc_matmul(identity, tile))
        return out

    a = values(32, 16)
    assert np.array_equal(kernel(a), a)


def test_slices_may_end_outside_under_a_mask() -> None:
    @nki.jit
    def kernel(a: Any) -> Any:
        out = nl.ndarray(a.shape, dtype=a.dtype, buffer=nl.shared_hbm)
        for j in nl.affine_range(2):
            _, f = nl.mgrid[0:8, 0:8]
            tile = nl.load(a[0:8, j * 8 : (j + 1) * 8], mask=j * 8 + f < 11)
            nl.store(out[0:8, j * 8 : (j + 1) * 8], value=tile, mask=j * 8 + f < 11)
        return out

    a = values(8, 11)
    assert np.array_equal(kernel(a), a)
    with pytest.raises(NkiValidationError, match="mask= leaves the rest out"):
        nki.jit(lambda a: nl.store(a, nl.load(a[0:16, :])))(a)


def test_reduced_tiles_take_none_as_an_index() -> None:
    @nki.jit
    def kernel(a: Any) -> Any:
        tile = nl.load(a)
        out = nl.ndarray(a.shape, dtype=a.dtype, buffer=nl.shared_hbm)
        nl.store(out, tile / nl.sum(tile, axis=1)[:, None])
        return out

    a = np.abs(values(8, 16)) + 1
    np.testing.assert_allclose(kernel(a), a / a.sum(1, keepdims=True), rtol=1e-6)


def test_indexed_parts_have_shapes_of_their_own() -> None:
    @nki.jit
    def kernel(a: Any) -> Any:
        tile = nl.load(a)
        p, f = nl.mgrid[0:8, 0:12]
        out = nl.ndarray((8, 3, 4), dtype=a.dtype, buffer=nl.shared_hbm)
        nl.store(out, tile[p, f + 2].reshape((8, 3, 4)))
        return out

    a = values(8, 16)
    assert np.array_equal(kernel(a), a[:, 2:14].reshape(8, 3, 4))


def test_compiler_hints_change_nothing() -> None:
    @ncc.enable_stack_allocator(log_level=10)
    @ncc.skip_middle_end_transformations
    @nki.jit
    def kernel(a: Any) -> Any:
        out = nl.ndarray(a.shape, dtype=a.dtype, buffer=nl.shared_hbm)
        with ncc.no_reorder(), ncc.allocation_scope():
            nl.store(out, nl.load(a))
        return out

    a = values(4, 4)
    assert np.array_equal(kernel(a), a)


def test_more_dimensions_than_an_engine_walks_are_the_compilers_affair() -> None:
    """Every second element along five free dimensions: Beta 1's compiler made several instructions of such a tile."""

    @nki.jit
    def kernel(a: Any) -> Any:
        out = nl.ndarray((2, 2, 2, 2, 2, 2), dtype=a.dtype, buffer=nl.shared_hbm)
        tile = nl.load(a)
        nl.store(out, nl.copy(tile[:, 0:4:2, 0:4:2, 0:4:2, 0:4:2, 0:4:2]))
        return out

    a = values(2, 4, 4, 4, 4, 4)
    assert np.array_equal(kernel(a), a[:, ::2, ::2, ::2, ::2, ::2])
