import ml_dtypes
import numpy as np
import pytest

from trainshed.chip.errors import NkiValidationError
from trainshed.chip.isa.reduce import tensor_scalar_reduce
from trainshed.chip.isa.scan import tensor_scalar_cumulative, tensor_tensor_scan
from trainshed.chip.words import engine, reduce_cmd

F32 = np.float32
OPS = {
    "add": lambda a, b: a + b, "subtract": lambda a, b: a - b, "multiply": lambda a, b: a * b, "maximum": max,
    "minimum": min, "greater": lambda a, b: F32(a > b),
}  # fmt: skip


def random(shape, seed=0):
    return np.random.default_rng(seed).uniform(-1.1, 1.1, shape).astype(np.float32)


def scan(first, second, left, right, state, reverse0=False, reverse1=False):
    """Element by element, in float32."""
    result = np.empty_like(left)
    for p in range(len(left)):
        last = F32(state[p])
        for i in range(left.shape[1]):
            inner = first(last, left[p, i]) if reverse0 else first(left[p, i], last)
            last = F32(second(right[p, i], inner) if reverse1 else second(inner, right[p, i]))
            result[p, i] = last
    return result


# --- tensor_tensor_scan -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("op1", ["add", "subtract", "maximum", "greater"])
@pytest.mark.parametrize("op0", ["multiply", "add", "subtract", "minimum"])
@pytest.mark.parametrize("reverse", [(False, False), (True, False), (False, True), (True, True)])
def test_a_scan_is_exact_step_by_step(core, tile, empty, values, op0, op1, reverse):
    left, right, start = random((5, 37)), random((5, 37), 1), random((5, 1), 2)
    dst = empty((5, 37))
    record = tensor_tensor_scan(dst, tile(left), tile(right), tile(start), op0, op1, *reverse)
    assert np.array_equal(values(dst), scan(OPS[op0], OPS[op1], left, right, start[:, 0], *reverse))
    assert (record.engine, record.work["elements"]) == (engine.vector, 37)


@pytest.mark.parametrize("op1", ["add", "maximum", "multiply", "subtract"])
def test_a_cumulative_sum_as_a_scan_with_ones(core, tile, empty, values, op1):
    right = random((3, 300))
    dst = empty((3, 300))
    tensor_tensor_scan(dst, tile(np.ones((3, 300), F32)), tile(right), 0.5, np.multiply, op1)
    golden = scan(OPS["multiply"], OPS[op1], np.ones_like(right), right, np.full(3, 0.5))
    assert np.array_equal(values(dst), golden)


def test_the_state_is_float32_between_low_precision_data(core, tile, empty, values):
    left, right = random((4, 64)).astype(ml_dtypes.bfloat16), random((4, 64), 1).astype(ml_dtypes.bfloat16)
    dst = empty((4, 8, 8), "bfloat16")
    tensor_tensor_scan(dst, tile(left), tile(right, buffer="psum"), 0, "multiply", "add")
    golden = scan(OPS["multiply"], OPS["add"], left.astype(F32), right.astype(F32), np.zeros(4))
    assert np.array_equal(values(dst).reshape(4, 64), golden.astype(ml_dtypes.bfloat16))


def test_a_scan_goes_on_from_the_last_state(core, tile, empty, values):
    left, right = random((4, 64)), random((4, 64), 1)
    whole, parts = empty((4, 64)), empty((4, 64))
    a, b = tile(left), tile(right)
    tensor_tensor_scan(whole, a, b, 0.0, "multiply", "add")
    tensor_tensor_scan(parts[:, 0:30], a[:, 0:30], b[:, 0:30], 0.0, "multiply", "add")
    tensor_tensor_scan(parts[:, 30:64], a[:, 30:64], b[:, 30:64], parts[:, 29:30], "multiply", "add")
    assert np.array_equal(values(whole), values(parts))


def test_a_scan_refuses(core, tile):
    a, psum, words = tile(random((4, 8))), tile(random((4, 8)), buffer="psum"), tile(np.ones((4, 8), np.int32))
    for rule, arguments in {
        "both-psum": (a, psum, psum, 0, "add", "add"), "shape": (a, a, a[:, 0:4], 0, "add", "add"),
        "operator-kinds": (words, words, words, 0, "bitwise_or", "add"), "operator": (a, a, a, 0, "abs", "add"),
    }.items():  # fmt: skip
        with pytest.raises(NkiValidationError, match=r"test_scan.py:\d+: tensor_tensor_scan") as error:
            tensor_tensor_scan(*arguments)
        assert error.value.rule == rule
    with pytest.raises(NkiValidationError, match=r"initial: shape.*\(4, 1\)"):
        tensor_tensor_scan(a, a, a, a[:, 0:2], "add", "add")


# --- tensor_scalar_cumulative -------------------------------------------------------------------------------------

START = {"add": 0, "subtract": 0, "multiply": 1, "maximum": -np.inf, "minimum": np.inf}


@pytest.mark.parametrize("op1", list(START))
@pytest.mark.parametrize("op0", ["add", "multiply", "maximum"])
@pytest.mark.parametrize("shape", [(1, 1), (128, 9), (5, 4, 3)])
def test_a_cumulative_reduction_from_the_identity(core, tile, empty, values, op0, op1, shape):
    data, column = random(shape), random((shape[0], 1), 1)
    dst = empty(shape)
    record = tensor_scalar_cumulative(dst, tile(data), op0, op1, tile(column))
    flat = data.reshape(shape[0], -1)
    inner = {"add": np.add, "multiply": np.multiply, "maximum": np.maximum}[op0](flat, column)
    golden = np.empty_like(inner)
    register = np.full(shape[0], START[op1], F32)
    for i in range(inner.shape[1]):
        register = {"maximum": np.maximum, "minimum": np.minimum}.get(op1, OPS[op1])(inner[:, i], register)
        golden[:, i] = register
    assert np.array_equal(values(dst).reshape(golden.shape), golden)
    assert np.array_equal(core.hidden.vector[: shape[0]], golden[:, -1])
    assert record.engine is engine.vector


def test_a_cumulative_reduction_goes_on_or_starts_from_what_is_loaded(core, tile, empty, values):
    ones = tile(np.ones((64, 4), F32))
    dst = empty((64, 4), "bfloat16")
    tensor_scalar_cumulative(dst, ones, "add", "add", 0.0)
    tensor_scalar_cumulative(dst, ones, "add", "add", 0.0, reduce_cmd=reduce_cmd.reduce)
    assert values(dst)[0].astype(F32).tolist() == [5, 6, 7, 8]
    tensor_scalar_cumulative(dst, ones, "multiply", "add", 2.0, 10.0, reduce_cmd=reduce_cmd.load_reduce)
    assert values(dst)[5].astype(F32).tolist() == [12, 14, 16, 18]
    start = tile(np.arange(64, dtype=F32)[:, None])
    tensor_scalar_cumulative(dst, ones, "add", "subtract", 0.0, start, reduce_cmd=reduce_cmd.load_reduce)
    assert values(dst)[5].astype(F32).tolist() == [-4, 5, -4, 5]


def test_instructions_share_the_registers(core, tile, empty, values):
    data = tile(random((32, 8)))
    dst, result = empty((32, 8)), empty((32, 1))
    tensor_scalar_cumulative(dst, data, "add", "add", 0.0)
    tensor_scalar_reduce(dst, data, "add", 0.0, "add", result, reduce_cmd=reduce_cmd.reduce)
    assert np.allclose(values(result), 2 * values(data).sum(1, keepdims=True), atol=1e-5)


def test_a_cumulative_reduction_refuses(core, tile, empty):
    a, words, dst = tile(random((4, 8))), tile(np.ones((4, 8), np.int32)), empty((4, 8))
    for rule, arguments, options in [
        ("reduction", (dst, a, "add", "logical_or", 0.0), {}),
        ("dtype", (dst, words, "add", "add", 0.0), {}),
        ("dtype", (empty((4, 8), "uint32"), a, "add", "add", 0.0), {}),
        ("operator-kinds", (dst, a, "bitwise_or", "add", 0.0), {}),
        ("shape", (dst[:, 0:4], a, "add", "add", 0.0), {}),
        ("reduce-cmd", (dst, a, "add", "add", 0.0), {"reduce_cmd": reduce_cmd.idle}),
        ("reduce-init", (dst, a, "add", "add", 0.0), {"reduce_cmd": reduce_cmd.load_reduce}),
        ("undefined-accumulator", (dst, a, "add", "add", 0.0), {"reduce_cmd": reduce_cmd.reduce}),
    ]:
        with pytest.raises(NkiValidationError, match="tensor_scalar_cumulative") as error:
            tensor_scalar_cumulative(*arguments, **options)
        assert error.value.rule == rule
