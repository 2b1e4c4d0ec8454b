"""Protocol buffers by hand: the examples of the format's own page, and numbers that come back."""

from hypothesis import given
from hypothesis import strategies as st

from trainshed.report.protobuf import message, number, text, varint


def read_varint(data, at=0):
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at


def test_the_examples_of_the_encoding_page():
    assert number(1, 150) == bytes.fromhex("089601")
    assert text(2, "testing") == bytes.fromhex("120774657374696e67")
    assert message(3, number(1, 150)) == bytes.fromhex("1a03089601")


@given(st.integers(0, 2**63) | st.sampled_from([2**bits + more for bits in (7, 14, 21, 28) for more in (-1, 0, 1)]))
def test_numbers_come_back(value):
    data = varint(value)
    assert read_varint(data) == (value, len(data))


def test_a_field_number_of_two_bytes():
    assert read_varint(number(29, 1))[0] == 29 << 3
