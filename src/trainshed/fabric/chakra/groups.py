"""Which ranks a collective's node speaks to: by name (a file of groups, PyTorch's own metadata) or by dimensions."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from trainshed.core import UserError

#: The name under which a directory holds its groups (ASTRA-sim takes the file by ``--comm-group-configuration``).
FILE = "comm_group.json"
_EXPECTED = 'an object of names and lists of ranks, {"1": [0, 1], "2": [2, 3]}'


def _members(name: str, found: Any, ranks: int, where: str) -> tuple[int, ...]:
    whole = isinstance(found, list) and all(isinstance(r, int) and not isinstance(r, bool) for r in found)
    if not whole or len(set(found)) != len(found):
        raise UserError(f"group {name!r}", where=where, value=found, expected="a list of distinct ranks")
    outside = [r for r in found if not 0 <= r < ranks]
    if outside:
        raise UserError(
            f"group {name!r} has a rank without a trace", where=where, value=outside[0], expected=f"0 to {ranks - 1}"
        )
    return tuple(sorted(found)) or tuple(range(ranks))


def read_groups(path: Path, ranks: int) -> dict[str, tuple[int, ...]]:
    """ASTRA-sim's file of communicator groups: name → ranks."""
    try:
        found = json.loads(path.read_text())
    except (ValueError, OSError) as error:
        raise UserError("no readable groups", where=str(path), value=str(error), expected=_EXPECTED) from None
    if not isinstance(found, dict):
        raise UserError("no groups", where=str(path), value=type(found).__name__, expected=_EXPECTED)
    return {name: _members(name, members, ranks, str(path)) for name, members in found.items()}


def process_groups(text: str, ranks: int, where: str) -> dict[str, tuple[int, ...]]:
    """PyTorch's process groups, as a metadata node has them among its inputs: a list of objects in brackets and quotes.

    No ranks listed means all of them.
    """
    begin, end = text.find("[{"), text.rfind("}]")
    if begin < 0 or end < begin:
        return {}
    try:
        found = json.loads(text[begin : end + 2].replace('\\"', '"'))
        pairs = [(str(group["pg_name"]), group["ranks"]) for group in found if "pg_name" in group]
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(
            "process groups that cannot be read",
            where=where,
            value=str(error),
            expected='[{"pg_name": …, "ranks": […]}]',
        ) from None
    return {name: _members(name, members, ranks, where) for name, members in pairs}


def along(
    rank: int, involved: Sequence[bool], dims: Sequence[int], ranks: int, where: str
) -> tuple[int, ...]:  # fmt: skip
    """The ranks that differ from ``rank`` in dimensions that are involved alone; the first dimension is innermost."""
    if all(involved):
        return tuple(range(ranks))
    if not dims or len(involved) < len(dims):
        raise UserError(
            "involved_dim names some dimensions of a network", where=where, value=list(involved),
            expected="the ranks per dimension beside it (dims)" if not dims else f"{len(dims)} of them",
        )  # fmt: skip
    members, stride = [rank], 1
    for length, taken in zip(dims, involved, strict=False):
        if taken:
            base = [m - (m // stride % length) * stride for m in members]
            members = [b + k * stride for b in base for k in range(length)]
        stride *= length
    return tuple(sorted(set(members)))


def resolve(
    name: str, rank: int, known: Mapping[str, tuple[int, ...]], ranks: int, where: str
) -> tuple[int, ...]:  # fmt: skip
    """The members of a named group; "" and "0" are all ranks where nothing else is said (ASTRA-sim)."""
    if name not in known:
        if name in ("", "0"):
            return tuple(range(ranks))
        raise UserError(
            "a group that nothing defines", where=where, value=name,
            expected=f"a name of {FILE} or of a process group's metadata node ({', '.join(known) or 'there are none'})",
        )  # fmt: skip
    if rank not in known[name]:
        raise UserError(
            "a collective of a group that its rank is not in", where=where, value=name,
            expected=f"one of ranks {', '.join(map(str, known[name][:12]))}",
        )  # fmt: skip
    return known[name]
