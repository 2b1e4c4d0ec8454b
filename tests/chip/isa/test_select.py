import ml_dtypes
import numpy as np
import pytest

from trainshed.chip.errors import NkiValidationError
from trainshed.chip.isa.reduce import tensor_scalar_reduce
from trainshed.chip.isa.select import FP32_MIN, affine_select, iota, range_select, select_reduce
from trainshed.chip.registers import VirtualRegister
from trainshed.chip.words import engine, reduce_cmd

F32 = np.float32
COMPARISONS = [np.equal, np.less, np.less_equal, np.greater, np.greater_equal]


def random(shape, seed=0):
    return np.random.default_rng(seed).uniform(-4, 4, shape).astype(np.float32)


def cast(values, dtype):
    with np.errstate(over="ignore"):
        return values.astype(dtype)


# --- range_select -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [F32, ml_dtypes.bfloat16, np.float16, ml_dtypes.float8_e5m2])
@pytest.mark.parametrize("shape", [(128, 64), (5, 4, 16)])
def test_elements_in_a_range_are_selected_and_their_maximum_found(core, tile, empty, values, dtype, shape):
    data = random(shape).astype(dtype)
    low = np.arange(shape[0], dtype=F32)[:, None] + 30
    high = low + 20
    dst, result = empty(shape, str(np.dtype(dtype))), empty((shape[0], 1))
    record = range_select(
        dst, tile(data, buffer="psum"), np.greater_equal, np.less, tile(low), tile(high),
        reduce_res=result, reduce_op=np.max, range_start=32,
    )  # fmt: skip
    index = 32 + np.arange(64, dtype=F32)
    golden = np.where((index >= low) & (index < high), data.astype(F32).reshape(shape[0], -1), F32(FP32_MIN))
    assert np.array_equal(values(dst), cast(golden, dtype).reshape(shape))
    assert np.array_equal(values(result), golden.max(1, keepdims=True))
    assert record.engine is engine.vector


@pytest.mark.parametrize("first", COMPARISONS)
@pytest.mark.parametrize("second", COMPARISONS)
def test_each_pair_of_comparisons(core, tile, empty, values, first, second):
    data, low, high = random((3, 9)), F32([[2], [4], [8]]), F32([[6], [4], [0]])
    dst = empty((3, 9))
    range_select(dst, tile(data), first, second, tile(low), tile(high))
    index = np.arange(9, dtype=F32)
    assert np.array_equal(values(dst), np.where(first(index, low) & second(index, high), data, F32(FP32_MIN)))


def test_a_chain_of_selections_keeps_the_maximum(core, tile, empty, values):
    parts = [random((8, 16), seed) for seed in range(3)]
    low, high = tile(np.zeros((8, 1), F32)), tile(np.full((8, 1), 40, F32))
    dst, result = empty((8, 16)), empty((8, 1), "bfloat16")
    for item, part in enumerate(parts):
        range_select(
            dst, tile(part), "greater_equal", "less", low, high, range_start=16 * item,
            reduce_cmd=reduce_cmd.reduce if item else reduce_cmd.reset_reduce, reduce_res=result if item == 2 else None,
        )  # fmt: skip
    golden = np.concatenate(parts, axis=1)[:, :40].max(1, keepdims=True)
    assert np.array_equal(values(result), golden.astype(ml_dtypes.bfloat16))


def test_range_select_refuses(make_core, tile, empty):
    make_core("trn3")
    data, bound, dst = tile(random((4, 8))), tile(np.zeros((4, 1), F32)), empty((4, 8))
    half, words = tile(np.zeros((4, 1), F32), "bfloat16"), tile(np.ones((4, 8), np.int32))
    good = {"on_true_tile": data, "comp_op0": "less", "comp_op1": "less", "bound0": bound, "bound1": bound}
    for rule, change in [
        ("comparison", {"comp_op0": "not_equal"}),
        ("dtype", {"bound1": half}),
        ("dtype", {"on_true_tile": words}),
        ("shape", {"bound0": data}),
        ("on-false-value", {"on_false_value": 0.0}),
        ("range", {"range_start": 2**24}),
        ("reduction", {"reduce_op": "add"}),
        ("reduce-cmd", {"reduce_cmd": reduce_cmd.load_reduce}),
        ("undefined-accumulator", {"reduce_cmd": reduce_cmd.reduce}),
    ]:
        with pytest.raises(NkiValidationError, match=r"test_select.py:\d+: range_select") as error:
            range_select(dst, **(good | change))
        assert error.value.rule == rule
    make_core("trn1")
    with pytest.raises(NkiValidationError, match="NeuronCore-v3"):
        range_select(dst, **good)


# --- select_reduce ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["int8", "uint8", "int16", "uint16", "bool_"])
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("vector", [False, True])
def test_a_selection_by_a_predicate_and_its_maximum(core, tile, empty, values, kind, reverse, vector):
    data, other = random((64, 3, 4)), random((64, 1), 1)
    predicate = np.random.default_rng(2).integers(0, 3, (64, 12)).astype(kind.rstrip("_"))
    dst, result = empty((64, 12), "bfloat16", buffer="psum"), empty((64, 1))
    record = select_reduce(
        dst, tile(predicate, kind), tile(data), tile(other) if vector else -9.5, result,
        reduce_cmd=reduce_cmd.reset_reduce, reduce_op=np.maximum, reverse_pred=reverse,
    )  # fmt: skip
    mask = (predicate == 0) if reverse else (predicate != 0)
    golden = np.where(mask, data.reshape(64, 12), other if vector else F32(-9.5))
    assert np.array_equal(values(dst), golden.astype(ml_dtypes.bfloat16))
    assert np.array_equal(values(result), golden.max(1, keepdims=True))
    assert record.engine is engine.vector


def test_a_selection_alone_leaves_the_registers_undefined(core, tile, empty, values):
    data, predicate, dst = random((4, 8)), np.uint8([[1, 0] * 4] * 4), empty((4, 8))
    select_reduce(dst, tile(predicate), tile(data), 0.0, reduce_cmd=reduce_cmd.reset_reduce)
    select_reduce(dst, tile(predicate), tile(data), FP32_MIN)
    assert np.array_equal(values(dst), np.where(predicate, data, F32(FP32_MIN)))
    with pytest.raises(NkiValidationError, match="undefined"):
        select_reduce(dst, tile(predicate), tile(data), 0.0, reduce_cmd=reduce_cmd.reduce)


def test_selections_share_the_registers_with_other_instructions(core, tile, empty, values):
    data, predicate, dst, result = random((4, 8)), np.zeros((4, 8), np.uint8), empty((4, 8)), empty((4, 1))
    tensor_scalar_reduce(dst, tile(data), "add", 0.0, "maximum")
    select_reduce(dst, tile(predicate), tile(data), FP32_MIN, result, reduce_cmd=reduce_cmd.reduce)
    assert np.array_equal(values(result), data.max(1, keepdims=True))


@pytest.mark.parametrize("dtype", [np.int16, np.uint8, ml_dtypes.float8_e4m3, np.float16])
def test_a_selection_of_other_dtypes(core, tile, empty, values, dtype):
    data = np.abs(random((4, 8))).astype(dtype)
    dst = empty((4, 8), str(np.dtype(dtype)))
    select_reduce(dst, tile(np.uint8([[1, 0] * 4] * 4)), tile(data), 2.0)
    assert np.array_equal(values(dst), np.where([1, 0] * 4, data, np.array(2, dtype)))


def test_select_reduce_refuses(core, tile, empty):
    data, dst, predicate = tile(random((4, 8))), empty((4, 8)), tile(np.ones((4, 8), np.uint8))
    words, result = tile(np.ones((4, 8), np.int32)), empty((4, 1))
    both = (tile(np.ones((4, 8), np.uint8), buffer="psum"), tile(random((4, 8)), buffer="psum"))
    for rule, arguments, options in [
        ("dtype", (dst, words, data, 0.0), {}),
        ("dtype", (dst, predicate, words, 0.0), {}),
        ("dtype", (dst, predicate, data, 0.0, empty((4, 1), "int32")), {"reduce_cmd": reduce_cmd.reset_reduce}),
        ("both-psum", (dst, *both, 0.0), {}),
        ("shape", (dst, predicate, data, data), {}),
        ("shape", (dst[:, 0:4], predicate, data, 0.0), {}),
        ("reduction", (dst, predicate, data, 0.0), {"reduce_op": "minimum"}),
        ("reduce-cmd", (dst, predicate, data, 0.0), {"reduce_cmd": reduce_cmd.load_reduce}),
        ("reduce-cmd", (dst, predicate, data, 0.0, result), {}),
    ]:
        with pytest.raises(NkiValidationError, match="select_reduce") as error:
            select_reduce(*arguments, **options)
        assert error.value.rule == rule


# --- iota and affine_select ---------------------------------------------------------------------------------------


def affine(partitions, pattern, offset, multiplier):
    """By loops, as the pseudocode has it."""
    pattern = [[0, 1]] * (4 - len(pattern)) + [list(pair) for pair in pattern]
    return np.array(
        [
            [
                offset + c * multiplier + w * pattern[0][0] + z * pattern[1][0] + y * pattern[2][0] + x * pattern[3][0]
                for w in range(pattern[0][1]) for z in range(pattern[1][1])
                for y in range(pattern[2][1]) for x in range(pattern[3][1])
            ]
            for c in range(partitions)
        ]
    )  # fmt: skip


PATTERNS = [
    [[1, 12]],
    [[-3, 12]],
    [[0, 12]],
    [[10, 3], [1, 4]],
    [[5, 2], [-7, 3], [2, 2]],
    [[1, 2], [3, 1], [9, 3], [4, 2]],
]


@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize("dtype", ["int32", "float32", "bfloat16", "int16"])
def test_iota_follows_its_pattern(core, empty, values, pattern, dtype):
    dst = empty((128, 12), dtype)
    record = iota(dst, pattern, offset=-5, channel_multiplier=2)
    golden = affine(128, pattern, -5, 2).astype(F32).astype(dst.dtype.storage)
    assert np.array_equal(values(dst), golden)
    assert record.engine is engine.gpsimd


def test_iota_computes_in_32_bits_and_takes_registers(core, empty, values):
    dst = empty((2, 3), "int32")
    iota(dst, [[1, 3]], offset=2**31 - 1)
    assert values(dst)[0].tolist() == [2**31 - 1, -(2**31), -(2**31) + 1]
    iota(empty((2, 1, 3), "int32"), ((1, 3),), offset=VirtualRegister(4))
    iota(dst, [[1, 3]], VirtualRegister(4), channel_multiplier=10)
    assert values(dst).tolist() == [[4, 5, 6], [14, 15, 16]]


def test_iota_refuses(core, empty):
    with pytest.raises(NkiValidationError, match="memory: 'psum'; expected sbuf"):
        iota(empty((4, 4), buffer="psum"), [[1, 4]])
    for pattern in ([[1, 5]], [[1, 1]] * 4 + [[1, 4]], []):
        with pytest.raises(NkiValidationError, match="iota, pattern") as error:
            iota(empty((4, 4)), pattern)
        assert error.value.rule == "pattern"


@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize("compare", [*COMPARISONS, np.not_equal])
def test_affine_select_compares_with_zero(core, tile, empty, values, pattern, compare):
    data = random((32, 12))
    dst = empty((32, 3, 4))
    record = affine_select(dst, pattern, 1, tile(data), FP32_MIN, compare, offset=-8)
    golden = np.where(compare(affine(32, pattern, -8, 1), 0), data, F32(FP32_MIN))
    assert np.array_equal(values(dst).reshape(32, 12), golden)
    assert record.engine is engine.gpsimd


def test_affine_select_makes_a_causal_mask_in_place_and_an_identity(core, tile, values):
    scores = random((128, 128))
    tensor = tile(scores)
    affine_select(tensor, [[-1, 128]], 1, tensor, FP32_MIN, cmp_op="greater_equal")
    assert np.array_equal(values(tensor), np.where(np.tri(128, dtype=bool), scores, F32(FP32_MIN)))
    identity = tile(np.ones((8, 8), ml_dtypes.bfloat16))
    affine_select(identity, [[-1, 8]], 1, identity, 0.0)
    assert np.array_equal(values(identity).astype(F32), np.eye(8))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int32", "uint8"])
@pytest.mark.parametrize("other", ["float32", "bfloat16", "int32", "uint8"])
def test_affine_select_of_other_dtypes(core, tile, empty, values, dtype, other):
    data = np.arange(12).reshape(2, 6).astype(F32)
    dst = empty((2, 6), other)
    affine_select(dst, [[1, 6]], 0, tile(data, dtype), 7.0, "less", offset=-3)
    assert values(dst).astype(F32).tolist() == [[0, 1, 2, 7, 7, 7], [6, 7, 8, 7, 7, 7]]


def test_affine_select_keeps_large_integers(core, tile, values):
    tensor = tile(np.int32([[2**24 + 1, 2**30 + 1]]))
    affine_select(tensor, [[1, 2]], 0, tensor, 0.0, "equal")
    assert values(tensor).tolist() == [[2**24 + 1, 0]]


def test_affine_select_refuses(core, tile, empty):
    data, dst = tile(random((4, 8))), empty((4, 8))
    for rule, arguments in {
        "memory": (dst, [[1, 8]], 0, tile(random((4, 8)), buffer="psum"), 0.0),
        "shape": (dst, [[1, 8]], 0, data[:, 0:4], 0.0),
        "pattern": (dst, [[1, 7]], 0, data, 0.0),
        "comparison": (dst, [[1, 8]], 0, data, 0.0, "add"),
    }.items():
        with pytest.raises(NkiValidationError, match="affine_select") as error:
            affine_select(*arguments)
        assert error.value.rule == rule
