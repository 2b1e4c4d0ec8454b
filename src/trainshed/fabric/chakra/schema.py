"""Chakra's messages: nodes, their attributes, the file's header; each from and to bytes.

Source: MLCommons Chakra, ``schema/protobuf/et_def.proto`` (1.0; ``0.0.4`` has the same numbers). A trace file is a row
of messages, each behind its length as a varint: one ``GlobalMetadata``, then a ``Node`` each.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache

from trainshed.fabric.chakra.wire import (
    EIGHT,
    FOUR,
    LENGTH,
    VARINT,
    WireError,
    chunk,
    fields,
    fixed,
    number,
    read_chunk,
    read_varint,
    varint,
)

#: ``NodeType`` by number.
NODE_TYPES = (
    "INVALID_NODE", "METADATA_NODE", "MEM_LOAD_NODE", "MEM_STORE_NODE", "COMP_NODE", "COMM_SEND_NODE",
    "COMM_RECV_NODE", "COMM_COLL_NODE",
)  # fmt: skip
INVALID, METADATA, LOAD, STORE, COMPUTE, SEND, RECEIVE, COLLECTIVE = range(8)
#: ``CollectiveCommType`` by number.
COLLECTIVE_TYPES = (
    "ALL_REDUCE", "REDUCE", "ALL_GATHER", "GATHER", "SCATTER", "BROADCAST", "ALL_TO_ALL", "REDUCE_SCATTER",
    "REDUCE_SCATTER_BLOCK", "BARRIER",
)  # fmt: skip
#: Types of an attribute's value in the order of their field numbers: the single value's is 3 + 2 i, the list's 4 + 2 i.
KINDS = (
    "double", "float", "int32", "int64", "uint32", "uint64", "sint32", "sint64", "fixed32", "fixed64", "sfixed32",
    "sfixed64", "bool", "string", "bytes",
)  # fmt: skip
#: Values that are whole numbers, whichever way they are written.
INTEGERS = frozenset(KINDS[2:12])
VERSION = "1.0.0"

Scalar = float | int | bool | str | bytes
_STRUCT = {"double": "<d", "float": "<f", "fixed32": "<I", "fixed64": "<Q", "sfixed32": "<i", "sfixed64": "<q"}


@dataclass(frozen=True, kw_only=True)
class Attribute:
    """A named value of a node: ``kind`` is one of ``KINDS``; a list of it is a tuple."""

    kind: str
    value: Scalar | tuple[Scalar, ...]
    doc: str = ""


@dataclass(frozen=True, kw_only=True)
class Info:
    """What a recorded operator was given or returned, as text."""

    values: str = ""
    shapes: str = ""
    types: str = ""
    strides: str = ""


@dataclass(frozen=True, kw_only=True)
class Node:
    """One node of one rank's trace, as the file has it."""

    id: int
    name: str = ""
    type: int = INVALID
    control: tuple[int, ...] = ()
    """``ctrl_deps``."""
    data: tuple[int, ...] = ()
    """``data_deps``."""
    start_micros: int = 0
    duration_micros: int = 0
    inputs: Info = Info()
    outputs: Info = Info()
    attributes: dict[str, Attribute] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Header:
    """``GlobalMetadata``."""

    version: str = VERSION
    attributes: dict[str, Attribute] = field(default_factory=dict)


def _wire_type(kind: str) -> int:
    if kind in ("string", "bytes"):
        return LENGTH
    return VARINT if kind not in _STRUCT else FOUR if struct.calcsize(_STRUCT[kind]) == 4 else EIGHT


def _signed(value: int, bits: int) -> int:
    value &= (1 << bits) - 1
    return value - (1 << bits) if value >> (bits - 1) else value


def _to_value(kind: str, raw: int | bytes) -> Scalar:
    """A single value from what the wire has."""
    if isinstance(raw, bytes):
        if kind in _STRUCT:
            (value,) = struct.unpack(_STRUCT[kind], raw)
            return value  # type: ignore[no-any-return]
        return raw if kind == "bytes" else _text(raw)
    if kind == "bool":
        return raw != 0
    bits = 32 if kind.endswith("32") else 64
    if kind.startswith("sint"):
        raw &= (1 << bits) - 1
        return (raw >> 1) ^ -(raw & 1)
    return _signed(raw, bits) if kind.startswith("int") else raw & ((1 << bits) - 1)


def _to_raw(kind: str, value: Scalar) -> bytes:
    """The bytes of a single value, without the field's key."""
    if kind in _STRUCT:
        return struct.pack(_STRUCT[kind], value)
    if isinstance(value, str | bytes):
        data = value.encode() if isinstance(value, str) else value
        return varint(len(data)) + data
    whole = int(value)
    if kind.startswith("sint"):
        whole = whole << 1 if whole >= 0 else (-whole << 1) - 1
    return varint(whole)


def _text(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise WireError("text that is not UTF-8", error.start) from None


def _expect(what: str, kind: int, *wanted: int) -> None:
    if kind not in wanted:
        raise WireError(f"{what} with wire type {kind}", 0)


def _packed(kind: str, data: bytes) -> Iterator[Scalar]:
    """The values of a list that stand behind one length."""
    wire, at = _wire_type(kind), 0
    size = struct.calcsize(_STRUCT[kind]) if kind in _STRUCT else 0
    while at < len(data):
        raw: int | bytes
        if wire == VARINT:
            raw, at = read_varint(data, at)
        else:
            raw, at = data[at : at + size], at + size
            if len(raw) < size:
                raise WireError(f"a list of {kind} that ends amid a value", at - size)
        yield _to_value(kind, raw)


def _list(kind: str, data: bytes) -> tuple[Scalar, ...]:
    """A list message: numbers packed or one field each, texts one field each."""
    wire = _wire_type(kind)
    found: list[Scalar] = []
    for number_, type_, raw in fields(data):
        if number_ != 1:
            raise WireError(f"field {number_} of a list", 0)
        _expect(f"a list of {kind}", type_, wire, LENGTH)
        if type_ == LENGTH != wire and isinstance(raw, bytes):
            found += _packed(kind, raw)
        else:
            found.append(_to_value(kind, raw))
    return tuple(found)


@lru_cache(maxsize=1 << 16)
def read_attribute(data: bytes) -> tuple[str, Attribute]:
    """Name and value; the same few attributes come with nearly every node, so they are read once."""
    name = doc = ""
    value: Scalar | tuple[Scalar, ...] | None = None
    kind = ""
    for number_, type_, raw in fields(data):
        if number_ in (1, 2):
            _expect("an attribute's name", type_, LENGTH)
            text = _text(raw if isinstance(raw, bytes) else b"")
            name, doc = (text, doc) if number_ == 1 else (name, text)
        elif 3 <= number_ < 3 + 2 * len(KINDS):
            kind, many = KINDS[(number_ - 3) // 2], number_ % 2 == 0
            _expect(f"attribute {name!r}", type_, LENGTH if many else _wire_type(kind))
            value = _list(kind, raw) if many and isinstance(raw, bytes) else _to_value(kind, raw)
        else:
            raise WireError(f"field {number_} of attribute {name!r}", 0)
    if not name or value is None:
        raise WireError(f"attribute {name!r} without {'a value' if name else 'a name'}", 0)
    return name, Attribute(kind=kind, value=value, doc=doc)


def write_attribute(name: str, attribute: Attribute) -> bytes:
    """An attribute's message."""
    place, value = 3 + 2 * KINDS.index(attribute.kind), attribute.value
    out = chunk(1, name.encode()) + (chunk(2, attribute.doc.encode()) if attribute.doc else b"")
    if isinstance(value, tuple):
        raws = [_to_raw(attribute.kind, v) for v in value]
        if _wire_type(attribute.kind) == LENGTH:
            return out + chunk(place + 1, b"".join(varint(1 << 3 | LENGTH) + raw for raw in raws))
        return out + chunk(place + 1, chunk(1, b"".join(raws)) if raws else b"")
    raw = _to_raw(attribute.kind, value)
    if attribute.kind in _STRUCT:
        return out + fixed(place, raw)
    return out + varint(place << 3 | _wire_type(attribute.kind)) + raw


def _attribute_into(known: dict[str, Attribute], data: bytes) -> None:
    name, value = read_attribute(data)
    if name in known:
        raise WireError(f"attribute {name!r} twice", 0)
    known[name] = value


def read_header(data: bytes) -> Header:
    """The first message of a file."""
    version, attributes = "", {}  # type: str, dict[str, Attribute]
    for number_, type_, raw in fields(data):
        if number_ not in (1, 2):
            raise WireError(f"field {number_} of GlobalMetadata", 0)
        _expect("GlobalMetadata", type_, LENGTH)
        if isinstance(raw, bytes) and number_ == 1:
            version = _text(raw)
        elif isinstance(raw, bytes):
            _attribute_into(attributes, raw)
    if not version.isprintable():
        raise WireError("a version that is no text", 0)
    return Header(version=version, attributes=attributes)


def write_header(header: Header) -> bytes:
    """The message of a header."""
    out = chunk(1, header.version.encode()) if header.version else b""
    return out + b"".join(chunk(2, write_attribute(n, a)) for n, a in header.attributes.items())


_INFO = ("values", "shapes", "types", "strides")


@lru_cache(maxsize=1 << 12)
def _read_info(data: bytes) -> Info:
    parts = {}
    for number_, type_, raw in fields(data):
        if not 1 <= number_ <= len(_INFO):
            raise WireError(f"field {number_} of IOInfo", 0)
        _expect("IOInfo", type_, LENGTH)
        parts[_INFO[number_ - 1]] = _text(raw if isinstance(raw, bytes) else b"")
    return Info(**parts)


def _write_info(info: Info) -> bytes:
    parts = [(i + 1, getattr(info, name)) for i, name in enumerate(_INFO)]
    return b"".join(chunk(i, text.encode()) for i, text in parts if text)


def read_node(data: bytes) -> Node:
    """A node's message."""
    numbers = {1: 0, 3: 0, 6: 0, 7: 0}
    depends: dict[int, list[Scalar]] = {4: [], 5: []}
    infos = {8: Info(), 9: Info()}
    attributes: dict[str, Attribute] = {}
    name = ""
    for number_, type_, raw in fields(data):
        if number_ in numbers and isinstance(raw, int):
            numbers[number_] = raw
        elif number_ in depends and isinstance(raw, int):
            depends[number_].append(raw)
        elif type_ != LENGTH or not isinstance(raw, bytes):
            raise WireError(f"field {number_} of a node with wire type {type_}", 0)
        elif number_ == 10:
            _attribute_into(attributes, raw)
        elif number_ == 2:
            name = _text(raw)
        elif number_ in depends:
            depends[number_] += _packed("uint64", raw)
        elif number_ in infos:
            infos[number_] = _read_info(raw)
        else:
            raise WireError(f"field {number_} of a node", 0)
    control, data_ = (tuple(int(d) for d in depends[k]) for k in (4, 5))
    return Node(
        id=numbers[1], name=name, type=numbers[3], control=control, data=data_, start_micros=numbers[6],
        duration_micros=numbers[7], inputs=infos[8], outputs=infos[9], attributes=attributes,
    )  # fmt: skip


def write_node(node: Node) -> bytes:
    """The message of a node; what is zero or empty is left out, as proto3 does."""
    out = [number(1, node.id)] if node.id else []
    out += [chunk(2, node.name.encode())] if node.name else []
    out += [number(3, node.type)] if node.type else []
    out += [chunk(k, b"".join(map(varint, d))) for k, d in ((4, node.control), (5, node.data)) if d]
    out += [number(k, t) for k, t in ((6, node.start_micros), (7, node.duration_micros)) if t]
    out += [chunk(k, _write_info(i)) for k, i in ((8, node.inputs), (9, node.outputs)) if i != Info()]
    out += [chunk(10, write_attribute(n, a)) for n, a in node.attributes.items()]
    return b"".join(out)


def messages(data: bytes, read: Callable[[bytes], Node] = read_node) -> Iterator[Header | Node]:
    """Header and nodes of a file's bytes; ``WireError`` tells the byte of the file."""
    at = 0
    first = True
    while at < len(data) or first:
        body, after = read_chunk(data, at)
        try:
            yield read_header(body) if first else read(body)
        except WireError as error:
            raise WireError(error.what, at) from None
        at, first = after, False
