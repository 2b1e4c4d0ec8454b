import ml_dtypes
import numpy as np
import pytest

from trainshed.chip.errors import NkiValidationError
from trainshed.chip.isa.move import memset, nc_stream_shuffle, tensor_copy, tensor_copy_predicated
from trainshed.chip.words import engine

ENGINES = [engine.vector, engine.scalar, engine.gpsimd, engine.unknown]


def random(shape, seed=0):
    return np.random.default_rng(seed).uniform(-4, 4, shape).astype(np.float32)


# --- tensor_copy --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("on", [engine.vector, engine.gpsimd, engine.unknown])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float8_e5m2", "int32", "uint32", "int8", "uint16", "bool_"])
def test_a_copy_of_one_dtype_is_bit_exact(core, tile, empty, values, dtype, on):
    dst = empty((16, 8), dtype)
    bits = np.random.default_rng(0).integers(0, 2, (16, 8 * dst.itemsize), np.uint8)
    bits = bits if dtype == "bool_" else bits * 201
    data = bits.view(dst.dtype.storage)
    record = tensor_copy(dst, tile(data, dtype), engine=on)
    assert values(dst).tobytes() == data.tobytes()
    assert record.engine is (engine.vector if on is engine.unknown else on)


def test_the_dtype_of_a_copy_is_that_of_its_destination(core, tile, empty, values):
    """NKI 0.2 took ``dtype=``; public kernels of that time still give it, even another than the destination's."""
    dst = empty((4, 4), "float32")
    tensor_copy(dst, tile(random((4, 4))), dtype="bfloat16")
    assert np.array_equal(values(dst), random((4, 4)))


def test_nan_payloads_survive_a_copy(core, tile, empty, values):
    data = np.uint16([[0x7FC1, 0xFF81, 0x8000]]).view(ml_dtypes.bfloat16)
    dst = empty((1, 3), "bfloat16")
    tensor_copy(dst, tile(data))
    assert values(dst).view(np.uint16).tolist() == [[0x7FC1, 0xFF81, 0x8000]]


@pytest.mark.parametrize("on", ENGINES)
def test_other_dtypes_pass_through_float32(core, tile, empty, values, on):
    whole = empty((1, 4), "uint8")
    tensor_copy(whole, tile(np.float32([[0.5, 1.5, 300, -7]])), engine=on)
    assert values(whole).tolist() == [[0, 2, 255, 0]]
    half = empty((1, 2), "bfloat16")
    tensor_copy(half, tile(np.int32([[257, 3]])), engine=on)
    assert values(half).astype(np.float32).tolist() == [[256, 3]]
    word = empty((1, 2), "uint32")
    tensor_copy(word, tile(np.int32([[2**24 + 1, -1]])), engine=on)
    assert values(word).tolist() == [[2**24, 0]]


def test_the_scalar_engine_takes_32_bit_integers_through_float32(core, tile, empty, values):
    data = tile(np.int32([[2**24 + 1, -5]]))
    dst = empty((1, 2), "int32")
    tensor_copy(dst, data, engine=engine.scalar)
    assert values(dst).tolist() == [[2**24, -5]]
    tensor_copy(dst, data)
    assert values(dst).tolist() == [[2**24 + 1, -5]]


def test_a_copy_may_change_the_free_shape_permute_and_repeat(core, tile, empty, values):
    data = random((8, 6))
    dst = empty((8, 3, 2))
    tensor_copy(dst.permute((0, 2, 1)), tile(data))
    assert np.array_equal(values(dst), data.reshape(8, 2, 3).transpose(0, 2, 1))
    tensor_copy(dst, tile(data[:, :1]).broadcast(1, 6))
    assert np.array_equal(values(dst), np.repeat(data[:, :1], 6, 1).reshape(8, 3, 2))


def test_a_copy_onto_itself_reads_before_it_writes(core, tile, values):
    data = random((4, 10))
    tensor = tile(data)
    tensor_copy(tensor[:, 1:10], tensor[:, 0:9])
    assert np.array_equal(values(tensor)[:, 1:], data[:, :9])


def test_packed_formats_are_copied_whole(core, tile, empty, values):
    data = np.uint32([[0xDEADBEEF, 1]])
    dst = empty((1, 2), "float8_e4m3fn_x4")
    tensor_copy(dst, tile(data, "float8_e4m3fn_x4"), engine=engine.scalar)
    assert np.array_equal(values(dst), data)
    with pytest.raises(NkiValidationError, match="packed"):
        tensor_copy(empty((1, 2), "float32"), dst)


def test_engines_of_a_copy(make_core, tile, empty):
    make_core("trn3")
    psum = tile(random((4, 4)), buffer="psum")
    assert tensor_copy(empty((4, 4)), psum).engine is engine.vector
    with pytest.raises(NkiValidationError, match="vector or scalar") as error:
        tensor_copy(empty((4, 4)), psum, engine=engine.gpsimd)
    assert error.value.rule == "engine"
    with pytest.raises(NkiValidationError, match="as many elements"):
        tensor_copy(empty((4, 5)), psum)
    make_core("trn1")
    with pytest.raises(NkiValidationError, match="vector or gpsimd"):
        tensor_copy(empty((4, 4)), tile(random((4, 4))), engine=engine.scalar)


# --- tensor_copy_predicated ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["uint8", "uint16", "uint32", "bool_"])
@pytest.mark.parametrize("reverse", [False, True])
def test_predicated_copies_where_the_predicate_holds(core, tile, values, kind, reverse):
    data, before = random((32, 3, 4)), random((32, 12), 1)
    predicate = np.random.default_rng(2).integers(0, 3, (32, 12)).astype(kind.rstrip("_"))
    dst = tile(before)
    tensor_copy_predicated(dst, tile(data, buffer="psum"), tile(predicate, kind), reverse_pred=reverse)
    mask = (predicate == 0) if reverse else (predicate != 0)
    assert np.array_equal(values(dst), np.where(mask, data.reshape(32, 12), before))


@pytest.mark.parametrize("dtype", ["bfloat16", "int16", "float32"])
def test_predicated_copies_a_scalar(core, tile, values, dtype):
    dst = tile(np.ones((2, 4)).astype(np.float32).astype(dtype if dtype != "bfloat16" else ml_dtypes.bfloat16))
    tensor_copy_predicated(dst, 7.0, tile(np.uint8([[1, 0, 0, 2], [0, 0, 0, 0]])))
    assert values(dst).astype(np.float32).tolist() == [[7, 1, 1, 7], [1, 1, 1, 1]]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "uint8"])
def test_what_a_predicate_leaves_out_stays_uninitialised(core, tile, empty, values, dtype):
    dst = empty((1, 4), dtype)
    tensor_copy_predicated(dst, 1.0, tile(np.uint8([[1, 0, 1, 1]])))
    assert values(dst[:, 2:4]).astype(np.float32).tolist() == [[1, 1]]
    with pytest.raises(NkiValidationError, match="never written: 1;"):
        values(dst)
    tensor_copy_predicated(dst, 2.0, tile(np.uint8([[0, 1, 0, 0]])))
    assert values(dst).astype(np.float32).tolist() == [[1, 2, 1, 1]]


def test_a_predicate_that_always_holds_initialises_everything(core, tile, empty, values):
    dst = empty((2, 4))
    tensor_copy_predicated(dst, 1.0, tile(np.ones((2, 4), np.uint8)))
    assert np.all(values(dst) == 1)


def test_predicated_refuses(core, tile):
    a, predicate = tile(random((4, 4))), np.ones((4, 4), np.uint8)
    for rule, arguments in {
        "dtype": (a, a, tile(predicate.astype(np.int32))),
        "shape": (a, a, tile(predicate[:, :2])),
        "both-psum": (a, tile(random((4, 4)), buffer="psum"), tile(predicate, buffer="psum")),
    }.items():
        with pytest.raises(NkiValidationError, match="tensor_copy_predicated") as error:
            tensor_copy_predicated(*arguments)
        assert error.value.rule == rule
    with pytest.raises(NkiValidationError, match="that of dst"):
        tensor_copy_predicated(a, tile(np.ones((4, 4), np.int32)), tile(predicate))


# --- nc_stream_shuffle --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int32", "uint8"])
@pytest.mark.parametrize("partitions", [32, 64, 128])
def test_a_shuffle_works_in_each_quadrant(core, tile, empty, values, dtype, partitions):
    data = np.random.default_rng(0).integers(0, 100, (partitions, 3, 2)).astype(np.float32)
    mask = np.random.default_rng(1).permutation(32)
    source = tile(data, dtype)
    dst = empty((partitions, 6), dtype, buffer="psum")
    record = nc_stream_shuffle(dst, source, list(mask))
    golden = data.reshape(-1, 32, 6)[:, mask].reshape(partitions, 6)
    assert np.array_equal(values(dst).astype(np.float32), golden)
    assert record.engine is engine.vector


def test_255_leaves_a_partition_as_it_is(core, tile, values):
    data = random((64, 5))
    tensor = tile(data)
    nc_stream_shuffle(tensor, tensor, [1, 0] + [255] * 30)
    golden = data.copy()
    golden[[0, 1, 32, 33]] = data[[1, 0, 33, 32]]
    assert np.array_equal(values(tensor), golden)


def test_255_does_not_initialise(core, tile, empty, values):
    dst = empty((32, 2))
    nc_stream_shuffle(dst, tile(random((32, 2))), [255] + [0] * 31)
    with pytest.raises(NkiValidationError, match="never written: 2;"):
        values(dst)


def test_one_partition_spreads_over_a_quadrant(core, tile, empty, values):
    row = random((1, 7))
    whole = empty((128, 7))
    source = tile(row)
    for quadrant in range(4):
        nc_stream_shuffle(whole[32 * quadrant : 32 * quadrant + 32], source, [0] * 32)
    assert np.array_equal(values(whole), np.repeat(row, 128, 0))


def test_a_shuffle_refuses(core, tile, empty):
    a = tile(random((64, 4)))
    identity = list(range(32))
    for rule, arguments in {
        "shuffle-mask": (a, a, identity[:31]),
        "shape": (a, tile(random((64, 3))), identity),
        "dtype": (a, tile(random((64, 4)), "bfloat16"), identity),
        "start-partition": (empty((128, 4))[64:128], empty((128, 4))[32:64], [0] * 32),
    }.items():
        with pytest.raises(NkiValidationError, match="nc_stream_shuffle") as error:
            nc_stream_shuffle(*arguments)
        assert error.value.rule == rule
    with pytest.raises(NkiValidationError, match="0 to 31, or 255"):
        nc_stream_shuffle(a, a, [32, *identity[1:]])
    with pytest.raises(NkiValidationError, match="partition the mask names: 1; expected below 1"):
        nc_stream_shuffle(empty((32, 4)), tile(random((1, 4))), identity)


@pytest.mark.parametrize("asked", [5, "vector", engine.tensor])
def test_engines_are_members_of_the_enumeration(core, tile, empty, asked):
    with pytest.raises(NkiValidationError, match=r"tensor_copy, engine: engine: .*; expected vector or"):
        tensor_copy(empty((1, 4), "float32"), tile(np.float32([[1, 2, 3, 4]])), engine=asked)


@pytest.mark.parametrize(("dtype", "value"), [("uint8", 300), ("uint8", -1), ("int16", 1e6), ("int32", np.nan)])
def test_memset_values_fit_an_integer_format(core, empty, dtype, value):
    with pytest.raises(NkiValidationError, match=f"memset, value: value for {dtype}: "):
        memset(empty((1, 4), dtype), value)


@pytest.mark.parametrize("value", [None, "one", [1, 2]])
@pytest.mark.parametrize("dtype", ["float32", "int32", "float8_e4m3fn_x4"])
def test_memset_takes_a_number(core, empty, dtype, value):
    with pytest.raises(NkiValidationError, match=r"memset, value: value: .*; expected a number"):
        memset(empty((1, 4), dtype), value)


def test_memset_of_truth(core, empty, values):
    flags = empty((1, 2), "bool_")
    memset(flags, True)
    np.testing.assert_array_equal(values(flags), [[True, True]])


def test_a_view_out_of_bounds_is_an_error_where_it_is_used_only(core, empty):
    """AWS's library makes the view first, and asks whether it may use it then."""
    tensor = empty((128, 8))
    beyond = tensor.ap([[8, 128], [2, 4]], offset=2)
    with pytest.raises(NkiValidationError, match="last column"):
        memset(beyond, 0)
    with pytest.raises(NkiValidationError, match="last column"):
        memset(beyond[0:32], 0)
