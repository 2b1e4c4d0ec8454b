"""``dma_copy``, ``dma_transpose``, ``dma_compute`` against NumPy, and their rules."""

import math

import ml_dtypes
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from trainshed.chip.call import Call
from trainshed.chip.core import NeuronCore, Options, enter, target
from trainshed.chip.errors import NkiValidationError
from trainshed.chip.isa.dma import dma_copy, dma_transpose, runs
from trainshed.chip.words import MemoryRegion, dge_mode, engine, oob_mode
from trainshed.numerics.formats import DType

HBM = "private_hbm"
ALL_ONES = 0xFFFFFFFF


def counted(*shape, dtype=np.float32):
    return np.arange(math.prod(shape)).reshape(shape).astype(dtype)


# --- plain copies ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("source", ["sbuf", HBM])
@pytest.mark.parametrize("destination", ["sbuf", HBM])
@pytest.mark.parametrize("kind", ["float32", "bfloat16", "int32", "uint8", "float8_e4m3fn_x4"])
def test_same_dtype_is_copied_bit_by_bit(core, tile, empty, values, source, destination, kind):
    bits = np.random.default_rng(3).integers(0, 256, (48, 7 * DType(kind).itemsize), np.uint8)
    stored = bits.view(DType(kind).storage)
    src, dst = tile(stored, kind, source), empty((48, 7), kind, destination)
    dma_copy(dst, src)
    assert values(dst).tobytes() == stored.tobytes()


@pytest.mark.parametrize(
    ("before", "after"),
    [("float32", "bfloat16"), ("bfloat16", "float32"), ("float32", "int32"), ("int32", "float32"),
     ("float32", "float8_e4m3"), ("uint8", "float16"), ("float16", "int8")],
)  # fmt: skip
def test_other_dtypes_are_cast_by_way_of_float32(core, tile, empty, values, before, after):
    numbers = np.asarray([[0, 1, 2.5, 3.5, 100, 127]], np.float32).astype(DType(before).storage)
    src, dst = tile(numbers, before, HBM), empty((1, 6), after)
    dma_copy(dst, src)
    wide = numbers.astype(np.float32)
    if DType(after).is_integer:
        wide = np.rint(wide)
    np.testing.assert_array_equal(values(dst), wide.astype(DType(after).storage))


def test_an_integer_above_2_to_24_survives_only_without_a_cast(core, tile, empty, values):
    src = tile(np.asarray([[2**24 + 1]], np.int32), buffer=HBM)
    same, cast = empty((1, 1), "int32"), empty((1, 1), "uint32")
    dma_copy(same, src)
    dma_copy(cast, src)
    assert (values(same)[0, 0], values(cast)[0, 0]) == (2**24 + 1, 2**24)


def test_elements_follow_row_major_order_of_both_views(core, tile, empty, values):
    src, dst = tile(counted(6, 4, 5), buffer=HBM), empty((4, 30))
    dma_copy(dst, src.permute([1, 0, 2]))
    np.testing.assert_array_equal(values(dst), counted(6, 4, 5).transpose(1, 0, 2).reshape(4, 30))


def test_a_source_may_be_broadcast(core, tile, empty, values):
    src, dst = tile(counted(1, 5), buffer=HBM), empty((64, 5))
    dma_copy(dst, src.ap([[0, 64], [1, 5]]))
    np.testing.assert_array_equal(values(dst), np.broadcast_to(counted(1, 5), (64, 5)))


def test_any_start_partition(core, tile, empty, values):
    dst = tile(np.zeros((128, 3), np.float32))
    dma_copy(dst[37:40], tile(counted(3, 3), buffer=HBM))
    expected = np.zeros((128, 3), np.float32)
    expected[37:40] = counted(3, 3)
    np.testing.assert_array_equal(values(dst), expected)


def test_source_and_destination_may_overlap(core, tile, values):
    tensor = tile(counted(1, 8), buffer=HBM)
    dma_copy(tensor[:, 1:8], tensor[:, 0:7])
    np.testing.assert_array_equal(values(tensor), [[0, 0, 1, 2, 3, 4, 5, 6]])


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_strided_views_agree_with_numpy(data):
    core = NeuronCore(target("trn3"), Options())
    enter(core)
    shape = data.draw(st.tuples(st.integers(1, 9), st.integers(1, 9), st.integers(1, 9)))
    cuts = tuple(
        slice(a, data.draw(st.integers(a + 1, n)), data.draw(st.integers(1, 3)))
        for n in shape
        for a in [data.draw(st.integers(0, n - 1))]
    )
    numbers = counted(*shape, dtype=np.int32)
    src = core.allocate(shape, DType("int32"), MemoryRegion.private_hbm, data=numbers.copy())
    wanted = numbers[cuts]
    dst = core.allocate(wanted.shape, DType("int32"), MemoryRegion.sbuf)
    dma_copy(dst, src[cuts])
    np.testing.assert_array_equal(Call("test").read("dst", dst), wanted)
    enter(None)


def test_a_record_tells_what_a_dma_moves(core, tile, empty):
    src, dst = tile(counted(32, 64, dtype=np.float32), buffer=HBM), empty((32, 16), "bfloat16")
    record = dma_copy(dst, src[:, 0:16], dge_mode=dge_mode.swdge, priority=2)
    assert record.engine is engine.dma
    assert record.attributes["dge_mode"] == "swdge"
    assert record.attributes["priority"] == 2
    assert record.work == {
        "bytes": 32 * 16 * 2, "descriptors": 32, "descriptor_bytes": 32, "hbm_read": 32 * 16 * 4, "hbm_write": 0,
    }  # fmt: skip


def test_runs_end_where_bytes_do_not_follow_each_other(core, tile):
    near, far = tile(counted(8, 6, 4)), tile(counted(8, 6, 4), buffer=HBM)
    index = tile(np.zeros((8, 1), np.int32))
    assert runs(far) == (1, 8 * 6 * 4 * 4)
    assert runs(near) == (8, 6 * 4 * 4)
    assert runs(far[:, 0:3]) == (8, 3 * 4 * 4)
    assert runs(far.permute([2, 0, 1])) == (192, 4)
    assert runs(far.ap([[24, 8], [1, 24]], vector_offset=index)) == (8, 24 * 4)


# --- rules of dma_copy ----------------------------------------------------------------------------------------


def rule(error):
    return error.value.rule


def test_psum_is_out_of_reach(core, tile, empty):
    copies = ("sbuf", "psum"), ("psum", "sbuf")
    for destination, source in copies:
        dst, src = empty((4, 4), buffer=destination), tile(counted(4, 4), buffer=source)
        with pytest.raises(NkiValidationError, match="tensor_copy first") as error:
            dma_copy(dst, src)
        assert rule(error) == "memory"


@pytest.mark.parametrize(
    ("options", "broken"),
    [
        ({"priority": 4}, "priority"),
        ({"engine": engine.sync}, "dge-mode"),
        ({"engine": engine.vector, "dge_mode": dge_mode.hwdge}, "engine"),
        ({"dge_mode": "hwdge"}, "dge-mode"),
        ({"oob_mode": "skip"}, "oob-mode"),
    ],
)
def test_options_of_a_copy(core, tile, empty, options, broken):
    with pytest.raises(NkiValidationError) as error:
        dma_copy(empty((4, 4)), tile(counted(4, 4)), **options)
    assert rule(error) == broken


def test_modes_may_be_numbers(core, tile, empty):
    assert dma_copy(empty((4, 4)), tile(counted(4, 4)), dge_mode=3, oob_mode=0).attributes["dge_mode"] == "none"
    for options in ({"dge_mode": 4}, {"oob_mode": True}):
        with pytest.raises(NkiValidationError):
            dma_copy(empty((4, 4)), tile(counted(4, 4)), **options)


def test_generations_of_a_copy(make_core, tile, empty):
    make_core("trn1")
    with pytest.raises(NkiValidationError, match="NeuronCore-v3 or newer"):
        dma_copy(empty((4, 4)), tile(counted(4, 4)), dge_mode=dge_mode.hwdge)
    make_core("trn2")
    dma_copy(empty((4, 4)), tile(counted(4, 4)), dge_mode=dge_mode.hwdge, engine=engine.scalar)
    with pytest.raises(NkiValidationError, match="NeuronCore-v4"):
        dma_copy(empty((4, 4)), tile(counted(4, 4)), priority=0)


def test_elements_and_dtypes_must_agree(core, tile, empty):
    with pytest.raises(NkiValidationError) as error:
        dma_copy(empty((4, 5)), tile(counted(4, 4)))
    assert rule(error) == "shape"
    with pytest.raises(NkiValidationError) as error:
        dma_copy(empty((4, 4), "bfloat16"), tile(counted(4, 4)), dge_mode=dge_mode.hwdge)
    assert rule(error) == "hwdge-dtype"
    with pytest.raises(NkiValidationError) as error:
        dma_copy(empty((4, 4)), tile(counted(4, 4, dtype=np.uint32), "float8_e5m2_x4"))
    assert rule(error) == "dtype"


def test_a_source_must_have_been_written(core, empty):
    with pytest.raises(NkiValidationError) as error:
        dma_copy(empty((4, 4)), empty((4, 4), buffer=HBM))
    assert rule(error) == "uninitialised-read"


# --- transposes -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shape", "axes"), [((5, 9), (1, 0)), ((3, 4, 5), (2, 1, 0)), ((2, 3, 4, 5), (3, 1, 2, 0)), ((16, 128), None)]
)
@pytest.mark.parametrize("buffer", ["sbuf", HBM])
def test_transposes(core, tile, empty, values, shape, axes, buffer):
    numbers = counted(*shape, dtype=ml_dtypes.bfloat16)
    order = {2: (1, 0), 3: (2, 1, 0), 4: (3, 1, 2, 0)}[len(shape)]
    dst = empty(tuple(shape[a] for a in order), "bfloat16")
    record = dma_transpose(dst, tile(numbers, buffer=buffer), axes=axes)
    np.testing.assert_array_equal(values(dst), numbers.transpose(order))
    assert record.attributes["transpose"] == order


@pytest.mark.parametrize("columns", [1, 2])
def test_a_gathering_transpose_takes_indices_column_by_column(core, tile, empty, values, columns):
    numbers = counted(200, 64, dtype=np.float16)
    index = np.random.default_rng(0).integers(0, 200, (128, columns))
    rows = 128 * columns
    src = tile(numbers, buffer=HBM).ap([[64, rows], [1, 64]], vector_offset=tile(index.astype(np.uint32)))
    dst = empty((64, rows), "float16")
    dma_transpose(dst, src, axes=(1, 0))
    np.testing.assert_array_equal(values(dst), numbers[index.T.reshape(-1)].T)


def test_a_gathering_transpose_skips_columns(core, tile, values):
    numbers, index = counted(20, 8, dtype=np.float16), np.arange(16).reshape(16, 1).astype(np.uint32)
    index[3] = ALL_ONES
    src = tile(numbers, buffer=HBM).ap([[8, 16], [1, 8]], vector_offset=tile(index))
    dst = tile(np.full((8, 16), -1, np.float16))
    dma_transpose(dst, src, oob_mode=oob_mode.skip)
    expected = numbers[:16].T.copy()
    expected[:, 3] = -1
    np.testing.assert_array_equal(values(dst), expected)


@pytest.mark.parametrize(
    ("shape", "options", "broken"),
    [
        ((2, 2, 2, 2, 2), {}, "dimensions"),
        ((4, 4), {"axes": (0, 1)}, "axes"),
        ((4, 4), {"dge_mode": dge_mode.swdge}, "dge-mode"),
        ((4, 4), {"dge_mode": dge_mode.hwdge}, "shape"),
        ((3, 16, 4), {"dge_mode": dge_mode.hwdge}, "shape"),
        ((2, 4, 9), {"dge_mode": dge_mode.hwdge}, "shape"),
        ((4, 4), {"oob_mode": oob_mode.skip}, "oob-mode"),
    ],
)
def test_rules_of_transposes(core, tile, empty, shape, options, broken):
    dst = empty(tuple(reversed(shape)), "float16")
    with pytest.raises(NkiValidationError) as error:
        dma_transpose(dst, tile(counted(*shape, dtype=np.float16), buffer=HBM), **options)
    assert rule(error) == broken


@pytest.mark.parametrize(
    ("rows", "index", "kind", "broken"),
    [
        (24, (32, 1), "float16", "shape"),
        (32, (16, 2), "float16", "partitions"),
        (16, (24, 1), "float16", "partitions"),
        (16, (16, 1, 1), "float16", "dimensions"),
        (32, (16, 1), "float16", "indirection"),
        (16, (16, 1), "float32", "dtype"),
    ],
)
def test_rules_of_gathering_transposes(core, tile, empty, rows, index, kind, broken):
    numbers = tile(counted(40, 8, dtype=DType(kind).storage), buffer=HBM)
    src = numbers.ap([[8, rows], [1, 8]], vector_offset=tile(np.zeros(index, np.uint32)))
    with pytest.raises(NkiValidationError) as error:
        dma_transpose(empty((8, rows), kind), src)
    assert rule(error) == broken


def test_where_a_transpose_may_go(core, tile, empty):
    src = tile(counted(4, 4, dtype=np.float16))
    for dst, broken in (
        (empty((4, 4), "float16", HBM), "memory"),
        (empty((4, 4), "bfloat16"), "dtype"),
        (empty((2, 8), "float16"), "shape"),
    ):
        with pytest.raises(NkiValidationError) as error:
            dma_transpose(dst, src)
        assert rule(error) == broken
