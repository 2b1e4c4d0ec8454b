"""Chakra's messages against the protobuf package, both ways."""

from __future__ import annotations

import struct
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from trainshed.fabric.chakra import schema
from trainshed.fabric.chakra.schema import Attribute, Header, Info, Node
from trainshed.fabric.chakra.wire import WireError, chunk, number, varint

_U64, _TEXT = st.integers(0, 2**64 - 1), st.text(max_size=8)


def _single(kind: str) -> st.SearchStrategy[Any]:
    if kind == "double":
        return st.floats(allow_nan=False)
    if kind == "float":
        return st.floats(allow_nan=False, width=32)
    if kind == "bool":
        return st.booleans()
    if kind in ("string", "bytes"):
        return _TEXT if kind == "string" else st.binary(max_size=8)
    bits = 32 if kind.endswith("32") else 64
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1)) if kind[0] in "is" else (0, 2**bits)
    return st.integers(low, high - 1)


_KIND = st.sampled_from(schema.KINDS)
_ATTRIBUTE = _KIND.flatmap(
    lambda kind: st.builds(
        Attribute, kind=st.just(kind), doc=_TEXT,
        value=st.one_of(_single(kind), st.lists(_single(kind), max_size=3).map(tuple)),
    )
)  # fmt: skip
_ATTRIBUTES = st.dictionaries(st.text(min_size=1, max_size=8), _ATTRIBUTE, max_size=4)
_INFO = st.builds(Info, values=_TEXT, shapes=_TEXT, types=_TEXT, strides=_TEXT)
_DEPENDS = st.lists(_U64, max_size=4).map(tuple)
_NODE = st.builds(
    Node, id=_U64, name=_TEXT, type=st.integers(0, 7), control=_DEPENDS, data=_DEPENDS, start_micros=_U64,
    duration_micros=_U64, inputs=_INFO, outputs=_INFO, attributes=_ATTRIBUTES,
)  # fmt: skip
_FEW = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def _fill(message: Any, node: Node) -> bytes:
    """The protobuf package's bytes of a node."""
    message.id, message.name, message.type = node.id, node.name, node.type
    message.ctrl_deps.extend(node.control)
    message.data_deps.extend(node.data)
    message.start_time_micros, message.duration_micros = node.start_micros, node.duration_micros
    for theirs, ours in ((message.inputs, node.inputs), (message.outputs, node.outputs)):
        if ours != Info():
            for name in ("values", "shapes", "types", "strides"):
                setattr(theirs, name, getattr(ours, name))
    for name, ours in node.attributes.items():
        theirs = message.attr.add(name=name, doc_string=ours.doc)
        if isinstance(ours.value, tuple):
            getattr(theirs, f"{ours.kind}_list").SetInParent()
            getattr(theirs, f"{ours.kind}_list").values.extend(ours.value)
        else:
            setattr(theirs, f"{ours.kind}_val", ours.value)
    return message.SerializeToString()  # type: ignore[no-any-return]


@_FEW
@given(node=_NODE)
def test_a_node_is_the_bytes_of_the_protobuf_package(chakra: dict[str, Any], node: Node) -> None:
    data = _fill(chakra["Node"](), node)
    assert schema.write_node(node) == data
    assert schema.read_node(data) == node


@_FEW
@given(
    header=st.builds(Header, version=st.text(st.characters(categories=["L", "N"]), max_size=6), attributes=_ATTRIBUTES)
)
def test_a_header_comes_back(header: Header) -> None:
    assert schema.read_header(schema.write_header(header)) == header


def test_bytes_made_by_hand() -> None:
    # id 1; "ag"; COMM_COLL_NODE; data_deps 0, packed; is_cpu_op false, comm_type int64 2, comm_size int64 2^20
    data = bytes.fromhex(
        "0801" "12026167" "1807" "2a0100" "520e0a0969735f6370755f6f70d80100"
        "520d0a09636f6d6d5f747970654802" "520f0a09636f6d6d5f73697a6548808040"
    )  # fmt: skip
    wanted = Node(
        id=1, name="ag", type=schema.COLLECTIVE, data=(0,), attributes={
            "is_cpu_op": Attribute(kind="bool", value=False), "comm_type": Attribute(kind="int64", value=2),
            "comm_size": Attribute(kind="int64", value=2**20),
        },
    )  # fmt: skip
    assert schema.read_node(data) == wanted
    assert schema.write_node(wanted) == data


def test_lists_come_packed_or_one_by_one() -> None:
    packed = chunk(5, varint(3) + varint(300))
    assert schema.read_node(packed) == schema.read_node(number(5, 3) + number(5, 300)) == Node(id=0, data=(3, 300))


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (number(11, 1), "field 11 of a node with wire type 0"),
        (chunk(11, b""), "field 11 of a node"),
        (chunk(1, b""), "field 1 of a node"),
        (chunk(2, b"\xff"), "not UTF-8"),
        (chunk(10, chunk(1, b"x")), "attribute 'x' without a value"),
        (chunk(10, chunk(3, b"x")), "wire type 2"),
        (chunk(10, chunk(1, b"x") + number(9, 1)) * 2, "attribute 'x' twice"),
        (chunk(10, chunk(1, b"x") + chunk(4, chunk(1, struct.pack("<d", 1.0)[:5]))), "ends amid a value"),
        (chunk(8, chunk(5, b"")), "field 5 of IOInfo"),
    ],
)
def test_a_node_that_is_none(data: bytes, what: str) -> None:
    with pytest.raises(WireError, match=what):
        schema.read_node(data)


@given(st.binary(max_size=60))
def test_any_bytes_are_a_trace_or_one_error(data: bytes) -> None:
    at = 0
    try:
        header, *nodes = schema.messages(data)
        assert isinstance(header, Header)
        assert all(isinstance(n, Node) for n in nodes)
    except WireError as error:
        at = error.at
    assert 0 <= at <= len(data)
