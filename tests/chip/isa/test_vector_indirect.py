"""Views that pick columns (``.indirect``) as operands of VectorE's instructions."""

import numpy as np
import pytest

from trainshed.chip.errors import NkiValidationError
from trainshed.chip.isa.move import nc_stream_shuffle, tensor_copy, tensor_copy_predicated
from trainshed.chip.isa.reduce import tensor_reduce, tensor_scalar_reduce
from trainshed.chip.isa.scan import tensor_scalar_cumulative
from trainshed.chip.isa.vector import scalar_tensor_tensor, tensor_scalar, tensor_tensor
from trainshed.chip.words import engine

COLUMNS = [5, 0, 7, 2]


@pytest.fixture
def index(tile):
    """Offsets ``COLUMNS`` for both groups of 16 partitions: offset i is in row i of its group."""
    offsets = np.zeros((32, 1), np.uint16)
    offsets[0:4, 0] = offsets[16:20, 0] = COLUMNS
    return tile(offsets)


@pytest.fixture
def data():
    return np.random.default_rng(0).uniform(-4, 4, (32, 8)).astype(np.float32)


def test_a_gathered_operand(core, tile, empty, values, index, data):
    source, dst, picked = tile(data).indirect(index, 4), empty((32, 4)), data[:, COLUMNS]
    tensor_copy(dst, source)
    assert np.array_equal(values(dst), picked)
    tensor_tensor(dst, source, tile(data[:, :4].copy()), "add")
    assert np.array_equal(values(dst), picked + data[:, :4])
    tensor_scalar(dst, source, "multiply", 2.0)
    assert np.array_equal(values(dst), picked * 2)
    tensor_scalar_cumulative(dst, source, "add", "maximum", 0.0)
    assert np.array_equal(values(dst), np.maximum.accumulate(picked, axis=1))
    result = empty((32, 1))
    tensor_reduce(result, "maximum", source, 1)
    assert np.array_equal(values(result), picked.max(1, keepdims=True))
    tensor_scalar_reduce(dst, source, "abs", 0.0, "maximum", result)
    assert np.array_equal(values(result), abs(picked).max(1, keepdims=True))


def test_a_scattered_result(core, tile, values, index, data):
    other = np.arange(128, dtype=np.float32).reshape(32, 4)
    golden = data.copy()
    golden[:, COLUMNS] = other
    for run in (
        lambda dst: tensor_copy(dst, tile(other)),
        lambda dst: tensor_scalar(dst, tile(other), "add", 0.0),
        lambda dst: tensor_tensor(dst, tile(other), tile(other), "maximum"),
        lambda dst: tensor_copy_predicated(dst, tile(other), tile(np.ones((32, 4), np.uint8))),
    ):
        whole = tile(data)
        run(whole.indirect(index, 4))
        assert np.array_equal(values(whole), golden)


def test_address_arithmetic_does_not_gather(core, tile, empty, index):
    words = tile(np.ones((32, 8), np.int32))
    assert tensor_scalar(empty((32, 4), "int32"), words.indirect(index, 4), "add", 1).engine is engine.vector


def test_operands_that_cannot_be_indirect(core, tile, empty, index, data):
    plain, picked = tile(data[:, :4].copy()), tile(data).indirect(index, 4)
    for run in (
        lambda: tensor_tensor(plain, plain, picked, "add"),
        lambda: tensor_copy_predicated(plain, picked, tile(np.ones((32, 4), np.uint8))),
        lambda: scalar_tensor_tensor(plain, picked, "add", 1.0, "add", plain),
        lambda: nc_stream_shuffle(plain, picked, range(32)),
    ):
        with pytest.raises(NkiValidationError, match="indirect") as error:
            run()
        assert error.value.rule == "indirection"
    with pytest.raises(NkiValidationError, match="vector or scalar"):
        tensor_copy(plain, picked, engine=engine.gpsimd)


def test_indirect_views_need_the_newest_generation(make_core, tile, empty):
    make_core("trn2", values=False)
    index, source, dst = empty((32, 1), "uint16"), empty((32, 8)), empty((32, 4))
    with pytest.raises(NkiValidationError, match="NeuronCore-v4"):
        tensor_copy(dst, source.indirect(index, 4))


def test_indices_start_where_what_they_index_does(core, tile, empty):
    source, dst = empty((32, 8), address=(32, 0)), empty((32, 4), address=(64, 0))
    index, other = empty((32, 1), "uint16", address=(64, 64)), empty((32, 1), "uint16", address=(32, 64))
    with pytest.raises(NkiValidationError, match="src: start partition: 32; expected 64, that of the index of src"):
        tensor_copy(dst, source.indirect(index, 4))
    with pytest.raises(NkiValidationError, match="index of dst: start partition: 64; expected 32, that of the data"):
        tensor_scalar(dst.indirect(index, 4), source[:, 0:4], "add", 1.0)
    psum = empty((32, 8), buffer="psum", address=(32, 0))
    with pytest.raises(NkiValidationError, match="expected 32, that of the index of src"):
        tensor_copy(dst.indirect(index, 4), psum.indirect(other, 4))
    with pytest.raises(NkiValidationError, match="ScalarE scatters"):
        tensor_copy(psum.indirect(other, 4), source[:, 0:4], engine=engine.scalar)
