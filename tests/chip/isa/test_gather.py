"""GpSimd's gathers and searches against NumPy, and their rules."""

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainshed.chip.errors import NkiValidationError
from trainshed.chip.isa.gather import (
    _bounds,
    local_gather,
    nc_n_gather,
    nonzero_with_count,
    sequence_bounds,
    tensor_partition_reduce,
    topk,
)
from trainshed.chip.words import engine


def random(*shape, dtype=np.float32, seed=0):
    return np.random.default_rng(seed).uniform(-9, 9, shape).astype(dtype)


def whole(low, high, *shape, dtype=np.int32, seed=0):
    return np.random.default_rng(seed).integers(low, high, shape).astype(dtype)


def rule(call):
    with pytest.raises(NkiValidationError) as error:
        call()
    return error.value.rule


# --- local_gather -------------------------------------------------------------------------------------------------


def gathered(data, index, width, valid):
    """The reference of AWS's Beta 1 test, for indices that count elements."""
    result = np.empty((data.shape[0], valid, width), data.dtype)
    for start in range(0, data.shape[0], 16):
        chosen = index[start : start + 16].flatten(order="F")[:valid]
        for place, first in enumerate(chosen):
            result[start : start + 16, place] = data[start : start + 16, first : first + width]
    return result.reshape(data.shape[0], -1)


@pytest.mark.parametrize("kind", [np.float32, ml_dtypes.bfloat16, np.uint8])
@pytest.mark.parametrize(("partitions", "width", "columns"), [(16, 1, 1), (128, 1, 4), (64, 8, 3), (128, 32, 2)])
def test_groups_of_16_partitions_gather_at_their_own_indices(
    core, tile, empty, values, kind, partitions, width, columns
):
    data = whole(0, 99, partitions, 64, dtype=kind)
    index = whole(0, 64 - width + 1, partitions, columns, dtype=np.uint16, seed=1)
    dst = empty((partitions, 16 * columns * width), tile(data).dtype)
    record = local_gather(dst, tile(data), tile(index), width)
    np.testing.assert_array_equal(values(dst), gathered(data, index, width, 16 * columns))
    assert record.engine is engine.gpsimd
    assert record.work["indices"] == 16 * columns


def test_beta_1_s_example(core, tile, empty, values):
    data, rows = random(128, 512, 4), whole(0, 512, 16, 4, dtype=np.uint16)
    dst = empty((128, 4, 16, 4))
    local_gather(dst, tile(data), tile(np.tile(rows, (8, 1)) * np.uint16(4)), 4, 64)
    np.testing.assert_array_equal(values(dst), data[:, rows.flatten(order="F")].reshape(128, 4, 16, 4))


def test_fewer_indices_may_be_valid(core, tile, empty, values):
    data, index = random(32, 20), whole(0, 20, 32, 2, dtype=np.uint16)
    index[5:16, 1] = 999  # beyond the valid ones
    dst = empty((32, 21))
    local_gather(dst, tile(data), tile(index), num_valid_indices=21)
    np.testing.assert_array_equal(values(dst), gathered(data, index, 1, 21))


def test_a_view_is_a_destination(core, tile, values):
    data, index = random(16, 8), whole(0, 8, 16, 1, dtype=np.uint16)
    dst = tile(np.zeros((16, 40), np.float32))
    local_gather(dst[:, 2:34:2], tile(data), tile(index))
    np.testing.assert_array_equal(values(dst)[:, 2:34:2], gathered(data, index, 1, 16))
    assert not values(dst)[:, 3::2].any()


def test_rules_of_local_gather(core, tile, empty):
    data, index = tile(random(16, 8)), tile(whole(0, 8, 16, 1, dtype=np.uint16))
    dst = empty((16, 16))
    assert rule(lambda: local_gather(dst, data, tile(whole(0, 8, 16, 1)))) == "dtype"
    assert rule(lambda: local_gather(empty((16, 16), "bfloat16"), data, index)) == "dtype"
    assert rule(lambda: local_gather(empty((16, 15)), data, index)) == "shape"
    assert rule(lambda: local_gather(empty((16, 48)), data, index, 3)) == "gather"
    assert rule(lambda: local_gather(dst, data, index, 1, 17)) == "gather"
    assert rule(lambda: local_gather(empty((8, 16)), data[0:8], index[0:8])) == "gather"
    assert rule(lambda: local_gather(empty((16, 16), buffer="psum"), data, index)) == "memory"
    assert rule(lambda: local_gather(dst, data, tile(np.full((16, 1), 8, np.uint16)))) == "out-of-bounds"
    assert rule(lambda: local_gather(empty((16, 32)), data, tile(np.full((16, 1), 7, np.uint16)), 2)) == "out-of-bounds"
    many = tile(np.zeros((16, 257), np.uint16))
    assert rule(lambda: local_gather(empty((16, 4112)), data, many)) == "gather"


# --- nc_n_gather --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [np.float32, ml_dtypes.bfloat16, np.int32, np.uint8])
@pytest.mark.parametrize(("shape", "chosen"), [((1, 1), (1, 1)), ((128, 40), (128, 700)), ((32, 3, 5), (32, 2, 4))])
def test_each_partition_gathers_its_own_elements(core, tile, empty, values, kind, shape, chosen):
    data = whole(0, 99, *shape, dtype=kind)
    index = whole(0, int(np.prod(shape[1:])), *chosen, dtype=np.uint32, seed=1)
    dst = empty(chosen, tile(data).dtype)
    record = nc_n_gather(dst, tile(data), tile(index))
    rows = np.arange(shape[0]).reshape(-1, *(1,) * (len(chosen) - 1))
    np.testing.assert_array_equal(values(dst), data.reshape(shape[0], -1)[rows, index])
    assert record.work["instructions"] == -(-int(np.prod(chosen[1:])) // 512)


def test_rules_of_nc_n_gather(core, tile, empty):
    data, index = tile(random(8, 6)), tile(whole(0, 6, 8, 3, dtype=np.uint32))
    assert rule(lambda: nc_n_gather(empty((8, 3)), data, tile(whole(0, 6, 8, 3)))) == "dtype"
    assert rule(lambda: nc_n_gather(empty((8, 3), "int32"), data, index)) == "dtype"
    assert rule(lambda: nc_n_gather(empty((8, 4)), data, index)) == "shape"
    assert rule(lambda: nc_n_gather(empty((4, 3)), data, index[0:4])) == "shape"
    assert rule(lambda: nc_n_gather(empty((8, 3)), data, tile(np.full((8, 3), 6, np.uint32)))) == "out-of-bounds"
    assert rule(lambda: nc_n_gather(empty((8, 3)), tile(random(8, 6), buffer="psum"), index)) == "memory"


# --- sequence_bounds ----------------------------------------------------------------------------------------------


def bounds(ids):
    """The two passes of AWS's Beta 1 test."""
    n = len(ids)
    low, high = [n] * n, [-1] * n
    for i in range(n):
        if ids[i]:
            low[i] = low[i - 1] if i and ids[i] == ids[i - 1] else i
    for i in reversed(range(n)):
        if ids[i]:
            high[i] = high[i + 1] if i < n - 1 and ids[i] == ids[i + 1] else i + 1
    return low, high


@pytest.mark.parametrize("kind", ["int32", "float32"])
def test_segments_of_the_documented_example(core, tile, empty, values, kind):
    ids, dst = tile(np.asarray([[0, 1, 1, 2, 2, 2, 0, 3, 3]]).astype(kind)), empty((1, 2, 9), kind)
    sequence_bounds(dst, ids)
    assert values(dst).tolist() == [[[9, 1, 1, 3, 3, 3, 9, 7, 7], [-1, 3, 3, 6, 6, 6, -1, 9, 9]]]


@given(st.lists(st.integers(0, 3), min_size=1, max_size=40))
def test_segments_are_runs_of_equal_ids(ids):
    low, high = _bounds(np.asarray(ids, np.float32))
    assert (low.tolist(), high.tolist()) == bounds(ids)


def test_rules_of_sequence_bounds(core, tile, empty):
    ids = tile(whole(0, 3, 1, 6))
    assert rule(lambda: sequence_bounds(empty((1, 2, 5)), ids)) == "shape"
    assert rule(lambda: sequence_bounds(empty((1, 2, 6), "bfloat16"), ids)) == "dtype"
    assert rule(lambda: sequence_bounds(empty((2, 6)), tile(whole(0, 3, 2, 6)))) == "shape"
    assert rule(lambda: sequence_bounds(empty((1, 2, 6)), tile(np.full((1, 6), -1, np.int32)))) == "segment-id"


# --- nonzero_with_count -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["int32", "float32"])
@pytest.mark.parametrize(("partitions", "size"), [(1, 1), (1, 8), (16, 33), (17, 5), (128, 64)])
def test_nonzero_elements_of_every_16th_partition(core, tile, values, kind, partitions, size):
    data = whole(-1, 2, partitions, size).astype(kind)
    dst = tile(np.full((partitions, size + 1), 77, np.int32))
    nonzero_with_count(dst, tile(data), 100, -5)
    expected = np.full((partitions, size + 1), 77)
    for p in range(0, partitions, 16):
        found = [100 + i for i in range(size) if data[p, i] != 0]
        expected[p] = [*found, *[-5] * (size - len(found)), len(found)]
    np.testing.assert_array_equal(values(dst), expected)


def test_other_partitions_stay_uninitialised(core, tile, empty, values):
    dst = empty((32, 9), "int32")
    nonzero_with_count(dst, tile(np.asarray([[0, 1, 1, 0, 0, 1, 0, 0]] * 32, np.int32)), 16)
    assert values(dst[16:17]).tolist() == [[17, 18, 21, -1, -1, -1, -1, -1, 3]]
    assert rule(lambda: values(dst[1:2])) == "uninitialised-read"


def test_only_the_partitions_it_reads_must_be_initialised(core, tile, empty, values):
    src, dst = empty((16, 4), "int32"), empty((16, 5), "int32")
    row = tile(np.asarray([[0, 3, 0, 4]], np.int32))
    from trainshed.chip.isa.dma import dma_copy

    dma_copy(src[0:1], row)
    nonzero_with_count(dst, src)
    assert values(dst[0:1]).tolist() == [[1, 3, -1, -1, 2]]


def test_rules_of_nonzero_with_count(make_core, tile, empty):
    make_core("trn1")
    assert rule(lambda: nonzero_with_count(empty((1, 5), "int32"), tile(whole(0, 2, 1, 4)))) == "generation"
    make_core("trn2")
    nonzero_with_count(empty((1, 5), "int32"), tile(whole(0, 2, 1, 4)))
    assert rule(lambda: nonzero_with_count(empty((1, 5)), tile(whole(0, 2, 1, 4)))) == "dtype"
    assert rule(lambda: nonzero_with_count(empty((1, 5), "int32"), tile(whole(0, 2, 1, 4, dtype=np.uint8)))) == "dtype"
    assert rule(lambda: nonzero_with_count(empty((1, 4), "int32"), tile(whole(0, 2, 1, 4)))) == "shape"


# --- topk ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("partitions", "n", "k"), [(16, 42, 8), (128, 16, 16), (32, 1000, 1), (48, 129, 64)])
def test_the_largest_of_16_partitions_in_ascending_order(core, tile, empty, values, partitions, n, k):
    columns = -(-n // 16)
    rng = np.random.default_rng(n)
    # distinct values that bfloat16 holds exactly, in another order for each group
    distinct = np.arange(-512, 512)[:, None] * np.asarray([1.0, 2.0**-20])
    pool = np.unique(distinct.astype(ml_dtypes.bfloat16).astype(np.float32))
    groups = [rng.permutation(pool)[: columns * 16] for _ in range(partitions // 16)]
    data = np.concatenate([g.reshape(columns, 16).T for g in groups]).astype(ml_dtypes.bfloat16)
    val, idx = empty((partitions, k), "bfloat16"), empty((partitions, k), "uint32")
    record = topk(val, idx, tile(data), n)
    for group, snake in enumerate(groups):
        order = np.argsort(snake[:n])[-k:]
        for p in (16 * group, 16 * group + 15):
            np.testing.assert_array_equal(values(idx)[p], order)
            np.testing.assert_array_equal(values(val)[p].astype(np.float32), snake[order])
    assert (record.work["elements"], record.work["k"]) == (n, k)


def test_equal_values_are_all_found(core, tile, empty, values):
    data = np.zeros((16, 2), ml_dtypes.bfloat16)
    data[3, 1] = 2
    val, idx = empty((16, 8), "bfloat16"), empty((16, 8), "uint32")
    topk(val, idx, tile(data), 32)
    assert values(val)[0].tolist() == [0] * 7 + [2]
    assert values(idx)[0, -1] == 19
    assert len(set(values(idx)[0].tolist())) == 8


def test_rules_of_topk(core, tile, empty):
    def call(partitions=16, n=32, k=8, columns=2, kind="bfloat16", found="uint32", rows=None):
        topk(empty((rows or partitions, k), "bfloat16"), empty((rows or partitions, k), found),
             tile(random(partitions, columns), kind), n)  # fmt: skip

    call()
    assert rule(lambda: call(kind="float32")) == "dtype"
    assert rule(lambda: call(found="int32")) == "dtype"
    assert rule(lambda: call(partitions=8)) == "topk"
    assert rule(lambda: call(n=7, k=1)) == "topk"
    assert rule(lambda: call(n=33)) == "topk"
    assert rule(lambda: call(n=8, k=9)) == "topk"
    assert rule(lambda: call(rows=32)) == "shape"


# --- tensor_partition_reduce --------------------------------------------------------------------------------------

REDUCTIONS = {
    "add": lambda a: a.sum(0), "average": lambda a: a.sum(0) / np.float32(len(a)), "maximum": lambda a: a.max(0),
    "max": lambda a: a.max(0),
}  # fmt: skip


@pytest.mark.parametrize("op", [*REDUCTIONS, np.add])
@pytest.mark.parametrize("shape", [(128, 32, 4), (1, 5), (70, 3)])
@pytest.mark.parametrize("kind", ["float32", "bfloat16"])
def test_reductions_across_partitions(core, tile, empty, values, op, shape, kind):
    data = whole(-8, 8, *shape).astype(np.float32)
    dst = empty((1, *shape[1:]))
    tensor_partition_reduce(dst, op, tile(data.astype(tile(data).dtype.storage), kind))
    expected = REDUCTIONS[op if isinstance(op, str) else op.__name__](data)
    np.testing.assert_allclose(values(dst)[0], expected, rtol=1e-6)


@pytest.mark.parametrize(("op", "function"), [("bitwise_or", np.bitwise_or), ("bitwise_and", np.bitwise_and)])
def test_bitwise_reductions_across_partitions(core, tile, empty, values, op, function):
    data, dst = whole(0, 2**31, 128, 6), empty((1, 6), "int32")
    tensor_partition_reduce(dst, op, tile(data))
    np.testing.assert_array_equal(values(dst)[0], function.reduce(data, 0))


def test_rules_of_partition_reductions(core, tile, empty):
    data = tile(random(8, 6))
    assert rule(lambda: tensor_partition_reduce(empty((1, 5)), "add", data)) == "shape"
    assert rule(lambda: tensor_partition_reduce(empty((2, 6)), "add", data)) == "shape"
    assert rule(lambda: tensor_partition_reduce(empty((1, 6)), "multiply", data)) == "reduction"
    assert rule(lambda: tensor_partition_reduce(empty((1, 6)), "add", tile(random(8, 6), buffer="psum"))) == "memory"
