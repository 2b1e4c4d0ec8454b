import ml_dtypes
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from trainshed.chip.errors import NkiValidationError
from trainshed.chip.isa.vector import reciprocal, scalar_tensor_tensor, tensor_scalar, tensor_tensor
from trainshed.chip.words import engine

FLOATS = ["float32", "bfloat16", "float16", "float8_e4m3", "float8_e5m2"]
SHAPES = [(1, 1), (128, 512), (33, 7), (64, 3, 5)]


def random(shape, dtype="float32", seed=0):
    """Values around 1, in a format."""
    values = np.random.default_rng(seed).uniform(0.25, 4, shape).astype(np.float32)
    return values.astype(getattr(ml_dtypes, dtype, None) or np.dtype(dtype))


def stored(values, like):
    """Float32 results in the NumPy dtype of ``like``."""
    return np.asarray(values, np.float32).astype(like.dtype)


# --- tensor_tensor ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", FLOATS)
def test_tensor_tensor_computes_in_float32_and_rounds_once(core, tile, empty, values, shape, dtype):
    a, b = random(shape, dtype), random(shape, dtype, 1)
    dst = empty(shape, dtype)
    record = tensor_tensor(dst, tile(a), tile(b), op=np.multiply)
    assert np.array_equal(values(dst), stored(a.astype(np.float32) * b.astype(np.float32), a))
    assert (record.engine, record.work["elements"]) == (engine.vector, int(np.prod(shape[1:])))
    assert record.attributes["op"] == "multiply"


@pytest.mark.parametrize(
    ("op", "golden"),
    [
        ("add", np.add), ("subtract", np.subtract), ("maximum", np.maximum), ("minimum", np.minimum),
        ("equal", np.equal), ("not_equal", np.not_equal), ("greater", np.greater), ("greater_equal", np.greater_equal),
        ("less", np.less), ("less_equal", np.less_equal), ("logical_and", lambda a, b: (a != 0) & (b != 0)),
        ("logical_or", lambda a, b: (a != 0) | (b != 0)), ("logical_xor", lambda a, b: (a != 0) ^ (b != 0)),
        ("abs_max", lambda a, b: np.where(abs(a) > abs(b), a, b)),
        ("abs_min", lambda a, b: np.where(abs(a) < abs(b), a, b)),
    ],
)  # fmt: skip
def test_each_binary_operator(core, tile, empty, values, op, golden):
    a = np.float32([[0, 1, -2, 3.5, -0.0, np.inf]])
    b = np.float32([[0, -1, -2, 7, 1, 2]])
    dst = empty(a.shape)
    tensor_tensor(dst, tile(a), tile(b), op)
    assert np.array_equal(values(dst), golden(a, b).astype(np.float32))


def test_power_runs_on_gpsimd_and_not_on_psum(core, tile, empty, values):
    a, b = random((8, 4)), random((8, 4), seed=1)
    dst = empty((8, 4))
    assert tensor_tensor(dst, tile(a), tile(b), np.power).engine is engine.gpsimd
    assert np.allclose(values(dst), a.astype(np.float64) ** b, rtol=1e-6)
    with pytest.raises(NkiValidationError, match="psum") as error:
        tensor_tensor(dst, tile(a, buffer="psum"), tile(b), np.power)
    assert error.value.rule == "gpsimd-psum"


@pytest.mark.parametrize("dtype", ["int32", "uint32"])
def test_32_bit_integers_are_exact_on_gpsimd_and_float32_on_vector(core, tile, empty, values, dtype):
    a, b = np.array([[2**24 + 1, 12345, 2**31 - 1]], dtype), np.array([[1, 67891, 1]], dtype)
    dst = empty(a.shape, dtype)
    assert tensor_tensor(dst, tile(a), tile(b), "multiply").engine is engine.gpsimd
    assert np.array_equal(values(dst), a * b)
    assert tensor_tensor(dst, tile(a), tile(b), "add", engine=engine.vector).engine is engine.vector
    assert values(dst)[0, :2].tolist() == [2**24, 80236]
    tensor_tensor(dst, tile(a), tile(b), "greater")
    assert values(dst).tolist() == [[1, 0, 1]]


def test_32_bit_integers_in_psum_fall_back_to_vector(core, tile, empty):
    a = np.ones((4, 4), np.int32)
    assert tensor_tensor(empty((4, 4), "int32", buffer="psum"), tile(a), tile(a), "add").engine is engine.vector
    assert tensor_tensor(empty((4, 4), "float32"), tile(a), tile(a), "add").engine is engine.vector


def test_signs_count_where_int32_meets_uint32(core, tile, empty, values):
    dst = empty((1, 2), "int32")
    tensor_tensor(dst, tile(np.int32([[-1, 3]])), tile(np.uint32([[1, 2]])), "greater")
    assert values(dst).tolist() == [[0, 1]]
    tensor_tensor(dst, tile(np.int32([[-1, 3]])), tile(np.uint32([[1, 2]])), "add")
    assert values(dst).tolist() == [[0, 5]]


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16", "uint16", "int32", "uint32"])
@pytest.mark.parametrize("op", [np.bitwise_and, np.bitwise_or, np.bitwise_xor])
def test_bit_operators_see_integers_as_stored(core, tile, empty, values, dtype, op):
    info = np.iinfo(dtype)
    a = np.random.default_rng(0).integers(info.min, info.max, (16, 9), dtype, endpoint=True)
    b = np.random.default_rng(1).integers(info.min, info.max, (16, 9), dtype, endpoint=True)
    dst = empty(a.shape, dtype)
    assert tensor_tensor(dst, tile(a), tile(b), op).engine is engine.vector
    assert np.array_equal(values(dst), op(a, b))


def test_a_shift_right_is_logical_and_may_shift_everything_out(core, tile, empty, values):
    dst = empty((1, 3), "int32")
    tensor_tensor(dst, tile(np.int32([[-8, 16, 1]])), tile(np.int32([[1, 2, 32]])), "right_shift")
    assert values(dst).tolist() == [[0x7FFFFFFC, 4, 0]]
    tensor_tensor(dst, tile(np.int32([[-8, 16, 1]])), tile(np.int32([[1, 2, 32]])), "left_shift")
    assert values(dst).tolist() == [[-16, 64, 0]]


def test_operands_may_be_repeated_permuted_or_of_other_free_shapes(core, tile, empty, values):
    a, b = random((4, 6)), random((4, 2, 3), seed=1)
    dst = empty((4, 3, 2))
    tensor_tensor(dst, tile(a), tile(b), "add")
    assert np.array_equal(values(dst), (a + b.reshape(4, 6)).reshape(4, 3, 2))
    row = random((4, 1), seed=2)
    tensor_tensor(dst.permute((0, 2, 1)), tile(b), tile(row).broadcast(1, 6), "subtract")
    assert np.array_equal(values(dst), (b - row[:, :, None]).transpose(0, 2, 1))


def test_an_operand_may_be_overwritten_by_the_result(core, tile, values):
    a = random((4, 8))
    whole = tile(a)
    tensor_tensor(whole[:, 1:8], whole[:, 0:7], whole[:, 1:8], "add")
    assert np.array_equal(values(whole)[:, 1:], a[:, :7] + a[:, 1:])


def test_float32_results_in_integers_are_rounded_to_even_and_saturate(core, tile, empty, values):
    dst = empty((1, 5), "uint8")
    tensor_tensor(dst, tile(np.float32([[0.5, 1.5, 300, -4, 254.5]])), tile(np.zeros((1, 5), np.float32)), "add")
    assert values(dst).tolist() == [[0, 2, 255, 0, 254]]


def test_tensor_tensor_refuses(core, tile, empty):
    a, small = tile(random((4, 8))), tile(random((4, 4)))
    psum = tile(random((4, 8)), buffer="psum")
    for rule, arguments in {
        "both-psum": (a, psum, psum, "add"), "shape": (a, a, small, "add"), "operator": (a, a, a, "abs"),
        "bitvec": (a, a, a, "bitwise_and"), "operand": (a, a, 3.0, "add"), "engine": (a, a, a, "add", engine.scalar),
        "gpsimd-psum": (psum, a, a, "add", engine.gpsimd),
    }.items():  # fmt: skip
        with pytest.raises(NkiValidationError, match=r"test_vector.py:\d+: tensor_tensor") as error:
            tensor_tensor(*arguments)
        assert error.value.rule == rule
    with pytest.raises(NkiValidationError) as error:
        tensor_tensor(small, a, a, "add")
    assert error.value.rule == "shape"
    with pytest.raises(NkiValidationError) as error:
        tensor_tensor(a, a, empty((4, 8)), "add")
    assert error.value.rule == "uninitialised-read"


def test_nothing_is_computed_without_values_but_rules_hold_and_records_are_made(make_core, empty):
    core = make_core(values=False)
    a = empty((4, 8))
    tensor_tensor(a, a, a, "add")
    tensor_scalar(a, a, "add", 1.0)
    assert [record.opcode for record in core.instructions] == ["tensor_tensor", "tensor_scalar"]
    with pytest.raises(NkiValidationError, match="elements"):
        tensor_tensor(a, a, empty((4, 4)), "add")


# --- tensor_scalar ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("vector", [False, True])
def test_tensor_scalar_applies_two_operators_and_rounds_once(core, tile, empty, values, shape, dtype, vector):
    data, column = random(shape, dtype), random((shape[0], 1), seed=1)
    other = column if vector else np.float32(1.5)
    dst = empty(shape, dtype)
    tensor_scalar(dst, tile(data), np.multiply, tile(column) if vector else 1.5, op1=np.add, operand1=2.5)
    broadcast = other.reshape(-1, *(1,) * (len(shape) - 1)) if vector else other
    assert np.array_equal(values(dst), stored(data.astype(np.float32) * broadcast + np.float32(2.5), data))


def test_reversed_operators_take_the_operand_first(core, tile, empty, values):
    data = random((8, 4))
    dst = empty((8, 4))
    tensor_scalar(dst, tile(data), "subtract", 1.0, reverse0=True)
    assert np.array_equal(values(dst), np.float32(1) - data)
    tensor_scalar(dst, tile(data), "subtract", 1.0, op1="subtract", operand1=3.0, reverse1=True)
    assert np.array_equal(values(dst), np.float32(3) - (data - np.float32(1)))
    tensor_scalar(dst, tile(data), "less", 1.0, reverse0=True)
    assert np.array_equal(values(dst), (data > 1).astype(np.float32))


@pytest.mark.parametrize(
    ("op", "golden"),
    [
        ("abs", np.abs), ("square", np.square), ("relu", lambda x: np.maximum(x, 0)), ("reciprocal", lambda x: 1 / x),
        ("rsqrt", lambda x: 1 / np.sqrt(x)),
    ],
)  # fmt: skip
def test_unary_operators_need_no_operand(core, tile, empty, values, op, golden):
    data = np.float32([[4, 0.25, 9]]) * (1 if op == "rsqrt" else -1)
    dst = empty(data.shape)
    record = tensor_scalar(dst, tile(data), op, 0.0)
    assert np.allclose(values(dst), golden(data), rtol=1e-6)
    assert record.engine is (engine.gpsimd if op == "rsqrt" else engine.vector)
    tensor_scalar(dst, tile(data), "multiply", 2.0, op1=op)
    assert np.allclose(values(dst), golden(2 * data), rtol=1e-6)
    with pytest.raises(NkiValidationError, match="None or 0"):
        tensor_scalar(dst, tile(data), op, 1.0)


def test_bit_operators_of_tensor_scalar(core, tile, empty, values):
    data = np.int32([[0x12345678, -1, 7]])
    dst = empty(data.shape, "int32")
    record = tensor_scalar(dst, tile(data), np.right_shift, 8, op1=np.bitwise_and, operand1=0xFF)
    assert record.engine is engine.vector
    assert values(dst).tolist() == [[0x56, 0xFF, 0]]
    tensor_scalar(dst, tile(data), "bitwise_xor", tile(np.int32([[-1]])), op1="bitwise_or", operand1=1)
    assert values(dst).tolist() == [[~0x12345678 | 1, 1, ~7 | 1]]
    tensor_scalar(dst, tile(data), "invert", None)
    assert np.array_equal(values(dst), ~data)
    tensor_scalar(dst, tile(np.int32([[1, 2, 3]])), "left_shift", 4, reverse0=True)
    assert values(dst).tolist() == [[8, 16, 32]]
    short = empty((1, 3), "uint16")
    tensor_scalar(short, tile(data), "bitwise_and", 0xFFFF)
    assert values(short).tolist() == [[0x5678, 0xFFFF, 7]]


def test_address_arithmetic_on_32_bit_integers_is_exact(core, tile, empty, values):
    data = np.int32([[2**24 + 1, -5, 2**31 - 1]])
    dst = empty(data.shape, "int32")
    record = tensor_scalar(dst, tile(data), "multiply", 3, op1="add", operand1=tile(np.int32([[1]])))
    assert record.engine is engine.gpsimd
    assert values(dst)[0].tolist() == [3 * 2**24 + 4, -14, (3 * (2**31 - 1) + 1 + 2**31) % 2**32 - 2**31]
    assert tensor_scalar(dst, tile(data), "add", 3, engine=engine.vector).engine is engine.vector
    assert values(dst)[0, 0] == int(np.float32(np.float32(2**24 + 1) + np.float32(3)))
    assert tensor_scalar(dst, tile(data), "add", 3.0).engine is engine.vector
    assert tensor_scalar(dst, tile(data), "subtract", 3).engine is engine.vector


@pytest.mark.parametrize(
    ("chip", "pair", "good"),
    [
        ("trn2", ("multiply", "add"), True), ("trn2", ("multiply", None), True), ("trn2", ("add", None), True),
        ("trn2", ("add", "multiply"), False), ("trn2", ("maximum", None), False), ("trn3", ("maximum", None), True),
        ("trn1", ("multiply", "add"), False),
    ],
)  # fmt: skip
def test_scalar_engine_knows_three_pairs_on_trn2(make_core, tile, chip, pair, good):
    make_core(chip)
    data = tile(random((4, 4)))
    arguments = {"op0": pair[0], "operand0": 2.0, "op1": pair[1], "operand1": 1.0 if pair[1] else None}
    if good:
        assert tensor_scalar(data, data, engine=engine.scalar, **arguments).engine is engine.scalar
    else:
        with pytest.raises(NkiValidationError) as error:
            tensor_scalar(data, data, engine=engine.scalar, **arguments)
        assert error.value.rule == "engine"
    assert tensor_scalar(data, data, **arguments).engine is engine.vector


def test_rsqrt_of_psum_goes_to_the_scalar_engine(make_core, tile, values):
    make_core("trn3")
    data = tile(np.float32([[4.0, 16.0]]), buffer="psum")
    assert tensor_scalar(data, data, "rsqrt", None).engine is engine.scalar
    assert values(data).tolist() == [[0.5, 0.25]]
    make_core("trn2")
    data = tile(np.float32([[4.0, 16.0]]), buffer="psum")
    with pytest.raises(NkiValidationError) as error:
        tensor_scalar(data, data, "rsqrt", None)
    assert error.value.rule == "gpsimd-psum"


def test_tensor_scalar_refuses(core, tile, empty):
    a, words = tile(random((4, 8))), tile(np.ones((4, 8), np.int32))
    wide, row = tile(random((4, 2))), tile(random((2, 1)))
    for rule, arguments in {
        "operator-kinds": (words, words, "bitwise_and", 1, False, "add", 1.0),
        "bitvec": (a, a, "bitwise_and", 1),
        "shape": (a, a, "add", wide),
        "operand": (a, a, "add", None),
        "engine": (a, a, "power", 2.0, False, "abs_max", 1.0),
        "operator": (a, a, "arctan", 1.0),
    }.items():
        with pytest.raises(NkiValidationError, match=r"test_vector.py:\d+: tensor_scalar") as error:
            tensor_scalar(*arguments)
        assert error.value.rule == rule
    for arguments in ({"operand0": row}, {"operand0": 1.0, "operand1": 2.0}):
        with pytest.raises(NkiValidationError, match="operand"):
            tensor_scalar(a, a, "add", **arguments)
    with pytest.raises(NkiValidationError, match="bit vectors"):
        tensor_scalar(words, words, "bitwise_and", 1.5)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=30)
@given(st.lists(st.integers(-(2**31), 2**31 - 1), min_size=1, max_size=8), st.integers(0, 31))
def test_shifting_left_and_right_keeps_the_low_bits(core, tile, values, words, amount):
    data = tile(np.array([words], np.int32))
    tensor_scalar(data, data, "left_shift", amount, op1="right_shift", operand1=amount)
    assert values(data)[0].tolist() == [
        int(np.int32(np.uint32((word << amount & 0xFFFFFFFF) >> amount).view(np.int32))) for word in words
    ]


# --- scalar_tensor_tensor and reciprocal --------------------------------------------------------------------------


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", FLOATS)
def test_scalar_tensor_tensor(core, tile, empty, values, shape, dtype):
    data, other, column = random(shape, dtype), random(shape, seed=1), random((shape[0], 1), seed=2)
    dst = empty(shape, dtype)
    tensors = {"data": tile(data), "operand1": tile(other, buffer="psum")}
    record = scalar_tensor_tensor(dst, op0="subtract", operand0=tile(column), op1=np.multiply, **tensors)
    inner = data.astype(np.float32) - column.reshape(-1, *(1,) * (len(shape) - 1))
    assert np.array_equal(values(dst), stored(inner * other, data))
    assert record.engine is engine.vector
    scalar_tensor_tensor(dst, op0="subtract", operand0=2.0, op1="subtract", reverse0=True, reverse1=True, **tensors)
    assert np.array_equal(values(dst), stored(other - (np.float32(2) - data.astype(np.float32)), data))


def test_scalar_tensor_tensor_accumulates_in_place_and_takes_other_shapes(core, tile, values):
    data, total = random((4, 6)), random((4, 2, 3), seed=1)
    accumulator = tile(total)
    scalar_tensor_tensor(accumulator, tile(data), "multiply", 0.5, "add", accumulator)
    assert np.array_equal(values(accumulator), total + np.float32(0.5) * data.reshape(4, 2, 3))


def test_scalar_tensor_tensor_refuses(core, tile):
    a, psum, words = tile(random((4, 8))), tile(random((4, 8)), buffer="psum"), tile(np.ones((4, 8), np.int32))
    for rule, arguments in {
        "both-psum": (a, psum, "add", 1.0, "add", psum),
        "operator-kinds": (words, words, "bitwise_or", 1, "add", words),
        "shape": (a, a, "add", 1.0, "add", a[:, 0:4]), "operator": (a, a, "add", 1.0, "abs", a),
    }.items():  # fmt: skip
        with pytest.raises(NkiValidationError, match="scalar_tensor_tensor") as error:
            scalar_tensor_tensor(*arguments)
        assert error.value.rule == rule


@pytest.mark.parametrize("dtype", FLOATS)
def test_reciprocal(core, tile, empty, values, dtype):
    data = random((32, 5), dtype)
    dst = empty((32, 5), dtype, buffer="psum")
    assert reciprocal(dst, tile(data)).engine is engine.vector
    assert np.array_equal(values(dst), stored(np.float32(1) / data.astype(np.float32), data))
    reciprocal(dst, tile(np.zeros((32, 5), np.float32)))
    assert np.all(np.isinf(values(dst).astype(np.float32)) | np.isnan(values(dst).astype(np.float32)))
    with pytest.raises(NkiValidationError, match="as many elements"):
        reciprocal(dst, tile(random((32, 4))))


def test_an_integer_index_gives_a_column(core, tile, values):
    data = random((8, 4))
    whole = tile(data)
    column = whole[:, 1]
    assert column.shape == (8, 1)
    tensor_scalar(column, column, "multiply", whole[:, 2], op1="add", operand1=whole[:, 3:4])
    assert np.array_equal(values(whole)[:, 1], data[:, 1] * data[:, 2] + data[:, 3])
    tensor_tensor(whole[:, 0], whole[:, 0:1], column, "add")
    assert np.array_equal(values(whole)[:, 0], data[:, 0] + values(whole)[:, 1])
    scalar_tensor_tensor(column, whole[:, 0:1], "subtract", whole[:, 2], "add", whole[:, 3])
    assert np.array_equal(values(whole)[:, 1], values(whole)[:, 0] - data[:, 2] + data[:, 3])


def test_an_operand_that_the_result_overwrites_is_read_before(core, tile, values):
    data = random((8, 2))
    whole = tile(data)
    tensor_scalar(whole[:, 0:1], whole[:, 1:2], "add", 1.0, op1="multiply", operand1=whole[:, 0:1])
    assert np.array_equal(values(whole)[:, 0], (data[:, 1] + np.float32(1)) * data[:, 0])
