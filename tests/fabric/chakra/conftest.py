"""Chakra's messages as the protobuf package understands them, made here from field numbers: an independent reader."""

from __future__ import annotations

from typing import Any

import pytest

KINDS = (
    "double", "float", "int32", "int64", "uint32", "uint64", "sint32", "sint64", "fixed32", "fixed64", "sfixed32",
    "sfixed64", "bool", "string", "bytes",
)  # fmt: skip


@pytest.fixture(scope="session")
def chakra() -> dict[str, Any]:
    """Message classes by name."""
    descriptor_pb2 = pytest.importorskip("google.protobuf.descriptor_pb2")
    from google.protobuf import descriptor_pool, message_factory

    field = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(name="et.proto", package="P", syntax="proto3")

    def message(name: str, *fields: tuple[int, str, str, bool]) -> Any:
        made = file.message_type.add(name=name)
        for number, label, kind, many in fields:
            one = made.field.add(name=label, number=number)
            one.label = field.LABEL_REPEATED if many else field.LABEL_OPTIONAL
            if kind[0].isupper():
                one.type, one.type_name = field.TYPE_MESSAGE, f".P.{kind}"
            else:
                one.type = getattr(field, f"TYPE_{kind.upper()}")
        return made

    for kind in KINDS:
        message(f"{kind.capitalize()}List", (1, "values", kind, True))
    values = [(3 + 2 * i, f"{k}_val", k, False) for i, k in enumerate(KINDS)]
    values += [(4 + 2 * i, f"{k}_list", f"{k.capitalize()}List", False) for i, k in enumerate(KINDS)]
    attribute = message("Attribute", (1, "name", "string", False), (2, "doc_string", "string", False), *values)
    attribute.oneof_decl.add(name="value")
    for one in attribute.field[2:]:
        one.oneof_index = 0
    message("Header", (1, "version", "string", False), (2, "attr", "Attribute", True))
    message("Info", *((i + 1, n, "string", False) for i, n in enumerate(("values", "shapes", "types", "strides"))))
    message(
        "Node", (1, "id", "uint64", False), (2, "name", "string", False), (3, "type", "int32", False),
        (4, "ctrl_deps", "uint64", True), (5, "data_deps", "uint64", True), (6, "start_time_micros", "uint64", False),
        (7, "duration_micros", "uint64", False), (8, "inputs", "Info", False), (9, "outputs", "Info", False),
        (10, "attr", "Attribute", True),
    )  # fmt: skip
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {n: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"P.{n}"))
            for n in ("Header", "Node", "Attribute")}  # fmt: skip
