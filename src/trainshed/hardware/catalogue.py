"""The catalogue: chips, systems and prices by name, each file read when it is first asked for.

A user's own TOML may hold ``[chip.NAME]``, ``[system.NAME]`` and ``[price.NAME]`` tables of the same form as the
catalogue's, and ``[set]``, which puts a value in place of any number of the catalogue by its full name.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

from trainshed.core import Constant, Number, UserError, unknown_name
from trainshed.core.load import Table, quantity, read
from trainshed.hardware.mechanisms import Mechanisms
from trainshed.hardware.names import unit_of
from trainshed.hardware.prices import read_prices
from trainshed.hardware.read_chip import read_chip
from trainshed.hardware.read_system import SystemReader
from trainshed.hardware.schema import Chip, Price, System
from trainshed.hardware.values import Values

HERE = Path(__file__).parent
_KINDS = ("chip", "system", "price")
_SECTION = re.compile(r'^\[{1,2}(chip|system|price)\.(?:"([^"]+)"|([\w-]+))[\].]', re.MULTILINE)


class Catalogue:
    """``chip(name)``, ``system(name)``, ``price(system)``; ``given`` and ``overrides`` replace values by full name."""

    def __init__(
        self,
        *,
        extra: Sequence[Path] = (),
        overrides: Mapping[str, Number] | None = None,
        given: Mapping[str, Number] | None = None,
    ) -> None:
        self.extra = {path: read(path) for path in map(Path, extra)}
        user: dict[str, Number] = {}
        for table in self.extra.values():
            user |= _user_values(table)
        self.values = Values(given={**user, **(given or {})}, overrides=overrides or {})
        self._mechanisms = Mechanisms(self.values)
        self._index = _catalogue_index() | self._user_index()
        self._aliases = _aliases()
        self._chips: dict[str, Chip] = {}
        self._systems: dict[str, System] = {}

    def _user_index(self) -> dict[tuple[str, str], Path]:
        index: dict[tuple[str, str], Path] = {}
        for path, table in self.extra.items():
            for kind in _KINDS:
                section = table.table(kind)
                index |= {(kind, name): path for name in (section if section else [])}
            table.done()
        return index

    def _names(self, kind: str) -> list[str]:
        return sorted(name for k, name in self._index if k == kind)

    def _table(self, kind: str, name: str) -> Table:
        path = self._index[kind, name]
        root = self.extra[path] if path in self.extra else _parsed(path)
        section = root.table(kind)
        table = section.table(name) if section else None
        if table is None:
            raise UserError(f"no [{kind}.{name}] in the file", where=path.name, value=name, expected="that table")
        return table

    def chips(self) -> list[str]:
        """Names of all chips."""
        return self._names("chip")

    def systems(self, aliases: bool = False) -> list[str]:
        """Names of all systems, with ``aliases`` also the other names they go by."""
        return sorted({*self._names("system"), *(self._aliases["system"] if aliases else ())})

    def chip(self, name: str) -> Chip:
        """A chip by name or alias."""
        name = self._resolve("chip", name)
        if name not in self._chips:
            table = self._table("chip", name)
            base_name = table.optional_text("base")
            chip = read_chip(name, table, self.values, self.chip(base_name) if base_name else None)
            fitted = self._mechanisms.of_chip(self._line(chip), chip.architecture)
            self._chips[name] = replace(chip, fitted=fitted)
        return self._chips[name]

    def _line(self, chip: Chip) -> list[str]:
        """The chip's name and those of its predecessors."""
        line, previous = [chip.name], chip.previous
        while previous is not None and previous not in line:
            line.append(previous)
            previous = self._table("chip", previous).optional_text("previous")
        return line

    def system(self, name: str) -> System:
        """A system by name or alias."""
        name = self._resolve("system", name)
        if name not in self._systems:
            table = self._table("system", name)
            base_name = table.optional_text("base")
            known = self._mechanisms
            reader = SystemReader(self.values, self.chip, known.of_interconnect, _overheads, known.algorithms)
            system = reader.read(name, table, self.system(base_name) if base_name else None)
            aliases = tuple(a for a, target in self._aliases["system"].items() if target == name)
            self._systems[name] = replace(system, aliases=aliases)
        return self._systems[name]

    def _resolve(self, kind: str, name: str) -> str:
        if (kind, name) in self._index:
            return name
        aliases = self._aliases[kind]
        lowered = name.lower()
        if lowered in aliases or (kind, lowered) in self._index:
            return aliases.get(lowered, lowered)
        raise unknown_name(kind, name, {*self._names(kind), *aliases}, where=kind)

    def prices(self, system: str) -> tuple[Price, ...]:
        """Every known offer for a system, preferred ones first; none where nobody prints a price."""
        key = self.system(system).price
        if key is None:
            return ()
        if ("price", key) not in self._index:
            raise unknown_name("price list", key, self._names("price"), where=f"system {system}")
        return read_prices(key, self._table("price", key), self.values)

    def price(self, system: str, purchase: str | None = None) -> Constant | None:
        """USD per chip-hour: what the user set, else of that purchase kind, else the first in order, else None."""
        set_by_user = self.values.absent(f"price/{self.system(system).name}", "USD/h")
        if set_by_user is not None:
            return set_by_user
        offers = [p.per_chip_hour for p in self.prices(system) if purchase in (None, p.purchase)]
        return offers[0] if offers else None

    def price_estimate(self, system: str) -> Constant | None:
        """A guess at USD per chip-hour, status estimated, where nobody prints a price; ``price`` never returns it."""
        chip = self.system(system).chip.name
        section = read(HERE / "prices" / "estimates.toml").table("estimate")
        table = section.table(chip) if section else None
        return table.number("price", "USD/h", name=f"price/{chip}.estimate") if table else None


def _user_values(table: Table) -> dict[str, Number]:
    section = table.table("set")
    out: dict[str, Number] = {}
    for name in section if section else []:
        assert section is not None
        where = section.file.where((*section.path, name))
        spec = section.data[name]
        if isinstance(spec, dict):
            out[name] = section.number(name, unit_of(name, where=where), name=name).value
        else:
            out[name] = quantity(spec, unit_of(name, where=where), where=where)
    return out


@lru_cache(maxsize=64)
def _parsed(path: Path) -> Table:
    root = read(path)
    for kind in _KINDS:
        root.table(kind)
    root.done()
    return root


@lru_cache(maxsize=1)
def _catalogue_index() -> dict[tuple[str, str], Path]:
    """(kind, name) → file, from the section headers alone: nothing is parsed before it is needed."""
    files = [p for folder in ("chips", "systems", "prices") for p in sorted((HERE / folder).glob("*.toml"))]
    index: dict[tuple[str, str], Path] = {}
    for path in files:
        for kind, quoted, bare in _SECTION.findall(path.read_text(encoding="utf-8")):
            if index.setdefault((kind, quoted or bare), path) != path:
                raise UserError(
                    f"{kind} defined twice", where=path.name, value=quoted or bare, expected="one definition"
                )
    return index


@lru_cache(maxsize=1)
def _aliases() -> dict[str, dict[str, str]]:
    root = read(HERE / "aliases.toml")
    out = {}
    for kind in ("chip", "system"):
        table = root.table(kind)
        out[kind] = {key: table.text(key) for key in table} if table else {}
    root.done()
    return out


@lru_cache(maxsize=1)
def _overheads() -> Table:
    return read(HERE / "overheads.toml")
