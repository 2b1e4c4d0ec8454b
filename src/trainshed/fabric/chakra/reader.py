"""A directory of Chakra traces as columns: one file per rank, ``NAME.RANK.et``; strict."""

from __future__ import annotations

import gzip
import math
import re
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from trainshed.core import UserError
from trainshed.fabric.chakra import schema
from trainshed.fabric.chakra.groups import FILE, along, process_groups, read_groups, resolve
from trainshed.fabric.chakra.schema import Attribute, Header, Node
from trainshed.fabric.chakra.trace import Builder, Call, Trace
from trainshed.fabric.chakra.wire import WireError
from trainshed.fabric.collective import KINDS

#: What each ``CollectiveCommType`` is to the fabric. A reduction to one rank moves a broadcast's bytes the other way
#: round; a barrier is an all-reduce of nothing.
CALLS = {
    "ALL_REDUCE": "all_reduce", "REDUCE": "broadcast", "ALL_GATHER": "all_gather", "BROADCAST": "broadcast",
    "ALL_TO_ALL": "all_to_all", "REDUCE_SCATTER": "reduce_scatter", "REDUCE_SCATTER_BLOCK": "reduce_scatter",
    "BARRIER": "all_reduce",
}  # fmt: skip
#: Attributes of Trainshed's own: what the schema has no place for. Other readers pass over them.
EXACT, KIND, ALGORITHM, DTYPE, COPIES = (
    f"trainshed.{name}" for name in ("seconds", "kind", "algorithm", "dtype", "copies")
)
_FILE = re.compile(r"(?P<name>.+)\.(?P<rank>\d+)\.et(\.gz)?")


def files(directory: Path, name: str | None = None) -> tuple[str, list[Path]]:
    """The trace's name and its files in the order of ranks."""
    if not directory.is_dir():
        raise UserError("no directory", where="traces", value=str(directory), expected="one with NAME.RANK.et files")
    found: dict[str, dict[int, Path]] = {}
    for path in sorted(directory.iterdir()):
        match = _FILE.fullmatch(path.name)
        if match:
            mine = found.setdefault(match["name"], {})
            if int(match["rank"]) in mine:
                raise UserError("two files of one rank", where=str(directory), value=path.name, expected="one of each")
            mine[int(match["rank"])] = path
    if name is None and len(found) > 1:
        raise UserError(
            "several traces", where=str(directory), value=", ".join(found), expected="one, or the name of one of them"
        )
    name = next(iter(found), "") if name is None else name
    if name not in found:
        raise UserError("no trace", where=str(directory), value=name, expected="files NAME.RANK.et, ranks from 0 on")
    ranks = found[name]
    missing = sorted(set(range(max(ranks) + 1)) - set(ranks))
    if missing:
        raise UserError(
            "a rank without a trace", where=str(directory), value=f"{name}.{missing[0]}.et",
            expected=f"a file of each rank from 0 to {max(ranks)}",
        )  # fmt: skip
    return name, [ranks[r] for r in sorted(ranks)]


def read_file(path: Path) -> tuple[Header, list[Node]]:
    """Header and nodes of one rank's file (gzipped or not)."""
    data = path.read_bytes()
    try:
        if data[:2] == b"\x1f\x8b":
            data = gzip.decompress(data)
        header, *nodes = schema.messages(data)
    except (WireError, gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise UserError(
            "no whole Chakra trace", where=str(path), value=str(error),
            expected="GlobalMetadata and Node messages of Chakra's schema 0.0.4 or 1.0, each behind its length",
        ) from None  # fmt: skip
    assert isinstance(header, Header)
    return header, [n for n in nodes if isinstance(n, Node)]


def read(
    directory: Path | str, *, name: str | None = None, groups: Path | str | None = None, dims: Sequence[int] = ()
) -> Trace:  # fmt: skip
    """The trace of all ranks in a directory.

    ``groups``: the file of communicator groups (default ``comm_group.json`` beside the traces, if it is there).
    ``dims``: ranks per dimension, innermost first, for traces that name ``involved_dim``.
    """
    directory = Path(directory)
    name, paths = files(directory, name)
    if dims and math.prod(dims) != len(paths):
        raise UserError("dims", where=str(directory), value=list(dims), expected=f"a product of {len(paths)} ranks")
    beside = directory / FILE
    known = (
        read_groups(Path(groups), len(paths)) if groups else read_groups(beside, len(paths)) if beside.exists() else {}
    )
    made = Builder(name=name, ranks=len(paths))
    for rank, path in enumerate(paths):
        _Rank(rank, path, made, dict(known), tuple(dims)).add()
    return made.trace()


class _Rank:
    """One rank's nodes on their way into the builder."""

    def __init__(
        self, rank: int, path: Path, made: Builder, known: dict[str, tuple[int, ...]], dims: tuple[int, ...]
    ) -> None:  # fmt: skip
        self.rank, self.path, self.made, self.known, self.dims = rank, path, made, known, dims

    def add(self) -> None:
        _, nodes = read_file(self.path)
        begin = len(self.made)
        place: dict[int, int] = {}
        for node in nodes:
            if node.id in place:
                raise self._wrong(node, "an id twice", node.id, "an id of its own")
            place[node.id] = begin + len(place)
            if node.type == schema.METADATA and node.inputs.values:
                self.known |= process_groups(node.inputs.values, self.made.ranks, self._at(node))
        for node in nodes:
            after = dict.fromkeys([*node.data, *node.control])
            missing = [d for d in after if d not in place]
            if missing:
                raise self._wrong(node, "depends on a node that is not there", missing[0], "ids of nodes of this file")
            self._one(node, [place[d] for d in after])

    def _one(self, node: Node, after: Sequence[int]) -> None:
        if node.type >= len(schema.NODE_TYPES):
            raise self._wrong(node, "unknown type of node", node.type, f"0 to {len(schema.NODE_TYPES) - 1}")
        if node.id >= 1 << 63:
            raise self._wrong(node, "an id beyond 63 bits", node.id, "less than 2^63")
        exact = self._number(node, EXACT, math.nan)
        recorded = node.duration_micros * 1e-6 if node.duration_micros else math.nan
        host = node.attributes.get("is_cpu_op")
        self.made.add(
            self.rank, node.type, node.name, after, id=node.id, host=host is not None and bool(host.value),
            seconds=recorded if math.isnan(exact) else exact, ops=self._number(node, "num_ops", math.nan),
            bytes=self._number(node, "tensor_size", math.nan), **self._communication(node),
        )  # fmt: skip

    def _communication(self, node: Node) -> dict[str, Any]:
        if node.type == schema.COLLECTIVE:
            return self._collective(node)
        if node.type not in (schema.SEND, schema.RECEIVE):
            return {}
        own, other = ("comm_src", "comm_dst") if node.type == schema.SEND else ("comm_dst", "comm_src")
        if self._whole(node, own, self.rank) != self.rank:
            raise self._wrong(node, own, self._whole(node, own), f"the trace's own rank, {self.rank}")
        peer = self._whole(node, other)
        if not 0 <= peer < self.made.ranks or peer == self.rank:
            raise self._wrong(node, other, peer, f"another rank, 0 to {self.made.ranks - 1}")
        return {"call": Call(kind="permute"), "size": self._number(node, "comm_size"), "peer": peer,
                "tag": self._whole(node, "comm_tag", 0)}  # fmt: skip

    def _collective(self, node: Node) -> dict[str, Any]:
        number = self._whole(node, "comm_type")
        name = schema.COLLECTIVE_TYPES[number] if 0 <= number < len(schema.COLLECTIVE_TYPES) else str(number)
        if name not in CALLS:
            raise self._wrong(node, "a collective that the fabric does not time", name, ", ".join(CALLS))
        kind = self._word(node, KIND, CALLS[name])
        if kind not in KINDS:
            raise self._wrong(node, KIND, kind, ", ".join(KINDS))
        members = self._members(node)
        group = self.made.group(members, self._word(node, "pg_name", "") if "pg_name" in node.attributes else None)
        size = 0.0 if name == "BARRIER" else self._number(node, "comm_size")
        call = Call(
            kind=kind, algorithm=self._word(node, ALGORITHM, "auto"), dtype=self._word(node, DTYPE, "bf16"),
            copies=self._number(node, COPIES, 1.0),
        )  # fmt: skip
        # comm_size is what one rank gives: of an all_gather its part of the output
        return {"call": call, "group": group, "size": size * (len(members) if kind == "all_gather" else 1)}

    def _members(self, node: Node) -> tuple[int, ...]:
        involved = node.attributes.get("involved_dim")
        if "pg_name" in node.attributes or involved is None:
            return resolve(
                self._word(node, "pg_name", ""), self.rank, self.known, self.made.ranks, self._at(node)
            )  # fmt: skip
        if involved.kind != "bool" or not isinstance(involved.value, tuple):
            raise self._wrong(node, "involved_dim", involved.value, "a list of truth values")
        chosen = [bool(v) for v in involved.value]
        return along(self.rank, chosen, self.dims, self.made.ranks, self._at(node))

    def _get(self, node: Node, name: str) -> Attribute:
        if name not in node.attributes:
            raise self._wrong(node, f"no attribute {name}", None, f"{name}, which nodes of this type have")
        return node.attributes[name]

    def _number(self, node: Node, name: str, default: float | None = None) -> float:
        if default is not None and name not in node.attributes:
            return default
        found = self._get(node, name)
        numbers = found.kind in schema.INTEGERS or found.kind in ("double", "float")
        if not numbers or not isinstance(found.value, int | float) or not 0 <= found.value < math.inf:
            raise self._wrong(node, name, found.value, "a finite number, at least 0")
        return float(found.value)

    def _whole(self, node: Node, name: str, default: int | None = None) -> int:
        if default is not None and name not in node.attributes:
            return default
        found = self._get(node, name)
        if found.kind not in schema.INTEGERS or not isinstance(found.value, int):
            raise self._wrong(node, name, found.value, "a whole number")
        return found.value

    def _word(self, node: Node, name: str, default: str) -> str:
        if name not in node.attributes:
            return default
        found = node.attributes[name]
        if isinstance(found.value, tuple) or found.kind not in ("string", *schema.INTEGERS):
            raise self._wrong(node, name, found.value, "a text")
        return str(found.value)

    def _at(self, node: Node) -> str:
        return f"{self.path}: node {node.id} ({node.name})"

    def _wrong(self, node: Node, what: str, value: object, expected: str) -> UserError:
        return UserError(what, where=self._at(node), value=value, expected=expected)


def group_names(trace: Trace) -> Mapping[int, str]:
    """Names for a file of groups: positive numbers as ASTRA-sim wants them; none for the group of all ranks."""
    named = [i for i, g in enumerate(trace.groups) if g.name]
    return {i: str(k + 1) for k, i in enumerate(named)}
