"""Fields of protocol buffers, written by hand: numbers and what has a length are all that a trace needs.

Source: protobuf.dev, "Encoding".
"""

from __future__ import annotations


def varint(value: int) -> bytes:
    """A whole number from 0 on, seven bits a byte, the lowest first."""
    if value < 1 << 14:
        return _LAST[value]
    if value < 1 << 28:
        return _FIRST[value & 0x3FFF] + _LAST[value >> 14]
    return _FIRST[value & 0x3FFF] + varint(value >> 14)


#: Fourteen bits at a time: with more to come, and without.
_FIRST = [bytes((value & 0x7F | 0x80, value >> 7 | 0x80)) for value in range(1 << 14)]
_LAST = [bytes((value,)) if value < 0x80 else bytes((value & 0x7F | 0x80, value >> 7)) for value in range(1 << 14)]


def number(field: int, value: int) -> bytes:
    """A field that holds a whole number, an enumeration or a truth value."""
    return varint(field << 3) + varint(value)


def message(field: int, *parts: bytes) -> bytes:
    """A field that holds a message, of the fields in it."""
    data = b"".join(parts)
    return varint(field << 3 | 2) + varint(len(data)) + data


def text(field: int, value: str) -> bytes:
    """A field that holds a string."""
    return message(field, value.encode())
