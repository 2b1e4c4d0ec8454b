"""``NKI_PRECISE_FP=0``: VectorE's instructions on tensors whose storage is float32, whatever their dtype says."""

import numpy as np
import pytest

from trainshed.chip.isa.move import memset, nc_stream_shuffle, tensor_copy, tensor_copy_predicated
from trainshed.chip.isa.reduce import tensor_reduce
from trainshed.chip.isa.search import max8, nc_match_replace8
from trainshed.chip.isa.select import affine_select, iota
from trainshed.chip.isa.vector import tensor_scalar, tensor_tensor

THIRD = np.float32(1) / np.float32(3)


@pytest.fixture(params=["bfloat16", "float16", "float8_e4m3"])
def pair(request, make_core, tile, empty):
    """A source of thirds and an empty destination of a format that cannot hold them."""
    make_core(precise=False)
    data = np.arange(1, 1 + 32 * 8, dtype=np.float32).reshape(32, 8) * THIRD
    return data, tile(data, request.param), empty((32, 8), request.param)


def test_arithmetic_is_not_rounded(pair, values):
    data, src, dst = pair
    tensor_tensor(dst, src, src, "multiply")
    assert np.array_equal(values(dst), data * data)
    tensor_scalar(dst, src, "add", 0.1, op1="multiply", operand1=3.0)
    assert np.array_equal(values(dst), (data + np.float32(0.1)) * np.float32(3))
    tensor_reduce(dst[:, 0:1], "maximum", src, 1)
    assert np.array_equal(values(dst)[:, 0], data.max(1))


def test_copies_selections_and_searches_keep_what_is_stored(pair, tile, empty, values):
    data, src, dst = pair
    tensor_copy(dst, src)
    assert np.array_equal(values(dst), data)
    nc_stream_shuffle(dst, src, [1] + [255] * 31)
    assert np.array_equal(values(dst), np.concatenate([data[1:2], data[1:]]))
    tensor_copy_predicated(dst, float(THIRD), tile(np.uint8([[1, 0] * 4] * 32)))
    assert np.all(values(dst)[:, ::2] == THIRD)
    affine_select(dst, [[1, 8]], 0, src, float(THIRD), "equal")
    assert np.array_equal(values(dst)[:, 0], data[:, 0])
    assert np.all(values(dst)[:, 1:] == THIRD)
    top, index = empty((32, 8), str(src.dtype)), empty((32, 8), "uint32")
    max8(top, src)
    assert np.array_equal(values(top), data[:, ::-1])
    nc_match_replace8(dst, src, top, float(THIRD), index)
    assert np.all(values(dst) == THIRD)
    assert np.array_equal(values(index)[0], np.arange(8)[::-1])


def test_integers_and_what_is_initialised_stay_as_they_are(pair, values, empty):
    iota(pair[2], [[1, 8]], channel_multiplier=1000)
    assert values(pair[2])[31, 7] == 31007
    part = empty((4, 6), "int8")
    memset(part[:, 0:3], 5)
    tensor_copy(part[:, 3:6], pair[1][0:4, 0:3])
    assert values(part)[0].tolist() == [5, 5, 5, 0, 1, 1]
