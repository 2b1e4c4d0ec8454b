"""Views that pick columns (``.indirect``) as operands of activations and of ``exponential``."""

import numpy as np
import pytest

from trainshed.chip.errors import NkiValidationError
from trainshed.chip.isa.scalar import activate2, activation, activation_reduce, exponential
from trainshed.chip.words import engine, reduce_cmd

COLUMNS = np.array([[5, 0, 7, 2], [1, 1, 6, 3]])


@pytest.fixture
def index(tile):
    """For each group of 16 partitions the four offsets of a row of ``COLUMNS``: offset i is in row i of its group."""
    offsets = np.zeros((32, 1), np.uint16)
    offsets[0:4, 0], offsets[16:20, 0] = COLUMNS
    return tile(offsets)


@pytest.fixture
def data():
    return np.random.default_rng(1).uniform(-2, 2, (32, 8)).astype(np.float32)


def picked(data):
    """Each partition's columns, one by one."""
    return np.array([[data[row, column] for column in COLUMNS[row // 16]] for row in range(len(data))])


def run_activation(dst, source, res):
    return activation(
        dst, "exp", source, scale=0.5, reduce_op="add", reduce_res=res, reduce_cmd=reduce_cmd.reset_reduce
    )


def run_activation_reduce(dst, source, res):
    return activation_reduce(dst, "exp", source, "add", res, scale=0.5)


def run_activate2(dst, source, res):
    return activate2(
        dst, "exp", source, 0.5, 0.0, "multiply", "add", reduce_op="add", reduce_res=res,
        reduce_cmd=reduce_cmd.reset_reduce,
    )  # fmt: skip


def run_exponential(dst, source, res):
    return exponential(dst, source, reduce_res=res, reduce_cmd=reduce_cmd.reset_reduce)


RUNS = [
    (run_activation, 0.5, engine.scalar), (run_activation_reduce, 0.5, engine.scalar),
    (run_activate2, 0.5, engine.scalar), (run_exponential, 1.0, engine.vector),
]  # fmt: skip


@pytest.mark.parametrize(("run", "scale", "on"), RUNS)
def test_a_gathered_operand(core, tile, empty, values, index, data, run, scale, on):
    dst, res = empty((32, 4)), empty((32, 1))
    record = run(dst, tile(data).indirect(index, 4), res)
    golden = np.exp(scale * picked(data).astype(np.float64))
    assert np.allclose(values(dst), golden, rtol=1e-6)
    assert np.allclose(values(res), golden.sum(1, keepdims=True), rtol=1e-6)
    assert record.engine is on


@pytest.mark.parametrize(("run", "scale", "on"), RUNS)
def test_a_scattered_result_leaves_the_other_columns(core, tile, empty, values, index, data, run, scale, on):
    other = np.random.default_rng(2).uniform(-1, 1, (32, 4)).astype(np.float32)
    other[16:, 1] = other[16:, 0]  # the second group writes its column 1 twice: of equal values
    whole, res = tile(data), empty((32, 1))
    run(whole.indirect(index, 4), tile(other), res)
    golden, new = data.astype(np.float64), np.exp(scale * other.astype(np.float64))
    for row in range(32):
        golden[row, COLUMNS[row // 16]] = new[row]
    assert np.allclose(values(whole), golden, rtol=1e-6)
    assert np.allclose(values(res), new.sum(1, keepdims=True), rtol=1e-6)


@pytest.mark.parametrize(("run", "scale", "on"), RUNS)
def test_a_reduction_is_not_scattered(core, tile, empty, index, data, run, scale, on):
    with pytest.raises(NkiValidationError, match="indirect") as error:
        run(empty((32, 4)), tile(data[:, :4].copy()), tile(data).indirect(index, 1))
    assert error.value.rule == "indirection"


def test_columns_of_factors_are_not_gathered(core, tile, empty, index, data):
    dst, plain, column = empty((32, 4)), tile(data[:, :4].copy()), tile(data).indirect(index, 1)
    for run in (
        lambda: activation(dst, "exp", plain, bias=column),
        lambda: activation(dst, "exp", plain, scale=column),
        lambda: activate2(dst, "exp", plain, column, 0.0, "multiply", "add"),
        lambda: activate2(dst, "prelu", plain, 1.0, 0.0, "multiply", "add", relu_param=column),
        lambda: exponential(dst, plain, max_value=column),
    ):
        with pytest.raises(NkiValidationError, match="indirect") as error:
            run()
        assert error.value.rule == "indirection"


def test_scalar_engine_does_not_scatter_to_psum(core, tile, empty, index, data):
    psum = empty((32, 8), buffer="psum")
    with pytest.raises(NkiValidationError, match="psum"):
        activation(psum.indirect(index, 4), "exp", tile(data[:, :4].copy()))


def test_indices_start_where_what_they_index_does(core, empty):
    source, dst = empty((32, 8), address=(32, 0)), empty((32, 4), address=(64, 0))
    index = empty((32, 1), "uint16", address=(64, 64))
    for run in (lambda: activation(dst, "exp", source.indirect(index, 4)),
                lambda: exponential(dst, source.indirect(index, 4))):  # fmt: skip
        with pytest.raises(NkiValidationError, match="start partition: 32; expected 64"):
            run()


def test_an_offset_outside_is_named(core, tile, empty, data):
    offsets = np.zeros((32, 1), np.uint16)
    offsets[2, 0] = 8
    with pytest.raises(NkiValidationError, match="8") as error:
        activation(empty((32, 4)), "exp", tile(data).indirect(tile(offsets), 4))
    assert error.value.rule == "out-of-bounds"


def test_indirect_views_need_the_newest_generation(make_core, empty):
    make_core("trn2", values=False)
    index, source = empty((32, 1), "uint16"), empty((32, 8))
    with pytest.raises(NkiValidationError, match="NeuronCore-v4"):
        activation(empty((32, 4)), "exp", source.indirect(index, 4))
