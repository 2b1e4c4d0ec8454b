import ml_dtypes
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from trainshed.chip.errors import NkiValidationError
from trainshed.chip.isa.search import max8, nc_find_index8, nc_match_replace8
from trainshed.chip.words import engine

F32 = np.float32
NONE = 0xFFFFFFFF


def random(shape, seed=0):
    return np.random.default_rng(seed).uniform(-4, 4, shape).astype(np.float32)


def find(data, vals, order):
    """Element by element: the first value in ``order`` that is still looked for takes an equal element."""
    found = [None] * 8
    for position, element in enumerate(data):
        for item in order:
            if found[item] is None and vals[item] == element:
                found[item] = position
                break
    return [NONE if item is None else item for item in found]


# --- max8 ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(1, 8), (128, 9), (64, 5, 7), (2, 16384)])
@pytest.mark.parametrize("dtype", [F32, ml_dtypes.bfloat16, np.int16])
def test_the_eight_largest_in_descending_order(core, tile, empty, values, shape, dtype):
    data = (random(shape) * 50).astype(dtype)
    dst = empty((shape[0], 8))
    record = max8(dst, tile(data))
    golden = np.sort(data.astype(F32).reshape(shape[0], -1), axis=1)[:, ::-1][:, :8]
    assert np.array_equal(values(dst), golden)
    assert (record.engine, record.work["elements"]) == (engine.vector, int(np.prod(shape[1:])))


def test_equal_values_count_each(core, tile, empty, values):
    dst = empty((1, 8), "bfloat16")
    max8(dst, tile(F32([[1, 7, 7, 7, 2, 3, -1, 0, 5, -np.inf]])))
    assert values(dst).astype(F32).tolist() == [[7, 7, 7, 5, 3, 2, 1, 0]]


def test_max8_refuses(core, tile, empty):
    for rule, shape in {"search-size": (4, 7), "search-dimensions": (4, 2, 2, 4)}.items():
        with pytest.raises(NkiValidationError, match=r"test_search.py:\d+: max8, src") as error:
            max8(empty((4, 8)), tile(random(shape)))
        assert error.value.rule == rule
    with pytest.raises(NkiValidationError, match="16385"):
        max8(empty((1, 8)), tile(random((1, 16385))))
    with pytest.raises(NkiValidationError, match=r"\(4, 8\)"):
        max8(empty((4, 4)), tile(random((4, 16))))


# --- nc_find_index8 -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["uint16", "uint32"])
def test_indices_of_the_eight_largest(core, tile, empty, values, dtype):
    data = random((128, 4, 25))
    source, largest, dst = tile(data), empty((128, 8)), empty((128, 8), dtype)
    max8(largest, source)
    nc_find_index8(dst, source, largest)
    flat = data.reshape(128, 100)
    assert np.array_equal(values(dst), np.argsort(-flat, axis=1)[:, :8])


def test_duplicates_go_on_in_ascending_order_and_what_is_missing_is_all_ones(core, tile, empty, values):
    data = F32([[1, 2, 3, 4, 8, 8, 8, 8, 8, 8, 8], [5, 5, 0, 0, 0, 0, 0, 0, 0, 0, 9]])
    vals = F32([[3, 8, 8, 8, 8, 8, 8, 8], [5, 5, 5, 9, 9, 7, np.nan, 0]])
    dst, short = empty((2, 8), "uint32"), empty((2, 8), "uint16")
    nc_find_index8(dst, tile(data), tile(vals))
    assert values(dst).tolist() == [[2, 4, 5, 6, 7, 8, 9, 10], [0, 1, NONE, 10, NONE, NONE, NONE, 2]]
    nc_find_index8(short, tile(data), tile(vals))
    assert values(short)[1].tolist() == [0, 1, 0xFFFF, 10, 0xFFFF, 0xFFFF, 0xFFFF, 2]


def test_integers_are_found_exactly(core, tile, empty, values):
    data = np.int32([[2**24, 2**24 + 1, 3, 4, 5, 6, 7, 8]])
    dst = empty((1, 8), "uint32")
    nc_find_index8(dst, tile(data), tile(data[:, ::-1].copy()))
    assert values(dst).tolist() == [[7, 6, 5, 4, 3, 2, 1, 0]]


def test_values_may_fill_more_partitions_than_are_searched(core, tile, empty, values):
    data = random((128, 16))
    dst = empty((40, 8), "uint32")
    nc_find_index8(dst, tile(data)[0:40], tile(data[:, :8].copy()))
    assert np.array_equal(values(dst), np.tile(np.arange(8), (40, 1)))


def test_find_index_refuses(core, tile, empty):
    data, vals = tile(random((4, 16))), tile(random((4, 8)))
    for rule, arguments in {
        "dtype": (empty((4, 8), "int32"), data, vals),
        "shape": (empty((4, 4), "uint32"), data, vals),
        "search-size": (empty((4, 8), "uint32"), vals[:, 0:7], vals),
    }.items():
        with pytest.raises(NkiValidationError, match="nc_find_index8") as error:
            nc_find_index8(*arguments)
        assert error.value.rule == rule
    with pytest.raises(NkiValidationError, match="vals: shape"):
        nc_find_index8(empty((4, 8), "uint32"), data, data)


# --- nc_match_replace8 --------------------------------------------------------------------------------------------


def test_duplicates_are_replaced_in_descending_order_of_columns(core, tile, empty, values):
    data = F32([[1, 2, 3, 4, 8, 8, 8, 8, 8, 8, 8]])
    dst, index = empty((1, 11)), empty((1, 8), "uint32")
    record = nc_match_replace8(dst, tile(data), tile(F32([[3, 8, 8, 8, 8, 8, 8, 8]])), -np.inf, index)
    assert values(index).tolist() == [[2, 10, 9, 8, 7, 6, 5, 4]]
    assert values(dst).tolist() == [[1, 2, -np.inf, 4] + [-np.inf] * 7]
    assert record.engine is engine.vector


def test_each_round_in_place_finds_the_next_eight(core, tile, empty, values):
    data = random((32, 64))
    source, vals, index = tile(data), empty((32, 8)), empty((32, 8), "uint16")
    order = np.argsort(-data, axis=1)
    for start in (0, 8, 16):
        max8(vals, source)
        nc_match_replace8(source, source, vals, float("-inf"), index)
        assert np.array_equal(values(index), order[:, start : start + 8])
    assert (values(source) == -np.inf).sum() == 32 * 24


def test_a_value_equal_to_the_replacement_matches_original_elements_only(core, tile, empty, values):
    data = F32([[0, 1, 2, 3, 4, 5, 6, 7]])
    dst, index = empty((1, 8)), empty((1, 8), "uint32")
    nc_match_replace8(dst, tile(data), tile(F32([[0, 0, 0, 9, 9, 9, 9, 7]])), 0.0, index)
    assert values(index).tolist() == [[NONE, NONE, 0, NONE, NONE, NONE, NONE, 7]]
    assert values(dst).tolist() == [[0, 1, 2, 3, 4, 5, 6, 0]]


@pytest.mark.parametrize("dtype", ["bfloat16", "int16", "int32", "float16"])
@pytest.mark.parametrize("other", ["same", "float32"])
def test_replacing_in_other_dtypes(core, tile, empty, values, dtype, other):
    data = np.arange(10, dtype=F32)[None, :]
    dst = empty((1, 2, 5), dtype if other == "same" else other)
    nc_match_replace8(dst, tile(data, dtype), tile(data[:, :8], dtype), -3.0)
    assert values(dst).astype(F32).reshape(-1).tolist() == [-3] * 8 + [8, 9]


def test_match_replace_refuses(core, tile, empty):
    data, vals = tile(random((4, 16))), tile(random((4, 8)))
    for rule, arguments in {
        "dtype": (data, data, vals, 0.0, empty((4, 8), "float32")),
        "shape": (vals, data, vals, 0.0),
        "search-size": (data, data[:, 0:4], vals, 0.0),
    }.items():
        with pytest.raises(NkiValidationError, match="nc_match_replace8") as error:
            nc_match_replace8(*arguments)
        assert error.value.rule == rule


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=40)
@given(
    st.lists(st.integers(0, 5), min_size=8, max_size=24),
    st.lists(st.integers(0, 7), min_size=8, max_size=8),
)
def test_both_searches_agree_with_one_pass_over_the_elements(core, tile, empty, values, data, vals):
    source, wanted = tile(F32([data])), tile(F32([vals]))
    dst, index, replaced = empty((1, 8), "uint32"), empty((1, 8), "uint32"), empty((1, len(data)))
    nc_find_index8(dst, source, wanted)
    assert values(dst)[0].tolist() == find(data, vals, range(8))
    nc_match_replace8(replaced, source, wanted, -1.0, index)
    golden = find(data, vals, range(7, -1, -1))
    assert values(index)[0].tolist() == golden
    assert values(replaced)[0].tolist() == [-1 if i in golden else v for i, v in enumerate(data)]
