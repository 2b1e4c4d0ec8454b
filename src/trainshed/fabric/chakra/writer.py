"""A trace as files that ASTRA-sim and Chakra's own tools read: one per rank, and the groups beside them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from trainshed.core import UserError
from trainshed.fabric.chakra import schema
from trainshed.fabric.chakra.groups import FILE
from trainshed.fabric.chakra.reader import ALGORITHM, COPIES, DTYPE, EXACT, KIND, group_names
from trainshed.fabric.chakra.schema import Attribute, Header, Node
from trainshed.fabric.chakra.trace import Floats, Ints, Trace
from trainshed.fabric.chakra.wire import varint

#: Kinds of the fabric by the ``CollectiveCommType`` that says it, or comes nearest.
_TYPES = {
    "all_reduce": "ALL_REDUCE", "all_gather": "ALL_GATHER", "broadcast": "BROADCAST", "all_to_all": "ALL_TO_ALL",
    "reduce_scatter": "REDUCE_SCATTER", "moe_dispatch": "ALL_TO_ALL", "moe_combine": "ALL_TO_ALL",
}  # fmt: skip


def write(trace: Trace, directory: Path | str) -> list[Path]:
    """Write ``NAME.RANK.et`` for every rank and ``comm_group.json``; what is there already is not overwritten.

    Durations are whole microseconds there, rounded so that a rank's sum is right to one of them; the exact value goes
    into an attribute of our own (``trainshed.seconds``), as does what the schema has no place for.
    """
    directory = Path(directory)
    paths = [directory / f"{trace.name}.{rank}.et" for rank in range(trace.ranks)]
    there = [p for p in (*paths, directory / FILE) if p.exists()]
    if there:
        raise UserError("a file that is there already", where="traces", value=str(there[0]), expected="a new directory")
    called = np.unique(trace.call[trace.kind == schema.COLLECTIVE])
    unknown = sorted({trace.calls[int(c)].kind for c in called} - set(_TYPES))
    if unknown:
        raise UserError("no Chakra node for it", where=trace.name, value=unknown[0], expected=", ".join(_TYPES))
    directory.mkdir(parents=True, exist_ok=True)
    names = group_names(trace)
    ends = np.searchsorted(trace.rank, np.arange(trace.ranks + 1))
    micros = whole_micros(trace.seconds, trace.rank)
    for rank, path in enumerate(paths):
        nodes = (_node(trace, k, int(micros[k]), names.get(int(trace.group[k]), ""))
                 for k in range(ends[rank], ends[rank + 1]))  # fmt: skip
        bodies = [schema.write_header(Header()), *map(schema.write_node, nodes)]
        path.write_bytes(b"".join(varint(len(body)) + body for body in bodies))
    listed = {name: trace.groups[i].members.tolist() for i, name in names.items()}
    (directory / FILE).write_text(json.dumps(listed) + "\n")
    return paths


def whole_micros(seconds: Floats, rank: Ints) -> Ints:
    """Durations in whole microseconds whose sums over each rank, node after node, are right to one of them."""
    begin = np.concatenate([[True], rank[1:] != rank[:-1]])[: len(rank)]
    total = np.cumsum(np.nan_to_num(seconds) * 1e6)
    before = np.concatenate([[0.0], total[:-1]])
    # what had passed when the rank began, for each of its nodes
    start = before[np.maximum.accumulate(np.where(begin, np.arange(len(rank)), 0))]
    return np.asarray(np.rint(total - start) - np.rint(before - start), dtype=np.int64)


def _node(trace: Trace, k: int, micros: int, group: str) -> Node:
    found: dict[str, Attribute] = {"is_cpu_op": Attribute(kind="bool", value=bool(trace.host[k]))}
    if np.isfinite(trace.seconds[k]):
        found[EXACT] = Attribute(kind="double", value=float(trace.seconds[k]))
    if np.isfinite(trace.ops[k]):
        found["num_ops"] = Attribute(kind="int64", value=round(trace.ops[k]))
    if np.isfinite(trace.bytes[k]):
        found["tensor_size"] = Attribute(kind="uint64", value=round(trace.bytes[k]))
    kind = int(trace.kind[k])
    if kind in (schema.SEND, schema.RECEIVE):
        found |= _message(trace, k)
    elif kind == schema.COLLECTIVE:
        found |= _collective(trace, k, group)
    depends = trace.before[trace.first[k] : trace.first[k + 1]]
    return Node(
        id=int(trace.id[k]), name=trace.label[k], type=kind, data=tuple(trace.id[depends].tolist()),
        duration_micros=micros, attributes=found,
    )  # fmt: skip


def _message(trace: Trace, k: int) -> dict[str, Attribute]:
    own, other = ("comm_src", "comm_dst") if trace.kind[k] == schema.SEND else ("comm_dst", "comm_src")
    return {
        "comm_size": Attribute(kind="int64", value=round(trace.size[k])),
        own: Attribute(kind="int32", value=int(trace.rank[k])),
        other: Attribute(kind="int32", value=int(trace.peer[k])),
        "comm_tag": Attribute(kind="int32", value=int(trace.tag[k])),
    }  # fmt: skip


def _collective(trace: Trace, k: int, group: str) -> dict[str, Attribute]:
    call = trace.calls[int(trace.call[k])]
    size, kind = float(trace.size[k]), _TYPES[call.kind]
    if call.kind == "all_gather":
        size /= len(trace.groups[int(trace.group[k])].members)
    found = {
        "comm_type": Attribute(kind="int64", value=schema.COLLECTIVE_TYPES.index(kind)),
        "comm_size": Attribute(kind="int64", value=round(size)),
    }  # fmt: skip
    if group:
        found["pg_name"] = Attribute(kind="string", value=group)
    if call.kind.startswith("moe_"):
        found[KIND] = Attribute(kind="string", value=call.kind)
        found[COPIES] = Attribute(kind="double", value=call.copies)
    if call.algorithm != "auto":
        found[ALGORITHM] = Attribute(kind="string", value=call.algorithm)
    if call.dtype != "bf16":
        found[DTYPE] = Attribute(kind="string", value=call.dtype)
    return found
