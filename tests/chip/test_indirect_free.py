"""Columns picked by ``.indirect()``: which offsets are whose, and which views and instructions take them."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainshed.chip.call import Call
from trainshed.chip.core import NeuronCore, Options, active, enter, target
from trainshed.chip.errors import NkiValidationError
from trainshed.chip.isa.move import memset, tensor_copy
from trainshed.chip.isa.reduce import bn_stats
from trainshed.chip.isa.tensor import nc_matmul
from trainshed.chip.words import MemoryRegion
from trainshed.numerics.formats import DType


def made(values, dtype):
    """An initialised tensor, where fixtures do not reach."""
    tensor = active().allocate(values.shape, DType(dtype), MemoryRegion.sbuf)
    Call("test").write("values", tensor, values)
    return tensor


@settings(max_examples=40, deadline=None)
@given(
    partitions=st.sampled_from([1, 5, 16, 24, 32, 48, 64, 100, 128]), columns=st.integers(1, 3),
    width=st.integers(1, 9), dtype=st.sampled_from(["float32", "bfloat16", "int8"]), data=st.data(),
)  # fmt: skip
def test_offset_i_is_that_of_row_i_mod_16(partitions, columns, width, dtype, data):
    """One by one, as the page says; a part of a group has only the offsets its rows hold."""
    enter(NeuronCore(target("trn3"), Options()))
    try:
        rng = np.random.default_rng(data.draw(st.integers(0, 99)))
        source = rng.integers(-9, 9, (partitions, width)).astype(DType(dtype).storage)
        index = rng.integers(0, width, (partitions, columns))
        most = partitions % 16 or 16 * columns
        count = data.draw(st.integers(1, most))
        dst = made(np.zeros((partitions, count), DType(dtype).storage), dtype)
        view = made(source, dtype).indirect(made(index.astype(np.uint16), "uint16"), count)
        tensor_copy(dst, view)
        golden = [[source[p, index[p // 16 * 16 + i % 16, i // 16]] for i in range(count)] for p in range(partitions)]
        assert np.array_equal(Call("test").read("dst", dst), np.array(golden, source.dtype))
    finally:
        enter(None)


def test_a_matmul_reads_offsets_of_32_rows(core, tile, empty, values):
    rng = np.random.default_rng(0)
    moving, stationary = rng.integers(-3, 3, (64, 80)), rng.integers(-3, 3, (64, 8))
    index = rng.integers(0, 80, (64, 2))
    dst = empty((8, 40), buffer="psum")
    nc_matmul(dst, tile(stationary.astype(np.float32), "bfloat16"),
              tile(moving.astype(np.float32), "bfloat16").indirect(tile(index.astype(np.int32)), 40))  # fmt: skip
    picked = np.array([[moving[p, index[p // 32 * 32 + i % 32, i // 32]] for i in range(40)] for p in range(64)])
    assert np.array_equal(values(dst), stationary.T @ picked)


def test_columns_count_in_the_view(core, tile, empty, values):
    data = np.arange(16 * 12, dtype=np.float32).reshape(16, 12)
    index = tile(np.array([[2], [0], [3], *[[1]] * 13], np.uint16))
    dst = empty((16, 3))
    tensor_copy(dst, tile(data)[:, 1:9:2].indirect(index, 3))
    assert np.array_equal(values(dst), data[:, [5, 1, 7]])
    tensor_copy(dst, tile(data.reshape(16, 4, 3)).indirect(index, 3))
    assert np.array_equal(values(dst), data[:, [2, 0, 3]])


def test_columns_are_one_stride_apart(core, tile):
    source = tile(np.zeros((16, 4, 4), np.float32))
    with pytest.raises(NkiValidationError, match="one stride apart"):
        source[:, :, 0:2].indirect(tile(np.zeros((16, 1), np.uint16)))


def test_a_group_has_as_many_offsets_as_its_rows_hold(core, tile, empty):
    for partitions, columns, most in ((16, 1, 16), (32, 2, 32), (24, 2, 8), (5, 1, 5)):
        source, index = tile(np.zeros((partitions, 8), np.float32)), tile(np.zeros((partitions, columns), np.uint16))
        tensor_copy(empty((partitions, most)), source.indirect(index, most))
        with pytest.raises(NkiValidationError, match=f"at most {most}"):
            tensor_copy(empty((partitions, most + 1)), source.indirect(index, most + 1))


def test_the_index_is_integers_in_sbuf_from_a_quadrant_on(core, tile, empty):
    source, dst = tile(np.zeros((32, 8), np.float32)), empty((32, 4))
    wrong = (
        (tile(np.zeros((32, 1), np.float32)), "dtype"),
        (tile(np.zeros((32, 1), np.int32), buffer="psum"), "memory"),
    )
    for index, rule in wrong:
        with pytest.raises(NkiValidationError) as error:
            tensor_copy(dst, source.indirect(index, 4))
        assert error.value.rule == rule
    half = tile(np.zeros((32, 1), np.uint16))[16:32]
    with pytest.raises(NkiValidationError, match="multiple of 32"):
        tensor_copy(dst[0:16], source[0:16].indirect(half, 4))


def test_repeated_columns_of_a_scatter_are_a_finding(core, tile):
    whole = tile(np.zeros((16, 8), np.float32))
    index = tile(np.zeros((16, 1), np.uint16))
    tensor_copy(whole.indirect(index, 2), tile(np.ones((16, 2), np.float32)))
    assert [item.rule for item in core.findings] == ["duplicate-scatter"]


def test_other_instructions_take_no_columns(core, tile, empty):
    index = tile(np.zeros((16, 1), np.uint16))
    whole = tile(np.zeros((16, 8), np.float32))
    for run in (
        lambda: memset(whole.indirect(index, 4), 0.0),
        lambda: bn_stats(empty((16, 6)), whole.indirect(index, 4)),
    ):
        with pytest.raises(NkiValidationError, match="not indirect") as error:
            run()
        assert error.value.rule == "indirection"


def test_the_record_tells_the_kind(core, tile, empty):
    index = tile(np.zeros((16, 1), np.uint16))
    record = tensor_copy(empty((16, 4)), tile(np.zeros((16, 8), np.float32)).indirect(index, 4))
    assert [region.indirect for region in (*record.reads, *record.writes)] == ["free", None]
