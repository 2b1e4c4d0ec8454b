"""Strict reading of sourced TOML: the only way hardware and software numbers enter Trainshed.

A number is a table of its own, ``hbm_bandwidth = { value = "4.9 TB/s", from = "device", note = "…" }``, where
``from`` names an entry of the file's ``[sources]`` (``source``, ``status``, ``date``), or those three are written in
place; ``alternatives`` are numbers of the same form that other sources print. Every key must be asked for: what
nobody asked for is unknown, and an error that names file, key and line, as do wrong kinds, missing units, duplicates.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

from trainshed import units
from trainshed.core.constant import Constant, Status
from trainshed.core.errors import UserError, unknown_name

Path_ = tuple[str | int, ...]
_NUMBER_KEYS = frozenset({"value", "from", "source", "status", "date", "note", "alternatives"})
_SOURCE_KEYS = frozenset({"source", "status", "date"})
_STATUSES = get_args(Status)


def quantity(text: object, unit: str, *, where: str) -> float:
    """A quantity that a user wrote, in ``unit``; a unit-less, negative or foreign one is a UserError."""
    try:
        return units.parse(str(text), unit)
    except units.UnitError as error:
        raise UserError(error.what, where=where, value=error.text, expected=error.expected) from error


@dataclass(frozen=True, kw_only=True)
class File:
    """One TOML file as read: its text stays, to find the line of a mistake."""

    path: Path
    text: str
    sources: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    def where(self, path: Path_) -> str:
        """``chips/trn3.toml, key hbm_bandwidth, line 12``."""
        key = ".".join(str(p) for p in path if isinstance(p, str)) or "(file)"
        line = _line_of(self.text, path)
        return f"{self.path.parent.name}/{self.path.name}, key {key}" + (f", line {line}" if line else "")


class Table:
    """A TOML table whose every key must be asked for once; ``done`` then rejects what is left."""

    def __init__(self, data: Mapping[str, Any], file: File, path: Path_ = ()) -> None:
        self.data, self.file, self.path = data, file, path
        self._asked: set[str] = set()

    def error(self, what: str, key: str = "", *, value: object = None, expected: str) -> UserError:
        """A UserError that points at a key of this table."""
        path = (*self.path, key) if key else self.path
        return UserError(what, where=self.file.where(path), value=value, expected=expected)

    def __contains__(self, key: str) -> bool:
        self._asked.add(key)
        return key in self.data

    def keys(self) -> list[str]:
        """The keys in the order of the file."""
        return list(self.data)

    def __iter__(self) -> Iterator[str]:
        return iter(self.data)

    def _take(self, key: str, kind: type | tuple[type, ...], expected: str, default: Any) -> Any:
        self._asked.add(key)
        if key not in self.data:
            if default is _REQUIRED:
                raise self.error(f"missing key {key}", value=None, expected=f"{key} = {expected}")
            return default
        value = self.data[key]
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            raise self.error(f"wrong kind of value for {key}", key, value=value, expected=expected)
        return value

    def text(self, key: str, default: Any = ...) -> str:
        """A string."""
        return str(self._take(key, str, "a string", _REQUIRED if default is ... else default))

    def choice(self, key: str, options: Iterable[str], default: Any = ...) -> str:
        """One of a few words."""
        value = self.text(key, default)
        if value not in (known := list(options)):
            raise unknown_name(key, value, known, where=self.file.where((*self.path, key)))
        return value

    def optional_text(self, key: str) -> str | None:
        """A string or None."""
        value = self._take(key, str, "a string", None)
        return None if value is None else str(value)

    def flag(self, key: str, default: bool = False) -> bool:
        """true or false."""
        return bool(self._take(key, bool, "true or false", default))

    def integer(self, key: str, default: Any = ...) -> int:
        """A positive whole number (counts that shape a system)."""
        value = self._take(key, int, "a whole number", _REQUIRED if default is ... else default)
        if value < 1:
            raise self.error(f"{key} must be at least 1", key, value=value, expected="a whole number of at least 1")
        return int(value)

    def texts(self, key: str) -> tuple[str, ...]:
        """A list of strings, empty if absent."""
        value = self._take(key, list, "a list of strings", [])
        if not all(isinstance(v, str) for v in value):
            raise self.error(f"wrong kind of value for {key}", key, value=value, expected="a list of strings")
        return tuple(value)

    def integers(self, key: str) -> tuple[int, ...]:
        """A list of positive whole numbers, empty if absent."""
        value = self._take(key, list, "a list of whole numbers", [])
        if not all(isinstance(v, int) and v > 0 for v in value):
            raise self.error(f"wrong kind of value for {key}", key, value=value, expected="a list of whole numbers")
        return tuple(value)

    def table(self, key: str) -> Table | None:
        """A table inside this one, or None."""
        value = self._take(key, dict, "a table", None)
        return None if value is None else Table(value, self.file, (*self.path, key))

    def tables(self, key: str) -> list[Table]:
        """A list of tables (``[[key]]``), empty if absent."""
        value = self._take(key, list, "a list of tables", [])
        return [Table(v, self.file, (*self.path, key, i)) for i, v in enumerate(value)]

    def number(self, key: str, unit: str, *, name: str) -> Constant:
        """A sourced number in ``unit``; ``name`` is its full constant name."""
        self._take(key, dict, '{ value = "4.9 TB/s", status = …, source = … }', _REQUIRED)
        return self._constant(self.data[key], unit, name, (*self.path, key))

    def optional_number(self, key: str, unit: str, *, name: str) -> Constant | None:
        """A sourced number, or None where nobody states it."""
        self._asked.add(key)
        return self.number(key, unit, name=name) if key in self.data else None

    def _constant(self, spec: Mapping[str, Any], unit: str, name: str, path: Path_) -> Constant:
        here = self.file.where  # costs a search through the text: only for errors
        if left := set(spec) - _NUMBER_KEYS:
            raise unknown_name("key of a number", min(left), _NUMBER_KEYS, where=here((*path, min(left))))
        origin = self._origin(spec, path)
        value = spec.get("value")
        if isinstance(value, bool) or not isinstance(value, str | int | float):
            raise UserError("a number needs a value", where=here(path), value=value, expected=f"a quantity in {unit}")
        alternatives = spec.get("alternatives", [])
        if not isinstance(alternatives, list) or not all(isinstance(a, dict) for a in alternatives):
            raise UserError("wrong alternatives", where=here(path), value=alternatives, expected="a list of numbers")
        return Constant(
            name=name, value=self._value(value, unit, path), unit=unit, status=origin["status"],
            source=origin["source"], date=origin.get("date", ""), note=spec.get("note", ""),
            alternatives=tuple(
                self._constant(a, unit, f"{name}.alternative{i + 1}", path) for i, a in enumerate(alternatives)
            ),
        )  # fmt: skip

    def _value(self, value: object, unit: str, path: Path_) -> float:
        try:
            return units.parse(str(value), unit)
        except units.UnitError as error:
            raise UserError(
                error.what, where=self.file.where(path), value=error.text, expected=error.expected
            ) from error

    def _origin(self, spec: Mapping[str, Any], path: Path_) -> dict[str, Any]:
        origin: dict[str, Any] = {}
        if "from" in spec:
            if spec["from"] not in self.file.sources:
                raise unknown_name("source", str(spec["from"]), self.file.sources, where=self.file.where(path))
            origin |= self.file.sources[spec["from"]]
        origin |= {k: v for k, v in spec.items() if k in _SOURCE_KEYS}
        for key in ("source", "status"):
            if not origin.get(key):
                raise UserError(
                    f"a number needs a {key}", where=self.file.where(path), value=spec.get("value"),
                    expected='status and source, or from = "a key of [sources]"',
                )  # fmt: skip
        if origin["status"] not in _STATUSES:
            raise unknown_name("status", str(origin["status"]), _STATUSES, where=self.file.where(path))
        return origin

    def done(self) -> None:
        """Reject every key that nobody asked for."""
        if left := [k for k in self.data if k not in self._asked]:
            raise unknown_name("key", left[0], self._asked, where=self.file.where((*self.path, left[0])))


_REQUIRED: Any = object()


def read(path: Path, text: str | None = None) -> Table:
    """The root table of a TOML file (``text``: its content, where it was read already)."""
    try:
        content = path.read_text(encoding="utf-8") if text is None else text
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(
            "cannot read the file", where=str(path), value=type(error).__name__, expected="a TOML file"
        ) from error
    try:
        data = tomllib.loads(content)
    except tomllib.TOMLDecodeError as error:
        where = f"{path.parent.name}/{path.name}"
        raise UserError("broken TOML", where=where, value=str(error), expected="valid TOML") from error
    raw = data.pop("sources", {})
    file = File(path=path, text=content, sources=raw)
    for key, entry in raw.items():
        if not isinstance(entry, dict) or not {"source"} <= set(entry) <= _SOURCE_KEYS:
            where = file.where(("sources", key))
            raise UserError("bad source", where=where, value=entry, expected="{ source = …, status = …, date = … }")
    return Table(data, file)


_HEADER = re.compile(r"^\s*\[(\[)?\s*([^\]]+?)\s*\]")
_PART = re.compile(r'"([^"]*)"|\'([^\']*)\'|([^.\s]+)')


def _parts(dotted: str) -> list[str]:
    return [a or b or c for a, b, c in _PART.findall(dotted)]


def _line_of(text: str, path: Sequence[str | int]) -> int | None:
    """The line where the key at ``path`` (or the nearest table around it) is written."""
    header: list[str | int] = []
    counts: dict[tuple[str, ...], int] = {}
    best, depth = None, 0
    for number, line in enumerate(text.splitlines(), 1):
        if match := _HEADER.match(line):
            names = _parts(match[2])
            header = list(names)
            if match[1]:
                counts[tuple(names)] = counts.get(tuple(names), -1) + 1
            for size in range(len(names), 0, -1):
                if tuple(names[:size]) in counts:
                    header.insert(size, counts[tuple(names[:size])])
            here: list[str | int] = header
        elif "=" in line and not line.lstrip().startswith("#"):
            here = header + list(_parts(line.split("=", 1)[0]))
        else:
            continue
        if len(here) > depth and list(path[: len(here)]) == here:
            best, depth = number, len(here)
    return best
