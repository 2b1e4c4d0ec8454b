"""Sourced entries of software TOML, before they are named: a version may take them from another one."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from trainshed.core import Constant, UserError

_KEYS = {"value", "unit", "status", "source", "date", "note"}


@dataclass(frozen=True)
class Entry:
    """One sourced number without a name yet."""

    value: float
    unit: str
    status: str
    source: str
    date: str = ""
    note: str = ""

    def carried(self, version: str) -> Entry:
        """The entry as it stands in for another version."""
        return replace(self, note=f"carried from {version}. {self.note}".strip())

    def constant(self, name: str) -> Constant:
        """The constant of that full name."""
        return Constant(
            name=name, value=self.value, unit=self.unit, status=self.status, source=self.source,  # type: ignore[arg-type]
            date=self.date, note=self.note,
        )  # fmt: skip


def read(path: Path) -> dict[str, Any]:
    """A TOML file as plain tables; a broken one is the user's mistake."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError as error:
        raise UserError("broken TOML", where=str(path), value=str(error), expected="valid TOML 1.0") from error


def is_entry(value: object) -> bool:
    """True for ``{ value = …, status = …, source = … }``."""
    return isinstance(value, Mapping) and "value" in value


def entry(raw: Mapping[str, Any], path: Path, key: str) -> Entry:
    """A checked entry."""
    for name in raw:
        if name not in _KEYS:
            raise UserError("unknown key", where=f"{path.name}: {key}", value=name, expected=", ".join(sorted(_KEYS)))
    for name in ("value", "unit", "status", "source"):
        if name not in raw:
            raise UserError(f"no {name}", where=f"{path.name}: {key}", value=dict(raw), expected=f"a {name}")
    return Entry(**{**raw, "value": float(raw["value"])})


def tables(path: Path) -> dict[str, dict[str, Entry]]:
    """A file of tables of entries, by quoted table name (none where there is no such file)."""
    raw = read(path) if path.exists() else {}
    return {name: {k: entry(v, path, f"{name}.{k}") for k, v in table.items()} for name, table in raw.items()}
