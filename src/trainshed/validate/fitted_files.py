"""Writes ``hardware/fitted.toml`` and ``software/fitted.toml``: only the fitting program does."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainshed import hardware, software
from trainshed.validate import fits

_HEAD = """# Written by `python -m trainshed.validate.fit` (constants and rows: validate/fits/); never edited by hand.
"""


@dataclass(frozen=True, kw_only=True)
class Fitted:
    """One fitted constant with the rows that it rests on."""

    scope: str
    owner: str
    key: str
    value: float
    unit: str
    source: str
    note: str
    date: str

    @property
    def name(self) -> str:
        """Owner and mechanism."""
        return f"{self.scope}/{self.owner}.{self.key}"

    @property
    def entry(self) -> dict[str, Any]:
        """The entry of the file: a bare number is a fraction, any other quantity carries its unit."""
        digits = float(f"{self.value:.4g}")
        return {
            "value": digits if self.unit == "1" else f"{digits!r} {self.unit}", "status": "fitted",
            "source": self.source, "date": self.date, "note": self.note,
        }  # fmt: skip


def files() -> dict[str, Path]:
    """Scope → the file that holds its fitted constants."""
    hard = Path(str(hardware.__file__)).parent / "fitted.toml"
    soft = Path(str(software.__file__)).parent / "fitted.toml"
    return {"chip": hard, "interconnect": hard, "framework": soft, "engine": soft}


def read(path: Path) -> dict[tuple[str, str], dict[str, Any]]:
    """(scope, owner) → mechanism → entry, of either file's form."""
    raw = tomllib.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for key, table in raw.items():
        if "/" in key:
            scope, owner = key.split("/", 1)
            found[scope, owner] = dict(table)
        else:
            found |= {(key, owner): dict(entries) for owner, entries in table.items()}
    return found


def values() -> dict[str, float]:
    """Every fitted constant by its full name, in the unit that the files print."""
    found: dict[str, float] = {}
    for path in set(files().values()):
        for (scope, owner), entries in read(path).items():
            middle = ".fitted" if scope == "chip" else ""
            for key, entry in entries.items():
                found[f"{scope}/{owner}{middle}.{key}"] = float(str(entry["value"]).split()[0])
    return found


def save(entries: Sequence[Fitted], stage: fits.Stage) -> bool:
    """Put a stage's constants in place of those that it wrote before; what no stage names any more goes.

    True if a constant fell away.
    """
    fell_away = False
    known = {(m.scope, m.mechanism) for s in (*fits.stages(), stage) for m in s.mechanisms}
    new = {(e.scope, e.owner, e.key) for e in entries}
    for path in set(files().values()):
        kept = read(path)
        for (scope, owner), mechanisms in kept.items():
            ours = {m.mechanism for m in stage.mechanisms if m.scope == scope and m.has(owner)}
            fell_away |= any((scope, owner, key) not in new for key in ours & mechanisms.keys())
            kept[scope, owner] = {k: v for k, v in mechanisms.items() if k not in ours and (scope, k) in known}
        for entry in entries:
            if files()[entry.scope] == path:
                kept.setdefault((entry.scope, entry.owner), {})[entry.key] = entry.entry
        path.write_text(_text(kept), encoding="utf-8")
    return fell_away


def _text(entries: Mapping[tuple[str, str], Mapping[str, Any]]) -> str:
    lines = [_HEAD]
    for (scope, owner), mechanisms in sorted(entries.items()):
        if mechanisms:
            inner = "\n".join(f"{json.dumps(k)} = {_inline(mechanisms[k])}" for k in sorted(mechanisms))
            nested = scope in {"chip", "interconnect"}
            title = f"{scope}.{json.dumps(owner)}" if nested else json.dumps(f"{scope}/{owner}")
            lines.append(f"[{title}]\n{inner}\n")
    return "\n".join(lines)


def _inline(entry: Mapping[str, Any]) -> str:
    words = (f"{k} = {json.dumps(v, ensure_ascii=False) if isinstance(v, str) else repr(v)}" for k, v in entry.items())
    return "{ " + ", ".join(words) + " }"
