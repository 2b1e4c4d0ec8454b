"""ScalarE's activations and VectorE's ``exponential``: values, accumulators, and what is refused."""

import ml_dtypes
import numpy as np
import pytest

from trainshed.chip.errors import NkiValidationError
from trainshed.chip.isa.scalar import activate2, activation, activation_reduce, exponential
from trainshed.chip.words import engine
from trainshed.chip.words import reduce_cmd as cmd
from trainshed.nki import language as nl

DTYPES = [
    np.float32, np.float16, ml_dtypes.bfloat16, ml_dtypes.float8_e5m2, ml_dtypes.float8_e4m3, np.int8, np.uint8,
    np.int16, np.uint16, np.int32,
]  # fmt: skip


def some(shape, dtype=np.float32, seed=0):
    return np.random.default_rng(seed).uniform(0.5, 3.5, shape).astype(np.float32).astype(dtype)


def rule(run):
    with pytest.raises(NkiValidationError) as caught:
        run()
    return caught.value.rule


# --- activation ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
def test_scale_and_bias_are_applied_in_float32(core, tile, empty, values, dtype):
    data, scale, bias = some((96, 20), dtype), some((96, 1), seed=1), some((96, 1), seed=2)
    dst = empty((96, 20))
    record = activation(dst, nl.square, tile(data), bias=tile(bias), scale=tile(scale))
    golden = (data.astype(np.float64) * scale + bias) ** 2
    assert np.allclose(values(dst), golden, rtol=1e-6)
    assert (record.engine, record.work["elements"]) == (engine.scalar, 20)
    activation(dst, "copy", tile(data), bias=-0.25, scale=0.5)
    assert np.array_equal(values(dst), data.astype(np.float32) * np.float32(0.5) - np.float32(0.25))


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16, ml_dtypes.float8_e5m2])
def test_results_are_rounded_once(core, tile, empty, values, dtype):
    data = some((32, 64))
    dst = empty((32, 64), np.dtype(dtype).name)
    activation(dst, "exp", tile(data))
    golden = np.exp(data.astype(np.float64)).astype(np.float32).astype(dtype)
    off = np.abs(values(dst).view(f"u{golden.itemsize}").astype(int) - golden.view(f"u{golden.itemsize}").astype(int))
    assert off.max() <= 1
    assert (off != 0).mean() < 0.01


@pytest.mark.parametrize("bias_dtype", [np.float32, ml_dtypes.bfloat16, np.float16, ml_dtypes.float8_e4m3, np.int32])
def test_a_bias_of_any_dtype(core, tile, empty, values, bias_dtype):
    data, bias, dst = some((8, 4)), some((8, 1), bias_dtype, 3), empty((8, 4))
    activation(dst, "copy", tile(data), bias=tile(bias))
    assert np.array_equal(values(dst), data + bias.astype(np.float32))


@pytest.mark.parametrize(("shape", "out"), [((128, 1), (128, 1)), ((1, 7), (1, 7)), ((4, 2, 3, 5), (4, 30)),
                                            ((64, 6), (64, 2, 3)), ((128, 513), (128, 513))])  # fmt: skip
@pytest.mark.parametrize("buffer", ["sbuf", "psum"])
def test_shapes(core, tile, empty, values, shape, out, buffer):
    data, dst, total = some(shape), empty(out, buffer=buffer), empty((shape[0], 1))
    activation(dst, "relu", tile(data), reduce_op=np.add, reduce_res=total, reduce_cmd=cmd.reset_reduce)
    assert np.array_equal(values(dst), data.reshape(out))
    assert np.allclose(values(total)[:, 0], data.reshape(shape[0], -1).sum(1, dtype=np.float64), rtol=1e-6)


def test_operands_in_place_and_strided(core, tile, values):
    data = some((16, 12))
    whole = tile(data)
    view = whole[:, 0:12:3]
    activation(view, "square", view)
    golden = data.copy()
    golden[:, ::3] **= 2
    assert np.array_equal(values(whole), golden)


# --- the reduction registers --------------------------------------------------------------------------------------


def run(tile, empty, values, data, command, res=True, op="add"):
    """One activation that copies ``data``; what ``reduce_res`` takes."""
    result = empty((len(data), 1)) if res else None
    activation(empty(data.shape), "copy", tile(data), reduce_op=op, reduce_res=result, reduce_cmd=command)
    return values(result)[:, 0].tolist() if res else None


def test_registers_last_from_instruction_to_instruction(core, tile, empty, values):
    data = np.float32([[1, 2, 3], [10, 20, 30]])
    assert run(tile, empty, values, data, cmd.reset_reduce) == [6, 60]
    assert run(tile, empty, values, data, cmd.reduce, res=False) is None
    assert run(tile, empty, values, 2 * data, cmd.idle) == [12, 120]
    assert run(tile, empty, values, data, cmd.reduce) == [18, 180]
    assert run(tile, empty, values, data, cmd.reset) == [0, 0]
    assert run(tile, empty, values, data, cmd.reduce) == [6, 60]
    assert run(tile, empty, values, data, cmd.reset_reduce) == [6, 60]


def test_registers_belong_to_partitions(core, tile, empty, values):
    result = empty((32, 1), address=(64, 0))
    high = tile(np.full((32, 2), 5, np.float32), address=(64, 8))
    run(tile, empty, values, np.ones((64, 4), np.float32), cmd.reset_reduce)
    activation(empty((32, 2), address=(64, 32)), "copy", high, reduce_op="add", reduce_res=result,
               reduce_cmd=cmd.reset_reduce)  # fmt: skip
    assert values(result)[:, 0].tolist() == [10] * 32
    assert run(tile, empty, values, np.ones((64, 4), np.float32), cmd.idle) == [4] * 64


def test_activate2_and_activation_share_their_registers(core, tile, empty, values):
    data = np.float32([[1, -2, 3]])
    run(tile, empty, values, data, cmd.reset_reduce)
    result = empty((1, 1))
    activate2(empty((1, 3)), "copy", tile(data), 2.0, 0.0, "multiply", "bypass", reduce_op="add", reduce_res=result,
              reduce_cmd=cmd.reduce)  # fmt: skip
    assert values(result).item() == 6


def test_activation_reduce_starts_from_zero_and_sums(core, tile, empty, values):
    data, dst, total = some((128, 3, 4)), empty((128, 3, 4), "bfloat16"), empty((128, 1))
    for _ in range(2):
        activation_reduce(dst, "exp", tile(data), nl.add, total, bias=-1.0, scale=0.5)
        golden = np.exp(data.astype(np.float64) * 0.5 - 1)
        assert np.allclose(values(dst).astype(np.float32), golden, rtol=2**-8)
        assert np.allclose(values(total)[:, 0], golden.sum((1, 2)), rtol=1e-6)
    activation_reduce(dst, "exp", tile(data), nl.add, None)
    assert np.allclose(run(tile, empty, values, data.reshape(128, 12), cmd.idle),
                       np.exp(data.astype(np.float64)).sum((1, 2)), rtol=1e-6)  # fmt: skip


def test_a_result_that_lies_in_dst_or_in_the_data(core, tile, values):
    data = some((16, 12))
    whole = tile(data)
    activation(whole, "copy", whole, reduce_op="add", reduce_res=whole[:, 5:6], reduce_cmd=cmd.reset_reduce)
    golden = data.copy()
    golden[:, 5] = data.sum(1, dtype=np.float64)
    assert np.allclose(values(whole), golden, rtol=1e-6)
    whole, total = tile(data), tile(np.zeros((16, 1), np.float32))
    activation_reduce(whole[:, 1:12], "copy", whole[:, 0:11], "add", total)
    assert np.array_equal(values(whole), np.concatenate((data[:, :1], data[:, :11]), axis=1))
    assert np.allclose(values(total)[:, 0], data[:, :11].sum(1, dtype=np.float64), rtol=1e-6)


# --- activate2 ----------------------------------------------------------------------------------------------------

PAIRS = {
    ("multiply", "add"): lambda x, a, b: x * a + b, ("multiply", "subtract"): lambda x, a, b: x * a - b,
    ("multiply", "bypass"): lambda x, a, b: x * a, ("add", "bypass"): lambda x, a, b: x + a,
    ("subtract", "bypass"): lambda x, a, b: x - a, ("bypass", "bypass"): lambda x, a, b: x,
}  # fmt: skip


@pytest.mark.parametrize("pair", PAIRS)
@pytest.mark.parametrize("columns", [False, True])
def test_six_pairs_of_operators(core, tile, empty, values, pair, columns):
    data, a, b, dst = some((64, 2, 5)), some((64, 1), seed=1), some((64, 1), seed=2), empty((64, 10))
    if not columns:
        a, b = np.full((64, 1), 1.5, np.float32), np.full((64, 1), -0.75, np.float32)
    given = (tile(a), tile(b)) if columns else (1.5, -0.75)
    activate2(dst, nl.tanh, tile(data), *given, *pair)
    flat = data.reshape(64, 10).astype(np.float64)
    assert np.allclose(values(dst), np.tanh(PAIRS[pair](flat, a, b)), atol=1e-6)


def test_reversed_operands(core, tile, empty, values):
    data, dst = some((8, 4)), empty((8, 4))
    activate2(dst, "copy", tile(data), 3.0, 0.0, "subtract", nl.bypass, reverse0=True)
    assert np.allclose(values(dst), 3 - data)
    activate2(dst, "copy", tile(data), 2.0, 7.0, "multiply", "subtract", reverse1=True)
    assert np.allclose(values(dst), 7 - 2 * data)


def test_prelu_takes_its_slope_from_relu_param(core, tile, empty, values):
    data, slope, dst = some((8, 4)) - 2, some((8, 1), seed=4), empty((8, 4))
    for given, golden in ((0.25, 0.25), (tile(slope), slope)):
        activate2(dst, nl.prelu, tile(data), 1.0, 0.0, "bypass", "bypass", relu_param=given)
        assert np.allclose(values(dst), np.where(data >= 0, data, golden * data))


@pytest.mark.parametrize(("op", "golden", "identity"), [
    ("add", lambda x: x.sum(1), 0), ("maximum", lambda x: x.max(1), -np.inf), ("minimum", lambda x: x.min(1), np.inf),
    ("abs_max", lambda x: x[np.arange(len(x)), abs(x).argmax(1)], 0),
    ("abs_min", lambda x: x[np.arange(len(x)), abs(x).argmin(1)], np.inf),
])  # fmt: skip
def test_reductions_of_activate2(core, tile, empty, values, op, golden, identity):
    data = np.random.default_rng(8).uniform(-4, 4, (2, 32, 6)).astype(np.float32)
    result = empty((32, 1))

    def step(part, command):
        activate2(empty((32, 6)), "copy", tile(part), 0.0, 0.0, "bypass", "bypass", reduce_op=op, reduce_res=result,
                  reduce_cmd=command)  # fmt: skip
        return values(result)[:, 0]

    assert np.allclose(step(data[0], cmd.reset_reduce), golden(data[0]), rtol=1e-6)
    assert np.allclose(step(data[1], cmd.reduce), golden(np.concatenate(data, 1)), rtol=1e-6, atol=1e-6)
    assert (step(data[0], cmd.reset) == identity).all()


# --- exponential --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [*DTYPES, np.uint32])
def test_exponential_less_a_maximum(core, tile, empty, values, dtype):
    data = some((64, 2, 9), dtype)
    most = data.reshape(64, -1).astype(np.float32).max(1, keepdims=True)
    dst = empty((64, 18))
    record = exponential(dst, tile(data), max_value=tile(most))
    assert np.allclose(values(dst), np.exp(data.reshape(64, 18).astype(np.float64) - most), rtol=1e-6)
    assert record.engine is engine.vector
    exponential(dst, tile(data), max_value=3.0)
    assert np.allclose(values(dst), np.exp(data.reshape(64, 18).astype(np.float64) - 3), rtol=1e-6)


def test_exponentials_are_summed_over_several_tiles(core, tile, empty, values):
    data, total = some((3, 32, 8)), empty((32, 1))
    powers = np.exp(data.astype(np.float64)).sum(2)
    commands = [(cmd.reset_reduce, {}, powers[0]), (cmd.reduce, {}, powers[0] + powers[1]),
                (cmd.load_reduce, {"reduce_init": 10.0}, powers[2] + 10)]  # fmt: skip
    for part, (command, more, golden) in zip(data, commands, strict=True):
        exponential(empty((32, 8)), tile(part), reduce_res=total, reduce_cmd=command, **more)
        assert np.allclose(values(total)[:, 0], golden, rtol=1e-6)
    start = some((32, 1), seed=9)
    exponential(empty((32, 8)), tile(data[0]), reduce_res=total, reduce_cmd=cmd.load_reduce, reduce_init=tile(start))
    assert np.allclose(values(total)[:, 0], powers[0] + start[:, 0], rtol=1e-6)


# --- what is refused ----------------------------------------------------------------------------------------------

ACTIVATION = {
    "reduce-cmd": {"reduce_cmd": cmd.load_reduce, "reduce_op": "add"},
    "reduction": {"reduce_cmd": cmd.reduce, "reduce_op": "maximum"},
}


@pytest.mark.parametrize("expected", ACTIVATION)
def test_reductions_that_activation_refuses(core, tile, empty, expected):
    assert rule(lambda: activation(empty((4, 4)), "exp", tile(some((4, 4))), **ACTIVATION[expected])) == expected


def test_a_reduction_needs_its_operator(core, tile, empty):
    assert rule(lambda: activation(empty((4, 4)), "exp", tile(some((4, 4))), reduce_cmd=cmd.reduce)) == "reduction"


@pytest.mark.parametrize(("expected", "more"), [
    ("shape", {"bias": (8, 1)}), ("shape", {"scale": (4, 2)}), ("shape", {"reduce_res": (4, 4)}),
    ("dtype", {"scale": (4, 1, "bfloat16")}), ("dtype", {"bias": (4, 1, "tfloat32")}),
])  # fmt: skip
def test_columns_that_activation_refuses(core, tile, empty, expected, more):
    operands = {}
    for name, (rows, columns, *dtype) in more.items():
        operands[name] = tile(np.ones((rows, columns), np.float32), *dtype)
    assert rule(lambda: activation(empty((4, 4)), "exp", tile(some((4, 4))), **operands)) == expected


def test_shapes_memories_and_functions_that_are_refused(core, tile, empty):
    data = tile(some((4, 4)))
    assert rule(lambda: activation(empty((4, 5)), "exp", data)) == "shape"
    assert rule(lambda: activation(empty((2, 8)), "exp", data)) == "shape"
    assert rule(lambda: activation(empty((4, 4), buffer="shared_hbm"), "exp", data)) == "memory"
    assert rule(lambda: activation(empty((4, 4)), nl.power, data)) == "operator"
    assert rule(lambda: activation(empty((4, 4)), None, data)) == "operator"
    assert rule(lambda: activation(empty((4, 4)), "exp", empty((4, 4)))) == "uninitialised-read"


def test_a_number_as_bias_needs_neuroncore_v3(make_core, tile, empty):
    make_core("trn1")
    data = tile(some((4, 4)))
    assert rule(lambda: activation(empty((4, 4)), "exp", data, bias=1.0)) == "generation"
    activation(empty((4, 4)), "exp", data, bias=tile(np.ones((4, 1), np.float32)), scale=2.0)
    make_core("trn2")
    assert activation(empty((4, 4)), "exp", tile(some((4, 4))), bias=1.0).opcode == "activation"


def test_reciprocal_takes_no_bias_on_neuroncore_v2(make_core, tile, empty):
    for chip in ("trn1", "trn2"):
        make_core(chip)
        data, bias = tile(some((4, 4))), tile(np.ones((4, 1), np.float32))
        activation(empty((4, 4)), "reciprocal", data)
        if chip == "trn1":
            assert rule(lambda: activation(empty((4, 4)), "reciprocal", data, bias=bias)) == "generation"  # noqa: B023
        else:
            activation(empty((4, 4)), "reciprocal", data, bias=bias)


@pytest.mark.parametrize("chip", ["trn1", "trn2"])
def test_activate2_and_exponential_need_neuroncore_v4(make_core, tile, empty, chip):
    make_core(chip)
    data, dst = tile(some((4, 4))), empty((4, 4))
    assert rule(lambda: activate2(dst, "exp", data, 1.0, 0.0, "multiply", "add")) == "generation"
    assert rule(lambda: exponential(dst, data)) == "generation"


def test_what_activate2_refuses(core, tile, empty):
    data, dst = tile(some((4, 4))), empty((4, 4))
    wide, narrow = tile(np.ones((4, 1), np.float32)), tile(np.ones((4, 1), np.float32), "bfloat16")

    def call(op0="multiply", op1="add", imm0=1.0, imm1=0.0, **more):
        return lambda: activate2(dst, "exp", data, imm0, imm1, op0, op1, **more)

    assert rule(call("add", "multiply")) == "operator"
    assert rule(call("bypass", "add")) == "operator"
    assert rule(call("bypass", "bypass", reverse0=True)) == "reverse"
    assert rule(call("multiply", "bypass", reverse1=True)) == "reverse"
    assert rule(call(imm0=wide, imm1=narrow)) == "dtype"
    assert rule(call(imm0=tile(np.ones((4, 2), np.float32)))) == "shape"
    assert rule(call(reduce_op="multiply", reduce_cmd=cmd.reduce)) == "reduction"
    assert rule(call(reduce_op="add", reduce_cmd=cmd.load_reduce)) == "reduce-cmd"


def test_what_exponential_refuses(core, tile, empty):
    data, dst, total = tile(some((4, 4))), empty((4, 4)), empty((4, 1))
    assert rule(lambda: exponential(dst, data, reduce_res=total)) == "reduce-cmd"
    assert rule(lambda: exponential(dst, data, reduce_cmd=cmd.reset)) == "reduce-cmd"
    assert rule(lambda: exponential(dst, data, reduce_res=total, reduce_cmd=cmd.reduce)) == "undefined-accumulator"
    assert rule(lambda: exponential(dst, data, reduce_cmd=cmd.reset_reduce, reduce_init=1.0)) == "reduce-init"
    assert rule(lambda: exponential(empty((4, 4), "uint32"), data)) == "dtype"
    assert rule(lambda: exponential(dst, tile(some((4, 4)), "tfloat32"))) == "dtype"
    assert rule(lambda: exponential(dst, data, max_value=tile(np.ones((4, 1), np.float32), "bfloat16"))) == "dtype"
    assert (
        rule(lambda: exponential(dst, data, reduce_res=empty((4, 1), "int32"), reduce_cmd=cmd.reset_reduce)) == "dtype"
    )
    assert rule(lambda: exponential(dst, data, max_value=tile(np.ones((4, 2), np.float32)))) == "shape"
