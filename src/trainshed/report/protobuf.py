"""Fields of protocol buffers, written by hand: numbers and what has a length are all that a trace needs.

Source: protobuf.dev, "Encoding".
"""

from __future__ import annotations


def varint(value: int) -> bytes:
    """A whole number from 0 on, seven bits a byte, the lowest first."""
    return _SMALL[value] if value < len(_SMALL) else _varint(value)


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


_SMALL = [_varint(value) for value in range(1 << 14)]


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
