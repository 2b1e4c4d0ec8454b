"""The wire format of protocol buffers, both ways: fields of varints, of four or eight bytes, and of a length.

Source: protobuf.dev, "Encoding". A message that breaks the format raises ``WireError``, which knows the byte.
"""

from __future__ import annotations

from collections.abc import Iterator

VARINT, EIGHT, LENGTH, FOUR = 0, 1, 2, 5
#: Ten bytes hold 64 bits; bits above them are cut off as every parser does.
_LONGEST = 10
_MASK = (1 << 64) - 1


class WireError(ValueError):
    """Bytes that are no message: what is wrong, and at which byte of what was read."""

    def __init__(self, what: str, at: int) -> None:
        self.what, self.at = what, at
        super().__init__(f"{what} at byte {at}")


def varint(value: int) -> bytes:
    """A whole number, seven bits a byte, the lowest first; negative ones as 64 bits of two's complement."""
    value &= _MASK
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def number(field: int, value: int) -> bytes:
    """A field that holds a varint."""
    return varint(field << 3 | VARINT) + varint(value)


def chunk(field: int, data: bytes) -> bytes:
    """A field with a length: a string, a message, a packed list."""
    return varint(field << 3 | LENGTH) + varint(len(data)) + data


def fixed(field: int, data: bytes) -> bytes:
    """A field of four or eight bytes."""
    return varint(field << 3 | (FOUR if len(data) == 4 else EIGHT)) + data


def read_varint(data: bytes, at: int) -> tuple[int, int]:
    """The number that begins at a byte (0 to 2^64 − 1), and where the next thing begins."""
    value = shift = 0
    for place in range(at, min(at + _LONGEST, len(data))):
        byte = data[place]
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & _MASK, place + 1
        shift += 7
    raise WireError("a varint of more than ten bytes" if at + _LONGEST <= len(data) else "the end amid a varint", at)


def read_chunk(data: bytes, at: int) -> tuple[bytes, int]:
    """What a length announces, and where the next thing begins."""
    length, begin = read_varint(data, at)
    if begin + length > len(data):
        raise WireError(f"{length} bytes announced, {len(data) - begin} there", at)
    return data[begin : begin + length], begin + length


def fields(data: bytes) -> Iterator[tuple[int, int, int | bytes]]:
    """Field number, wire type and raw value of each field of a message, in order."""
    at, end = 0, len(data)
    while at < end:
        begin = at
        key, at = read_varint(data, at)
        field, kind = key >> 3, key & 7
        value: int | bytes
        if not 0 < field < 1 << 29:
            raise WireError(f"field number {field}", begin)
        if kind == VARINT:
            value, at = read_varint(data, at)
        elif kind == LENGTH:
            value, at = read_chunk(data, at)
        elif kind in (FOUR, EIGHT):
            size = 4 if kind == FOUR else 8
            value = data[at : at + size]
            if len(value) < size:
                raise WireError(f"{size} bytes announced, {len(value)} there", at)
            at += size
        else:
            raise WireError(f"wire type {kind}", begin)
        yield field, kind, value
