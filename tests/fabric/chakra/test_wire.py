"""The wire format against bytes of the encoding's own documentation."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainshed.fabric.chakra.wire import WireError, chunk, fields, fixed, number, read_varint, varint


def test_the_documentation_s_examples() -> None:
    # protobuf.dev, "Encoding": 150 is 96 01; field 1 = 150 is 08 96 01; field 2 = "testing" is 12 07 …
    assert varint(150) == b"\x96\x01"
    assert number(1, 150) == b"\x08\x96\x01"
    assert chunk(2, b"testing") == b"\x12\x07testing"
    assert varint(-2) == b"\xfe" + b"\xff" * 8 + b"\x01"


def test_fields_of_every_wire_type() -> None:
    data = number(1, 300) + fixed(2, b"\x01\x02\x03\x04") + fixed(3, bytes(8)) + chunk(16, b"ab")
    assert list(fields(data)) == [(1, 0, 300), (2, 5, b"\x01\x02\x03\x04"), (3, 1, bytes(8)), (16, 2, b"ab")]


@given(st.integers(0, 2**64 - 1), st.binary(max_size=3))
def test_a_varint_comes_back(value: int, rest: bytes) -> None:
    data = varint(value)
    assert read_varint(data + rest, 0) == (value, len(data))
    assert len(data) == max(1, -(-value.bit_length() // 7))


@pytest.mark.parametrize(
    ("data", "what", "at"),
    [
        (b"\x08", "the end amid a varint", 1),
        (b"\x08" + b"\xff" * 11, "more than ten bytes", 1),
        (b"\x12\x05abc", "5 bytes announced, 3 there", 1),
        (b"\x09abc", "8 bytes announced, 3 there", 1),
        (b"\x08\x01\x0b", "wire type 3", 2),
        (b"\x00\x01", "field number 0", 0),
    ],
)
def test_what_is_no_message_says_where(data: bytes, what: str, at: int) -> None:
    with pytest.raises(WireError, match=what) as error:
        list(fields(data))
    assert error.value.at == at


@given(st.binary(max_size=40))
def test_any_bytes_are_fields_or_one_error(data: bytes) -> None:
    at = 0
    try:
        assert all(field > 0 for field, _, _ in fields(data))
    except WireError as error:
        at = error.at
    assert 0 <= at <= len(data)
