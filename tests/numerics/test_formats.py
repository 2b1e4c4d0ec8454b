import ml_dtypes
import numpy as np
import pytest

from trainshed.numerics import formats
from trainshed.numerics.formats import DTYPES, PACKED, DType, lookup


def test_a_dtype_is_its_name_and_equals_numpys():
    assert str(formats.bfloat16) == "bfloat16" == formats.bfloat16
    assert formats.float32 == np.float32
    assert formats.float32 == np.dtype("float32")
    assert formats.bfloat16 == ml_dtypes.bfloat16
    assert formats.float32 != np.float16
    assert formats.int32 != "float32"
    assert {formats.float16: 1}["float16"] == 1


@pytest.mark.parametrize("name", DTYPES)
def test_every_format_is_found_by_its_name_and_by_what_holds_it_outside(name):
    assert lookup(name) == name
    assert lookup(f"nki.language.{name}") == name
    if name != "tfloat32":
        assert lookup(DTYPES[name].outside) == name
    assert DTYPES[name].itemsize == DTYPES[name].outside.itemsize


@pytest.mark.parametrize("name", PACKED)
def test_a_packed_format_holds_four_elements_and_names_itself(name):
    bits = {"float8_e4m3fn_x4": 8, "float8_e5m2_x4": 8, "float4_e2m1fn_x4": 4}[name]
    assert DTYPES[name].itemsize * 8 == 4 * bits
    assert name in str(DTYPES[name].outside)


def test_the_two_eight_bit_formats_of_four_exponent_bits_differ_in_their_largest_value():
    assert float(ml_dtypes.finfo(formats.float8_e4m3.storage).max) == 240
    assert float(ml_dtypes.finfo(formats.float8_e4m3fn.storage).max) == 448


@pytest.mark.parametrize(("spelling", "name"), [("bf16", "bfloat16"), ("float8e4", "float8_e4m3"), ("fp32", "float32")])
def test_other_spellings(spelling, name):
    assert lookup(spelling) == name


@pytest.mark.parametrize("value", ["complex64", "", np.dtype("int64"), np.float64, 3, None])
def test_what_the_chip_cannot_store_is_none(value):
    assert lookup(value) is None


def test_dtypes_hash_as_their_names():
    assert hash(DType("int8")) == hash("int8")
