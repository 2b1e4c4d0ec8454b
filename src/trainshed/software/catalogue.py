"""Loads frameworks and engines from TOML; free text ("megatron-bridge (NeMo 25.11)") finds the nearest entry."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from functools import cache, cached_property
from pathlib import Path
from typing import Any

from trainshed.core import Constant, Number, UserError, unknown_name
from trainshed.software import toml
from trainshed.software.schema import Engine, Framework, Package

HERE = Path(__file__).parent
_KINDS: dict[str, tuple[str, type[Package]]] = {"framework": ("frameworks", Framework), "engine": ("engines", Engine)}


@dataclass(frozen=True)
class _Family:
    """One TOML file: a family with its versions, oldest first."""

    kind: str
    name: str
    title: str
    aliases: tuple[str, ...]
    newest: str
    """The version taken where neither version nor date is known."""
    versions: tuple[str, ...]
    tables: Mapping[str, Mapping[str, Any]]
    """Policies by version, those of the file filled in."""
    constants: Mapping[str, Mapping[str, toml.Entry]]
    """Own constants by version."""

    def nearest(self, version: str, date: str) -> str:
        """The newest version not after ``version`` (or, without one, ``date``); the oldest if all are after it."""
        if version:
            wanted = _key(version)
            before = [v for v in self.versions if _key(v) <= wanted]
        elif date:
            before = [v for v in self.versions if str(self.tables[v].get("date", "")) <= date]
        else:
            return self.newest
        return before[-1] if before else self.versions[0]


class Software:
    """Every framework and engine, loaded per name; ``overrides`` replace constants by full name."""

    def __init__(self, *, overrides: Mapping[str, Number] | None = None) -> None:
        self._overrides = dict(overrides or {})
        self._cache: dict[tuple[str, str, str], Package] = {}

    def framework(self, name: str, *, version: str = "", date: str = "") -> Framework:
        """The framework that a text names, in the nearest version; ``date`` chooses one where the text does not."""
        found = self._package("framework", name, version, date)
        assert isinstance(found, Framework)
        return found

    def engine(self, name: str, version: str = "", *, date: str = "") -> Engine:
        """The serving engine that a text names, in the nearest version."""
        found = self._package("engine", name, version, date)
        assert isinstance(found, Engine)
        return found

    def default_framework(self, vendor: str) -> Framework:
        """What a user of that vendor's chips gets who names no framework."""
        return self.framework(self._default("framework", vendor))

    def default_engine(self, vendor: str) -> Engine:
        """What a user of that vendor's chips gets who names no engine."""
        return self.engine(self._default("engine", vendor))

    def frameworks(self) -> list[str]:
        """Names of all frameworks with their versions."""
        return [_label(f.name, v) for f in self._families["framework"] for v in f.versions]

    def engines(self) -> list[str]:
        """Names of all engines with their versions."""
        return [_label(f.name, v) for f in self._families["engine"] for v in f.versions]

    @cached_property
    def _families(self) -> dict[str, list[_Family]]:
        return {kind: _read_families(kind) for kind in _KINDS}

    @cached_property
    def _estimates(self) -> Mapping[str, Mapping[str, toml.Entry]]:
        return toml.tables(HERE / "estimates.toml")

    @cached_property
    def _fitted(self) -> Mapping[str, Mapping[str, toml.Entry]]:
        return toml.tables(HERE / "fitted.toml")

    def _default(self, kind: str, vendor: str) -> str:
        for family in self._families[kind]:
            if vendor in family.tables[family.newest].get("default_for", ()):
                return family.name
        raise unknown_name("vendor", vendor, [], where=f"the default {kind}")

    def _package(self, kind: str, text: str, version: str, date: str) -> Package:
        family, wanted = _match(kind, text, self._families[kind])
        chosen = family.nearest(version or wanted, date)
        key = (kind, family.name, chosen)
        if key not in self._cache:
            self._cache[key] = self._build(family, chosen)
        return self._cache[key]

    def _build(self, family: _Family, version: str) -> Package:
        folder, cls = _KINDS[family.kind]
        label = _label(family.name, version)
        policies = {k: v for k, v in family.tables[version].items() if k not in ("aliases", "newest")}
        known = {f.name for f in fields(cls)}
        for key in policies:
            if key not in known:
                raise unknown_name("key", key, known, where=f"{folder}/{family.name}.toml")
        values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in policies.items()}
        values |= {"name": label, "family": family.name, "version": version, "aliases": family.aliases}
        return cls(**values, constants=self._constants(family, version, label))

    def _constants(self, family: _Family, version: str, label: str) -> dict[str, Constant]:
        """Estimates, then what the file says, then what was fitted: each replaces what stands before it."""
        prefix = f"{family.kind}/{label}"
        entries: dict[str, toml.Entry] = dict(self._estimates[family.kind])
        entries |= family.constants[version]
        for v in _by_distance(family.versions, version):
            carried = self._fitted.get(f"{family.kind}/{_label(family.name, v)}", {})
            for key, entry in carried.items():
                if entries.get(key) is None or entries[key].status != "fitted":
                    entries[key] = entry if v == version else entry.carried(_label(family.name, v))
        constants = {key: entry.constant(f"{prefix}.{key}") for key, entry in entries.items()}
        return {
            key: c.with_value(self._overrides[c.name], status="given") if c.name in self._overrides else c
            for key, c in constants.items()
        }


@cache
def _read_families(kind: str) -> list[_Family]:
    return [_family(kind, path) for path in sorted((HERE / _KINDS[kind][0]).glob("*.toml"))]


def _family(kind: str, path: Path) -> _Family:
    raw = toml.read(path)
    versions = raw.pop("version", None)
    if not isinstance(versions, dict) or not versions:
        raise UserError("no versions", where=path.name, value=sorted(raw), expected="at least one [version.…] table")
    shared = {k: v for k, v in raw.items() if not toml.is_entry(v)}
    constants = {k: toml.entry(v, path, k) for k, v in raw.items() if toml.is_entry(v)}
    ordered = tuple(sorted(versions, key=_key))
    own = {
        v: {k: toml.entry(e, path, f"version.{v}.{k}") for k, e in versions[v].items() if toml.is_entry(e)}
        for v in ordered
    }
    return _Family(
        kind=kind, name=path.stem, title=shared["title"], aliases=tuple(shared.get("aliases", (path.stem,))),
        newest=str(shared.get("newest", ordered[-1])), versions=ordered,
        tables={v: {**shared, **{k: e for k, e in versions[v].items() if not toml.is_entry(e)}} for v in ordered},
        constants={v: {**constants, **own[v]} for v in ordered},
    )  # fmt: skip


def _match(kind: str, text: str, families: Iterable[_Family]) -> tuple[_Family, str]:
    """The family whose longest alias the text starts with, and the version in the rest of the text."""
    families = list(families)
    low = text.strip().lower()
    best: tuple[int, _Family] | None = None
    for family in families:
        for alias in {family.name, *family.aliases}:
            if low.startswith(alias.lower()) and (best is None or len(alias) > best[0]):
                best = (len(alias), family)
    if best is None:
        raise unknown_name(kind, text, [f.name for f in families], where=f"--{kind}")
    numbers = re.findall(r"\d+(?:\.\d+)*", low[best[0] :])
    return best[1], numbers[-1] if numbers else ""


def _key(version: str) -> tuple[int, ...]:
    """A version as numbers, so that 25.9 comes before 25.11."""
    return tuple(int(n) for n in re.findall(r"\d+", version))


def _label(family: str, version: str) -> str:
    return family if version == "any" else f"{family}-{version}"


def _by_distance(versions: tuple[str, ...], version: str) -> list[str]:
    """The version itself, then older ones from the nearest, then newer ones from the nearest."""
    i = versions.index(version)
    return [version, *reversed(versions[:i]), *versions[i + 1 :]]
