"""Loads frameworks and engines from TOML; free text ("megatron-bridge (NeMo 25.11)") finds the nearest entry."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields
from functools import cache
from pathlib import Path
from typing import Any

from trainshed.core import Constant, Number, unknown_name
from trainshed.core.load import Table, read
from trainshed.software.schema import ENGINE_MECHANISMS, FRAMEWORK_MECHANISMS, Engine, Framework, Package

HERE = Path(__file__).parent


@dataclass(frozen=True)
class _Kind:
    """Frameworks or engines: where their files are, what a table of them becomes, which constants they have."""

    name: str
    folder: str
    package: type[Package]
    mechanisms: Mapping[str, tuple[str, str]] = field(compare=False, hash=False)


_KINDS = {
    "framework": _Kind("framework", "frameworks", Framework, FRAMEWORK_MECHANISMS),
    "engine": _Kind("engine", "engines", Engine, ENGINE_MECHANISMS),
}
#: Fields of a package that the catalogue fills in itself.
_FILLED = {"name", "family", "version", "aliases", "constants"}


@dataclass(frozen=True, kw_only=True)
class _Family:
    """One TOML file: a family with its versions, oldest first."""

    name: str
    aliases: tuple[str, ...]
    newest: str
    """The version taken where neither version nor date is known."""
    versions: tuple[str, ...]
    policies: Mapping[str, Mapping[str, Any]]
    """Fields of the package by version, those of the file filled in."""
    constants: Mapping[str, Constant]
    """What the file says of all versions, without the package's name."""
    stated: Mapping[str, Mapping[str, Constant]]
    """What it says of one version."""

    def nearest(self, version: str, date: str) -> str:
        """The newest version not after ``version`` (or, without one, ``date``); the oldest if all are after it."""
        if version:
            before = [v for v in self.versions if _key(v) <= _key(version)]
        elif date:
            before = [v for v in self.versions if str(self.policies[v].get("date", "")) <= date]
        else:
            return self.newest
        return before[-1] if before else self.versions[0]


class Software:
    """Every framework and engine, loaded per name; ``overrides`` replace constants by full name, as a fit would:
    a version without a value of its own takes the nearest version's."""

    def __init__(self, *, overrides: Mapping[str, Number] | None = None) -> None:
        self._overrides = dict(overrides or {})
        self._cache: dict[str, Package] = {}

    def framework(self, name: str, *, version: str = "", date: str = "") -> Framework:
        """The framework that a text names, in the nearest version; ``date`` chooses one where the text does not."""
        found = self._package(_KINDS["framework"], name, version, date)
        assert isinstance(found, Framework)
        return found

    def engine(self, name: str, version: str = "", *, date: str = "") -> Engine:
        """The serving engine that a text names, in the nearest version."""
        found = self._package(_KINDS["engine"], name, version, date)
        assert isinstance(found, Engine)
        return found

    def default_framework(self, vendor: str) -> Framework:
        """What a user of that vendor's chips gets who names no framework."""
        return self.framework(_default("framework", vendor))

    def default_engine(self, vendor: str) -> Engine:
        """What a user of that vendor's chips gets who names no engine."""
        return self.engine(_default("engine", vendor))

    def frameworks(self) -> list[str]:
        """Names of all frameworks with their versions."""
        return [_label(f.name, v) for f in _families("framework") for v in f.versions]

    def engines(self) -> list[str]:
        """Names of all engines with their versions."""
        return [_label(f.name, v) for f in _families("engine") for v in f.versions]

    def _package(self, kind: _Kind, text: str, version: str, date: str) -> Package:
        family, wanted = _match(kind.name, text)
        chosen = family.nearest(version or wanted, date)
        label = _label(family.name, chosen)
        key = f"{kind.name}/{label}"
        if key not in self._cache:
            values: dict[str, Any] = dict(family.policies[chosen])
            values |= {"name": label, "family": family.name, "version": chosen, "aliases": family.aliases}
            self._cache[key] = kind.package(**values, constants=self._constants(kind, family, chosen))
        return self._cache[key]

    def _constants(self, kind: _Kind, family: _Family, version: str) -> dict[str, Constant]:
        """Estimates, what the file says of the family, fits carried from other versions (the nearest last), what the
        file says of this version, this version's own fits: each replaces what stands before it."""
        found = {**_estimates(kind.name), **family.constants}
        fitted = _fitted()
        for v in reversed(_by_distance(family.versions, version)):
            if v == version:
                found |= family.stated[v]
            owner = f"{kind.name}/{_label(family.name, v)}"
            own = {**fitted.get(owner, {}), **{k: found[k] for k in found if f"{owner}.{k}" in self._overrides}}
            for key, constant in own.items():
                note = constant.note if v == version else f"carried from {_label(family.name, v)}"
                value = self._overrides.get(f"{owner}.{key}", constant.value)
                found[key] = constant.with_value(value, note=note)
        prefix = f"{kind.name}/{_label(family.name, version)}"
        return {key: c.with_value(c.value, name=f"{prefix}.{key}") for key, c in found.items()}


@cache
def _families(kind: str) -> tuple[_Family, ...]:
    return tuple(_family(_KINDS[kind], path) for path in sorted((HERE / _KINDS[kind].folder).glob("*.toml")))


@cache
def _estimates(kind: str) -> Mapping[str, Constant]:
    root = read(HERE / "estimates.toml")
    tables = {name: root.table(name) for name in _KINDS}
    root.done()
    table = tables[kind]
    assert table is not None
    found = _numbers(table, _KINDS[kind])
    table.done()
    for key in _KINDS[kind].mechanisms:
        if key not in found:
            raise table.error("a mechanism without an estimate", value=key, expected=f"{key} = {{ value = … }}")
    return found


@cache
def _fitted() -> Mapping[str, Mapping[str, Constant]]:
    """Constants by package, as the fitting program wrote them."""
    root = read(HERE / "fitted.toml")
    found: dict[str, Mapping[str, Constant]] = {}
    for key in list(root.keys()):
        table = root.table(key)
        assert table is not None
        found[key] = _numbers(table, _KINDS[key.partition("/")[0]])
        table.done()
    root.done()
    return found


def _numbers(table: Table, kind: _Kind) -> dict[str, Constant]:
    return {key: table.number(key, unit, name=key) for key, (unit, _) in kind.mechanisms.items() if key in table}


def _family(kind: _Kind, path: Path) -> _Family:
    root = read(path)
    shared, constants = _policies(root, kind), _numbers(root, kind)
    aliases, newest, table = root.texts("aliases"), root.text("newest", ""), root.table("version")
    if table is None or not table.keys():
        raise root.error("no versions", "version", expected="at least one [version.…] table")
    versions = tuple(sorted(table.keys(), key=_key))
    policies: dict[str, dict[str, Any]] = {}
    own: dict[str, dict[str, Constant]] = {}
    for v in versions:
        entry = table.table(v)
        assert entry is not None
        policies[v], own[v] = {**shared, **_policies(entry, kind)}, _numbers(entry, kind)
        entry.done()
    table.done()
    root.done()
    if newest and newest not in versions:
        raise unknown_name("version", newest, versions, where=root.file.where(("newest",)))
    return _Family(name=path.stem, aliases=aliases, newest=newest or versions[-1], versions=versions,
                   policies=policies, constants=constants, stated=own)  # fmt: skip


def _policies(table: Table, kind: _Kind) -> dict[str, Any]:
    """The fields of the package that a table gives, by the kind of each field's default."""
    found: dict[str, Any] = {}
    for f in fields(kind.package):
        if f.name in _FILLED or f.name not in table:
            continue
        default = "" if f.default is MISSING else f.default
        if isinstance(default, tuple):
            found[f.name] = table.texts(f.name)
        elif isinstance(default, bool):
            found[f.name] = table.flag(f.name)
        elif isinstance(default, int):
            found[f.name] = table.integer(f.name)
        else:
            found[f.name] = table.text(f.name)
    return found


def _default(kind: str, vendor: str) -> str:
    defaults = {v: f.name for f in _families(kind) for v in f.policies[f.newest].get("default_for", ())}
    if vendor.lower() not in defaults:
        raise unknown_name("vendor", vendor, defaults, where=f"the default {kind}")
    return defaults[vendor.lower()]


def _match(kind: str, text: str) -> tuple[_Family, str]:
    """The family whose longest alias the text starts with, and the version in the rest of the text."""
    families = _families(kind)
    low = text.strip().lower()
    pairs = [(alias.lower(), family) for family in families for alias in {family.name, *family.aliases}]
    found = [(len(alias), family) for alias, family in pairs if low.startswith(alias)]
    if not found:
        raise unknown_name(kind, text, [f.name for f in families], where=f"--{kind}")
    length, family = max(found, key=lambda pair: pair[0])
    numbers = re.findall(r"\d+(?:\.\d+)*", low[length:])
    return family, numbers[-1] if numbers else ""


def _key(version: str) -> tuple[int, ...]:
    """A version as numbers, so that 25.9 comes before 25.11."""
    return tuple(int(n) for n in re.findall(r"\d+", version))


def _label(family: str, version: str) -> str:
    return family if version == "any" else f"{family}-{version}"


def _by_distance(versions: tuple[str, ...], version: str) -> list[str]:
    """The version itself, then older ones from the nearest, then newer ones from the nearest."""
    i = versions.index(version)
    return [version, *reversed(versions[:i]), *versions[i + 1 :]]
