"""What the library's suite imports, against ml_dtypes."""

import subprocess
import sys

import ml_dtypes
import numpy as np
import pytest

from trainshed.nki.conformance.standins import finfo, is_float_type, sizeinbytes, static_cast
from trainshed.numerics.formats import bfloat16, float4_e2m1fn_x4, float8_e4m3fn_x4, float8_e5m2_x4, float32, int32

ELEMENTS = {
    float8_e4m3fn_x4: ml_dtypes.float8_e4m3fn,
    float8_e5m2_x4: ml_dtypes.float8_e5m2,
    float4_e2m1fn_x4: ml_dtypes.float4_e2m1fn,
}


def random(*shape):
    return np.random.default_rng(1).standard_normal(shape).astype(np.float32) * 2


@pytest.mark.parametrize("dtype", ELEMENTS)
@pytest.mark.parametrize("shape", [(8,), (3, 16), (2, 5, 4)])
def test_packed_formats_take_four_elements_and_give_them_back(dtype, shape):
    values = random(*shape)
    packed = static_cast(values, dtype)
    assert packed.shape == (*shape[:-1], shape[-1] // 4)
    assert packed.dtype.names == (str(dtype),)
    most = float(ml_dtypes.finfo(ELEMENTS[dtype]).max)
    expected = np.clip(values, -most, most).astype(ELEMENTS[dtype]).astype(np.float32)
    np.testing.assert_array_equal(static_cast(packed, np.float32), expected)


@pytest.mark.parametrize("dtype", [float8_e4m3fn_x4, float8_e5m2_x4])
def test_elements_of_the_format_and_plain_bits_keep_their_bits(dtype):
    elements = random(4, 8).astype(ELEMENTS[dtype])
    bits = elements.view(np.uint32)
    np.testing.assert_array_equal(static_cast(elements, dtype).view(np.uint32), bits)
    np.testing.assert_array_equal(static_cast(elements.view(np.uint8), dtype).view(np.uint32), bits)
    np.testing.assert_array_equal(static_cast(bits, dtype).view(np.uint32), bits)


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16, np.float64, np.int64, ml_dtypes.float8_e4m3])
def test_other_formats_are_cast_as_numpy_does(dtype):
    values = random(3, 5)
    np.testing.assert_array_equal(static_cast(values, dtype), values.astype(dtype))
    assert static_cast(values, values.dtype) is values


def test_sizes_limits_and_kinds():
    assert [sizeinbytes(kind) for kind in (float8_e4m3fn_x4, float4_e2m1fn_x4, bfloat16, "float32", np.int64)] == [
        4, 2, 2, 4, 8,
    ]  # fmt: skip
    assert float(finfo(float8_e4m3fn_x4).max) == 448
    assert float(finfo(ml_dtypes.float8_e5m2).max) == 57344
    assert is_float_type(bfloat16)
    assert is_float_type(np.float64)
    assert not is_float_type(int32)
    assert is_float_type(float32)


CHECK = """
from trainshed.nki.conformance.standins import install
install()
import numpy as np, neuron_dtypes as dt, nki.language as nl
from neuronxcc.starfish.support.dtype import static_cast
from neuronxcc.nki.typing import mutable_tensor
from test.utils.perf_analysis_private import analyze_trace
from test.utils.scripts.remote_lock_scripts import LockResult, LockStatus
array = np.zeros((2, 3), dtype=nl.float8_e4m3fn_x4)
assert str(array.dtype) == "float8_e4m3fn_x4" and str(np.dtype([("a", "u4")])) == "[('a', '<u4')]"
assert dt.static_cast(array, np.float32).shape == (2, 12) and static_cast is dt.static_cast
try:
    analyze_trace()
except RuntimeError:
    print("good")
"""


def test_everything_is_importable_in_a_process_of_its_own():
    done = subprocess.run([sys.executable, "-c", CHECK], capture_output=True, text=True, check=False)
    assert done.stdout == "good\n", done.stderr
