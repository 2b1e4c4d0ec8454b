import ml_dtypes
import numpy as np
import pytest

from trainshed.chip.errors import NkiValidationError
from trainshed.chip.isa.reduce import bn_aggr, bn_stats, tensor_reduce, tensor_scalar_reduce
from trainshed.chip.words import engine, reduce_cmd


def random(shape, seed=0, dtype=np.float32):
    return np.random.default_rng(seed).uniform(0.5, 2, shape).astype(np.float32).astype(dtype)


# --- tensor_reduce ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float32, ml_dtypes.bfloat16, np.float16, ml_dtypes.float8_e5m2, np.int32])
@pytest.mark.parametrize(
    ("op", "golden"), [("add", np.sum), (np.max, np.max), ("minimum", np.min), ("multiply", np.prod)]
)
def test_reductions_are_done_in_float32(core, tile, empty, values, dtype, op, golden):
    data = random((64, 20), dtype=dtype)
    dst = empty((64, 1))
    record = tensor_reduce(dst, op, tile(data), axis=1)
    assert np.allclose(values(dst), golden(data.astype(np.float64), axis=1, keepdims=True), rtol=1e-6)
    assert (record.engine, record.work["elements"]) == (engine.vector, 20)


@pytest.mark.parametrize("axis", [3, -1, (3,), (2, 3), [1, 2, 3], (-1, -2)])
@pytest.mark.parametrize("keepdims", [False, True])
@pytest.mark.parametrize("negate", [False, True])
def test_the_last_dimensions_are_reduced(core, tile, empty, values, axis, keepdims, negate):
    data = random((8, 2, 3, 5))
    axes = tuple(axis) if isinstance(axis, tuple | list) else (axis,)
    golden = data.max(axis=axes, keepdims=keepdims) * (-1 if negate else 1)
    dst = empty(golden.shape if golden.ndim > 1 else (8, 1))
    tensor_reduce(dst, np.max, tile(data), axis, negate=negate, keepdims=keepdims)
    assert np.array_equal(values(dst), golden.reshape(dst.shape))


def test_other_reductions(core, tile, empty, values):
    data = np.float32([[3, 0, 5], [1, 2, 4], [0, 0, 0]])
    dst = empty((3, 1))
    for op, golden in {
        "subtract": [-2, -5, 0], "logical_and": [0, 1, 0], "logical_or": [1, 1, 0], "logical_xor": [0, 1, 0],
    }.items():  # fmt: skip
        tensor_reduce(dst, op, tile(data), 1)
        assert values(dst)[:, 0].tolist() == golden


@pytest.mark.parametrize("op", [np.bitwise_and, np.bitwise_or, np.bitwise_xor])
@pytest.mark.parametrize("dtype", ["int8", "uint16", "int32"])
def test_bits_are_reduced_as_stored(core, tile, empty, values, op, dtype):
    data = np.random.default_rng(0).integers(-100, 100, (4, 3, 7)).astype(dtype)
    dst = empty((4, 1), dtype)
    tensor_reduce(dst, op, tile(data), (1, 2))
    assert np.array_equal(values(dst)[:, 0], op.reduce(data.reshape(4, -1), axis=1))


def test_a_permuted_view_reduces_another_dimension(core, tile, empty, values):
    data = random((16, 4, 6))
    dst = empty((16, 6), "bfloat16", buffer="psum")
    tensor_reduce(dst, "add", tile(data).permute((0, 2, 1)), axis=2)
    assert np.array_equal(values(dst), data.transpose(0, 2, 1).sum(axis=2).astype(ml_dtypes.bfloat16))


def test_tensor_reduce_refuses(core, tile, empty):
    data, dst = tile(random((4, 3, 5))), empty((4, 3))
    for axis in (1, 0, (0, 1, 2), ()):
        with pytest.raises(NkiValidationError, match=r"test_reduce.py:\d+: tensor_reduce, axis") as error:
            tensor_reduce(dst, "add", data, axis)
        assert error.value.rule == "reduce-axis"
    for rule, arguments in {
        "shape": (dst, "add", data, (1, 2)), "reduction": (dst, "equal", data, 2),
        "bitvec": (dst, "bitwise_or", data, 2),
    }.items():  # fmt: skip
        with pytest.raises(NkiValidationError, match="tensor_reduce") as error:
            tensor_reduce(*arguments)
        assert error.value.rule == rule
    words = tile(np.ones((4, 3), np.int32))
    with pytest.raises(NkiValidationError, match="negate"):
        tensor_reduce(empty((4, 1), "int32"), "bitwise_or", words, 1, negate=True)


# --- tensor_scalar_reduce -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("op", "golden"), [("add", np.sum), (np.multiply, np.prod), (np.max, np.max), (np.minimum, np.min)]
)
@pytest.mark.parametrize("negate", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_tensor_scalar_and_its_reduction(core, tile, empty, values, op, golden, negate, dtype):
    data, column = random((32, 3, 4)), random((32, 1), 1)
    dst, result = empty((32, 12), dtype), empty((32, 1))
    tensor_scalar_reduce(dst, tile(data), "multiply", tile(column), op, result, reduce_res_negate=negate)
    product = data * column[:, :, None]
    assert np.array_equal(values(dst).astype(np.float32), product.reshape(32, 12).astype(values(dst).dtype))
    expected = golden(product.astype(np.float64), axis=(1, 2))[:, None] * (-1 if negate else 1)
    assert np.allclose(values(result), expected, rtol=1e-6)


def test_a_chain_of_reductions_needs_the_result_at_its_end_only(core, tile, empty, values):
    parts = [random((128, 16), seed) for seed in range(3)]
    dst, result = empty((128, 16)), empty((128, 1))
    tensor_scalar_reduce(dst, tile(parts[0]), "add", 0.0, "add")
    tensor_scalar_reduce(dst, tile(parts[1]), "add", 0.0, "add", reduce_cmd=reduce_cmd.reduce)
    tensor_scalar_reduce(
        dst, tile(parts[2]), "add", 0.0, "add", result, reduce_cmd=reduce_cmd.reduce, reduce_res_negate=True
    )
    assert np.allclose(values(result)[:, 0], -sum(part.astype(np.float64).sum(1) for part in parts), rtol=1e-6)
    assert np.allclose(core.hidden.vector, -values(result)[:, 0])


def test_a_reduction_starts_from_what_is_loaded(core, tile, empty, values):
    data, start = random((8, 4)), random((8, 1), 1)
    dst, result = empty((8, 4)), empty((8, 1))
    options = {"reduce_cmd": reduce_cmd.load_reduce, "reduce_res": result}
    tensor_scalar_reduce(dst, tile(data), "abs", 0.0, "add", reduce_init=tile(start), **options)
    assert np.allclose(values(result), start + data.sum(1, keepdims=True))
    tensor_scalar_reduce(dst, tile(data), "abs", 0.0, "maximum", reduce_init=100.0, **options)
    assert np.all(values(result) == 100)


def test_tensor_scalar_reduce_refuses(core, tile, empty):
    a, words, result = tile(random((4, 8))), tile(np.ones((4, 8), np.int32)), empty((4, 1))
    load = reduce_cmd.load_reduce
    for rule, arguments, options in [
        ("operator-kinds", (words, words, "bitwise_or", 1, "add", result), {}),
        ("reduction", (a, a, "add", 1.0, "subtract", result), {}),
        ("reverse", (a, a, "add", 1.0, "add", result), {"reverse0": True}),
        ("shape", (a, a, "add", 1.0, "add", a), {}),
        ("reduce-cmd", (a, a, "add", 1.0, "add"), {"reduce_cmd": reduce_cmd.idle}),
        ("reduce-init", (a, a, "add", 1.0, "add"), {"reduce_cmd": load}),
        ("reduce-init", (a, a, "add", 1.0, "add"), {"reduce_init": 1.0}),
        ("dtype", (a, a, "add", 1.0, "add"), {"reduce_cmd": load, "reduce_init": words[:, 0:1]}),
    ]:
        with pytest.raises(NkiValidationError, match="tensor_scalar_reduce") as error:
            tensor_scalar_reduce(*arguments, **options)
        assert error.value.rule == rule


# --- bn_stats and bn_aggr -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 2, 3, 64, 511, 512])
@pytest.mark.parametrize("dtype", [np.float32, ml_dtypes.bfloat16, np.int16])
def test_statistics_of_even_and_odd_elements(core, tile, empty, values, count, dtype):
    data = (random((16, count)) * 9).astype(dtype)
    dst = empty((16, 6))
    bn_stats(dst, tile(data))
    golden = np.zeros((16, 6))
    for first in (0, 1):
        part = data.astype(np.float64)[:, first::2]
        if part.size:
            golden[:, 3 * first : 3 * first + 3] = np.stack(
                [np.full(16, part.shape[1]), part.mean(1), part.var(1) * part.shape[1]], 1
            )
    assert np.allclose(values(dst), golden, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("count", [1, 7, 128, 513, 1024])
def test_statistics_aggregate_to_mean_and_variance(core, tile, empty, values, count):
    data = random((32, count)) * 100
    tiles = -(-count // 512)
    stats, dst = empty((32, tiles, 6)), empty((32, 2))
    source = tile(data)
    for item in range(tiles):
        bn_stats(stats[:, item], source[:, 512 * item : min(512 * item + 512, count)])
    bn_aggr(dst, stats)
    assert np.allclose(values(dst)[:, 0], data.mean(1, dtype=np.float64), rtol=1e-5)
    assert np.allclose(values(dst)[:, 1], data.var(1, dtype=np.float64), rtol=1e-4, atol=1e-4)


def test_statistics_refuse(core, tile, empty):
    with pytest.raises(NkiValidationError, match="at most 512"):
        bn_stats(empty((4, 6)), tile(random((4, 513))))
    with pytest.raises(NkiValidationError, match=r"\(4, 6\)"):
        bn_stats(empty((4, 5)), tile(random((4, 8))))
    with pytest.raises(NkiValidationError, match="multiple of 3"):
        bn_aggr(empty((4, 2)), tile(random((4, 8))))
    with pytest.raises(NkiValidationError, match=r"\(4, 2\)"):
        bn_aggr(empty((4, 1)), tile(random((4, 6))))
