"""DMA through views that find their place at run time, and sums of several sources."""

from itertools import product

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainshed.chip.errors import NkiValidationError
from trainshed.chip.indirect import rows_repeat
from trainshed.chip.isa.dma import dma_compute, dma_copy
from trainshed.chip.isa.registers import register_alloc
from trainshed.chip.memory import Storage
from trainshed.chip.tensor import NkiTensor
from trainshed.chip.words import MemoryRegion, dge_mode, oob_mode
from trainshed.numerics.formats import DType

HBM = "private_hbm"
SKIP = oob_mode.skip
OUTSIDE = [("int32", -1), ("uint32", 0xFFFFFFFF), ("int32", 6), ("uint32", 1000)]


def random(*shape, seed=0):
    return np.random.default_rng(seed).uniform(-4, 4, shape).astype(np.float32)


def column(*indices, kind=np.int32):
    return np.asarray(indices, np.int64).astype(kind).reshape(-1, 1)


def rule(error):
    return error.value.rule


# --- scalar offsets -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["int32", "uint32", "int16", "uint8"])
def test_a_scalar_offset_counts_in_rows_of_the_tensor_it_is_called_on(core, tile, empty, values, kind):
    data = random(12, 10)
    src, dst = tile(data, buffer=HBM), empty((3, 4))
    dma_copy(dst, src.ap([[10, 3], [1, 4]], offset=2, scalar_offset=tile(column(7), kind), indirect_dim=0))
    np.testing.assert_array_equal(values(dst), data[7:10, 2:6])


def test_the_indirect_dimension_gives_the_scale(core, tile, empty, values):
    data = random(3, 8, 5)
    src = tile(data, buffer=HBM)
    for dim, index in ((0, 2), (1, 6), (2, 3)):
        dst = empty((2, 2))
        dma_copy(dst, src.ap([[1, 2], [0, 2]], scalar_offset=tile(column(index)), indirect_dim=dim))
        start = index * (40, 5, 1)[dim]
        np.testing.assert_array_equal(values(dst), np.repeat(data.reshape(-1)[start : start + 2, None], 2, 1))


def test_a_reshaped_tensor_scales_by_its_own_shape(core, tile, empty, values):
    data = random(4, 6)
    dst = empty((1, 3))
    dma_copy(dst, tile(data, buffer=HBM).reshape((8, 3)).ap([[3, 1], [1, 3]], scalar_offset=tile(column(5))))
    np.testing.assert_array_equal(values(dst), data.reshape(8, 3)[5:6])


def test_registers_move_a_view(core, tile, empty, values):
    data = random(5, 4)
    dst = empty((1, 4))
    dma_copy(dst, tile(data, buffer=HBM).ap([[4, 1], [1, 4]], scalar_offset=register_alloc(1) + 2))
    np.testing.assert_array_equal(values(dst), data[3:4])


def test_an_index_past_its_dimension_reaches_what_lies_behind_it(core, tile, empty, values):
    """Only the storage bounds a scalar offset: block caches are addressed by token through (block, token, …)."""
    data = random(4, 3, 2)
    dst = empty((1, 2))
    dma_copy(dst, tile(data, buffer=HBM).ap([[2, 1], [1, 2]], scalar_offset=tile(column(7)), indirect_dim=1))
    np.testing.assert_array_equal(values(dst)[0], data.reshape(12, 2)[7])


def test_a_scalar_offset_on_the_destination(core, tile, values):
    data, dst = random(2, 4), tile(np.zeros((6, 4), np.float32), buffer=HBM)
    dma_copy(dst.ap([[4, 2], [1, 4]], scalar_offset=tile(column(3))), tile(data))
    np.testing.assert_array_equal(values(dst)[3:5], data)
    assert not values(dst)[[0, 1, 2, 5]].any()


def test_select_takes_one_slice_found_at_run_time(core, tile, empty, values):
    data = random(4, 8, 6)
    src, where = tile(data, buffer=HBM), tile(column(3))
    for view, expected in (
        (src.select(0, where), data[3]),
        (src.select(1, where), data[:, 3]),
        (src.select(0, register_alloc(2))[2:5], data[2, 2:5]),
        (src.select(0, where).slice(1, 2, 6), data[3, :, 2:6]),
    ):
        dst = empty(expected.shape)
        dma_copy(dst, view)
        np.testing.assert_array_equal(values(dst), expected)


@pytest.mark.parametrize(("kind", "index"), OUTSIDE)
def test_a_scalar_offset_out_of_bounds_is_an_error_or_skips_all(core, tile, values, kind, index):
    src, dst = tile(random(6, 4), buffer=HBM), tile(np.ones((1, 4), np.float32))
    view = src.ap([[4, 1], [1, 4]], scalar_offset=tile(column(index, kind=kind)))
    with pytest.raises(NkiValidationError) as error:
        dma_copy(dst, view)
    assert rule(error) == "out-of-bounds"
    dma_copy(dst, view, oob_mode=SKIP)
    assert (values(dst) == 1).all()


def test_a_skipped_destination_stays_as_it_is(core, tile, values):
    dst = tile(np.ones((4, 3), np.float32), buffer=HBM)
    dma_copy(dst.ap([[3, 1], [1, 3]], scalar_offset=tile(column(4))), tile(random(1, 3)), oob_mode=SKIP)
    assert (values(dst) == 1).all()


@pytest.mark.parametrize(
    ("index", "broken"),
    [(column(1, 2), "indirection"), (np.ones((1, 1), np.float32), "dtype")],
)
def test_rules_of_a_scalar_offset(core, tile, empty, index, broken):
    view = tile(random(6, 4), buffer=HBM).ap([[4, 1], [1, 4]], scalar_offset=tile(index))
    with pytest.raises(NkiValidationError) as error:
        dma_copy(empty((1, 4)), view)
    assert rule(error) == broken


# --- vector offsets -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["int32", "uint32"])
def test_a_vector_offset_gathers_rows(core, tile, empty, values, kind):
    data, index = random(40, 6), np.random.default_rng(1).integers(0, 40, (128, 1)).astype(kind)
    dst = empty((128, 4), "bfloat16")
    dma_copy(dst, tile(data, buffer=HBM).ap([[6, 128], [1, 4]], offset=1, vector_offset=tile(index)))
    np.testing.assert_array_equal(values(dst), data[index[:, 0], 1:5].astype(ml_dtypes.bfloat16))


@pytest.mark.parametrize("kind", ["bfloat16", "float8_e4m3", "float8_e8m0fnu", "bool_", "int16", "float4_e2m1fn_x4"])
def test_rows_of_any_dtype_are_gathered_and_scattered(core, tile, values, kind):
    store = DType(kind).storage
    bits = np.random.default_rng(0).integers(0, 2 if kind == "bool_" else 100, (7, 4 * store.itemsize), np.uint8)
    data = bits.view(store)
    near, far = tile(np.zeros((3, 4), store), kind), tile(np.zeros((7, 4), store), kind, HBM)
    where = tile(column(6, 1, 2))
    dma_copy(near, tile(data, kind, HBM).ap([[4, 3], [1, 4]], vector_offset=where))
    dma_copy(far.ap([[4, 3], [1, 4]], vector_offset=where), near)
    assert values(near).tobytes() == data[[6, 1, 2]].tobytes()
    assert values(far)[[6, 1, 2]].tobytes() == data[[6, 1, 2]].tobytes()


def test_the_first_stride_of_the_pattern_does_not_matter(core, tile, empty, values):
    data = random(9, 2, 3)
    for stride in (0, 1, 6, 99):
        dst = empty((2, 3))
        dma_copy(dst, tile(data, buffer=HBM).ap([[stride, 2], [1, 3]], offset=3, vector_offset=tile(column(8, 4))))
        np.testing.assert_array_equal(values(dst), data[[8, 4], 1])


def test_inner_dimensions_of_a_gather(core, tile, empty, values):
    data = random(10, 24)
    dst = empty((3, 4, 2))
    dma_copy(dst, tile(data, buffer=HBM).ap([[24, 3], [6, 4], [1, 2]], vector_offset=tile(column(9, 0, 9))))
    np.testing.assert_array_equal(values(dst), data.reshape(10, 4, 6)[[9, 0, 9], :, :2])


def test_vector_select_reads_a_row_for_each_partition(core, tile, empty, values):
    data = random(10, 3, 4)
    dst = empty((5, 3, 4))
    dma_copy(dst, tile(data, buffer=HBM).vector_select(0, tile(column(9, 1, 1, 0, 4))))
    np.testing.assert_array_equal(values(dst), data[[9, 1, 1, 0, 4]])


def test_a_vector_offset_scatters_rows(core, tile, values):
    data, dst = random(4, 3), tile(np.zeros((10, 3), np.float32), buffer=HBM)
    dma_copy(dst.ap([[3, 4], [1, 3]], vector_offset=tile(column(9, 2, 0, 5))), tile(data))
    expected = np.zeros((10, 3), np.float32)
    expected[[9, 2, 0, 5]] = data
    np.testing.assert_array_equal(values(dst), expected)


def test_a_scatter_marks_only_its_rows_as_written(core, tile, empty):
    dst = empty((10, 3), buffer=HBM)
    dma_copy(dst.ap([[3, 2], [1, 3]], vector_offset=tile(column(9, 2))), tile(random(2, 3)))
    dma_copy(empty((1, 3)), dst[9:10])
    with pytest.raises(NkiValidationError) as error:
        dma_copy(empty((1, 3)), dst[3:4])
    assert rule(error) == "uninitialised-read"


def test_rows_of_a_scatter_that_share_bytes_are_noted_and_the_last_stays(core, tile, values):
    data, dst = random(3, 3), tile(np.zeros((10, 3), np.float32), buffer=HBM)
    dma_copy(dst.ap([[3, 3], [1, 3]], vector_offset=tile(column(4, 2, 4))), tile(data))
    np.testing.assert_array_equal(values(dst)[[4, 2]], data[[2, 1]])
    # rows of two elements from a flat tensor, one apart
    dma_copy(dst.reshape((30,)).ap([[1, 2], [1, 2]], vector_offset=tile(column(4, 5))), tile(random(2, 2)))
    assert [finding.rule for finding in core.findings] == ["duplicate-scatter"] * 2


@pytest.mark.parametrize(("kind", "index"), OUTSIDE)
def test_rows_out_of_bounds_are_an_error_or_stay_as_they_are(core, tile, values, kind, index):
    data, where = random(6, 4), tile(column(5, index, 0, kind=kind))
    view, near = tile(data, buffer=HBM).ap([[4, 3], [1, 4]], vector_offset=where), tile(np.ones((3, 4), np.float32))
    with pytest.raises(NkiValidationError) as error:
        dma_copy(near, view)
    assert rule(error) == "out-of-bounds"
    dma_copy(near, view, oob_mode=SKIP)
    np.testing.assert_array_equal(values(near), [data[5], np.ones(4), data[0]])
    far, rows = tile(np.zeros((6, 4), np.float32), buffer=HBM), random(3, 4, seed=2)
    dma_copy(far.ap([[4, 3], [1, 4]], vector_offset=where), tile(rows), oob_mode=SKIP)
    np.testing.assert_array_equal(values(far), [rows[2], *np.zeros((4, 4)), rows[0]])


def test_several_skipped_rows_may_repeat_an_index(core, tile, values):
    far, rows = tile(np.zeros((6, 4), np.float32), buffer=HBM), random(3, 4)
    dma_copy(far.ap([[4, 3], [1, 4]], vector_offset=tile(column(-1, -1, 1))), tile(rows), oob_mode=SKIP)
    np.testing.assert_array_equal(values(far)[1], rows[2])


def test_a_skipping_gather_keeps_bits_and_leaves_rows_unwritten(core, tile, empty, values):
    bits = np.asarray([[0x7F800001], [2**24 + 1], [7]], np.uint32)
    dst = empty((2, 1), "uint32")
    view = tile(bits, buffer=HBM).ap([[1, 2], [1, 1]], vector_offset=tile(column(1, 3)))
    dma_copy(dst, view, oob_mode=SKIP)
    assert values(dst[0:1])[0, 0] == 2**24 + 1
    with pytest.raises(NkiValidationError) as error:
        values(dst[1:2])
    assert rule(error) == "uninitialised-read"


def test_packed_formats_skip_too(core, tile, values):
    data = np.arange(12, dtype=np.uint32).reshape(3, 4)
    dst = tile(np.zeros((2, 4), np.uint32), "float8_e4m3fn_x4")
    view = tile(data, "float8_e4m3fn_x4", HBM).ap([[4, 2], [1, 4]], vector_offset=tile(column(2, -1)))
    dma_copy(dst, view, oob_mode=SKIP)
    np.testing.assert_array_equal(values(dst), [data[2], np.zeros(4)])


def test_rules_of_a_vector_offset(core, tile, empty):
    far, near, where = tile(random(6, 4), buffer=HBM), tile(random(6, 4)), tile(column(1, 2))
    view = far.ap([[4, 2], [1, 4]], vector_offset=where)
    for mode in (dge_mode.none, dge_mode.hwdge):
        with pytest.raises(NkiValidationError) as error:
            dma_copy(empty((2, 4)), view, dge_mode=mode)
        assert rule(error) == "dge-mode"
    dma_copy(empty((2, 4)), view, dge_mode=dge_mode.swdge)
    with pytest.raises(NkiValidationError) as error:
        dma_copy(empty((2, 4)), near.ap([[4, 2], [1, 4]], vector_offset=where))
    assert rule(error) == "memory"
    with pytest.raises(NkiValidationError) as error:
        dma_copy(empty((3, 4)), far.ap([[4, 3], [1, 4]], vector_offset=where))
    assert rule(error) == "indirection"
    with pytest.raises(NkiValidationError):
        far.ap([[4, 2], [1, 4]], vector_offset=where, scalar_offset=where)


def test_the_index_is_among_what_an_indirect_copy_reads(core, tile, empty):
    where = tile(column(1, 2))
    view = tile(random(6, 4), buffer=HBM).ap([[4, 2], [1, 4]], vector_offset=where)
    record = dma_copy(empty((2, 4)), view)
    assert [region.storage for region in record.reads] == [view.storage.serial, where.storage.serial]
    assert record.reads[0].indirect == "vector"
    assert record.work["descriptors"] == 2


# --- dma_compute --------------------------------------------------------------------------------------------------


def add():
    raise AssertionError("an operator is known by its name")


@pytest.mark.parametrize("count", [1, 2, 3, 16])
def test_a_sum_of_sources_is_rounded_once(core, tile, empty, values, count):
    terms = [random(32, 9, seed=i).astype(ml_dtypes.bfloat16) for i in range(count)]
    dst = empty((32, 9), "bfloat16")
    record = dma_compute(dst, [tile(t, buffer=HBM) for t in terms], add, scales=[1.0] * count)
    total = np.zeros((32, 9), np.float32)
    for term in terms:
        total = total + term.astype(np.float32)
    np.testing.assert_array_equal(values(dst), total.astype(ml_dtypes.bfloat16))
    assert record.work["hbm_read"] == count * 32 * 9 * 2
    assert record.attributes == {"dge_mode": "none", "sources": count}


def test_gathered_rows_join_a_tile(core, tile, values):
    data, own = random(20, 4), random(3, 4, seed=1)
    dst = tile(own)
    rows = tile(data, buffer=HBM).ap([[4, 3], [1, 4]], vector_offset=tile(column(7, 7, 19)))
    record = dma_compute(dst, [rows, dst], add)
    np.testing.assert_array_equal(values(dst), data[[7, 7, 19]] + own)
    assert record.attributes["dge_mode"] == "swdge"


def test_rows_are_added_where_they_are_scattered(core, tile, values):
    data, rows = random(8, 4), random(3, 4, seed=1)
    far = tile(data, buffer=HBM)
    view = far.ap([[4, 3], [1, 4]], vector_offset=tile(column(6, 0, -1)))
    with pytest.raises(NkiValidationError) as error:
        dma_compute(view, [view, tile(rows)], add)
    assert rule(error) == "out-of-bounds"
    dma_compute(view, [tile(rows), view], add, oob_mode=SKIP)
    expected = data.copy()
    expected[[6, 0]] += rows[:2]
    np.testing.assert_array_equal(values(far), expected)


def test_a_broken_promise_of_unique_indices_is_found(core, tile):
    view = tile(random(8, 4), buffer=HBM).ap([[4, 3], [1, 4]], vector_offset=tile(column(6, 0, 6)))
    with pytest.raises(NkiValidationError) as error:
        dma_compute(view, [view, tile(random(3, 4))], add)
    assert rule(error) == "duplicate-index"


@pytest.mark.parametrize(
    ("count", "options", "broken"),
    [
        (0, {}, "sources"), (17, {}, "sources"), (2, {"reduce_op": "max"}, "operator"),
        (2, {"scales": [1.0]}, "scales"), (2, {"scales": [1.0, 2.0]}, "scales"), (2, {"oob_mode": SKIP}, "oob-mode"),
    ],
)  # fmt: skip
def test_rules_of_a_sum(core, tile, empty, count, options, broken):
    with pytest.raises(NkiValidationError) as error:
        dma_compute(empty((4, 4)), [tile(random(4, 4))] * count, **{"reduce_op": add, **options})
    assert rule(error) == broken


def test_rules_of_a_read_modify_write(core, tile, empty):
    far, near, where = tile(random(8, 4), buffer=HBM), tile(random(3, 4)), tile(column(6, 0, 1))
    view = far.ap([[4, 3], [1, 4]], vector_offset=where)
    with pytest.raises(NkiValidationError) as error:
        dma_compute(view, [view, near], add, unique_indices=False)
    assert rule(error) == "unique-indices"
    with pytest.raises(NkiValidationError) as error:
        dma_compute(near, [near, view, view], add)
    assert rule(error) == "sources"
    for dst, srcs in ((empty((3, 4)), [near, view]), (view, [near, near]), (near, [far.ap([[4, 3], [1, 4]]), view])):
        with pytest.raises(NkiValidationError) as error:
            dma_compute(dst, srcs, add)
        assert rule(error) == "read-modify-write"
    elsewhere = tile(random(3, 4), buffer=HBM)
    with pytest.raises(NkiValidationError) as error:
        dma_compute(elsewhere, [elsewhere, view], add)
    assert rule(error) == "memory"


def test_rows_between_each_other_s_elements_do_not_meet(core, tile, values):
    data, dst = random(2, 3), tile(np.zeros((30, 1), np.float32), buffer=HBM)
    dma_copy(dst.ap([[1, 2], [4, 3]], vector_offset=tile(column(5, 7))), tile(data))
    np.testing.assert_array_equal(values(dst)[[5, 9, 13, 7, 11, 15], 0], data.reshape(-1))
    assert not core.findings


@given(st.data())
def test_rows_that_meet_are_those_a_count_of_their_elements_finds(data):
    sizes = data.draw(st.lists(st.integers(1, 4), min_size=1, max_size=3))
    pattern = [[data.draw(st.integers(0, 7)), size] for size in sizes]
    scale = data.draw(st.sampled_from([1, 3, 16]))
    indices = np.asarray(data.draw(st.lists(st.integers(0, 9), min_size=1, max_size=5)))
    storage = Storage(0, (300,), DType("float32"), MemoryRegion.private_hbm)
    view = NkiTensor((300 // scale, scale), DType("float32"), storage)
    view = view.ap([[scale, len(indices)], *pattern], vector_offset=view)
    inner = [sum(place) for place in product(*([stride * i for i in range(size)] for stride, size in pattern))]
    addresses = [index * scale + item for index in indices.tolist() for item in inner]
    found = rows_repeat(view, indices)
    assert (found is not None) == (len(set(addresses)) < len(addresses))
    assert found is None or addresses.count(found) > 1
