"""A system's TOML into a System.

A system may name a ``base`` (the same node elsewhere): it keeps the base's pools, levels and overhead, and states only
what differs, usually the ``network``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from typing import Any, get_args

from trainshed.core import Constant
from trainshed.core.load import Table
from trainshed.hardware.schema import Chip, Level, Overhead, Pool, System, Topology
from trainshed.hardware.values import Values

LEVEL_UNITS = {"bandwidth": "B/s", "latency": "s"}
OVERHEAD_UNITS = {"host": "W", "switch": "W", "pue": "1"}


class SystemReader:
    """What a system needs besides its own table: chips, fitted constants of interconnects, overhead profiles."""

    def __init__(
        self,
        values: Values,
        chip: Callable[[str], Chip],
        fitted: Callable[[str], dict[str, Constant]],
        overheads: Callable[[], Table],
        algorithms: Callable[[str], tuple[str, ...]] = lambda interconnect: (),
    ) -> None:
        self.values, self.chip, self.fitted, self.overheads = values, chip, fitted, overheads
        self.algorithms = algorithms

    def read(self, name: str, table: Table, base: System | None) -> System:
        """The system of a TOML table, on top of its base."""
        levels = self._levels(name, table, base)
        pools = self._pools(table, base)
        ultraserver = table.integer("ultraserver_chips", base.ultraserver_chips if base else ...)
        system = System(
            name=name, title=table.text("title"), pools=pools, levels=levels,
            instance_chips=table.integer("instance_chips", base.instance_chips if base else ultraserver),
            ultraserver_chips=ultraserver, max_chips=levels[-1].chips,
            overhead=self._overhead(name, table, base), announced=table.flag("announced", False),
            price=table.optional_text("price"), source=table.text("source", base.source if base else ...),
        )  # fmt: skip
        for key in ("base", "note"):
            table.text(key, "")
        table.done()
        return system

    def _pools(self, table: Table, base: System | None) -> tuple[Pool, ...]:
        own = table.tables("pools")
        if not own and base is not None:
            other = table.optional_text("chip")
            if other is None:
                return base.pools
            return tuple(replace(p, name=other, chip=self.chip(other)) for p in base.pools)
        pools = []
        for entry in own:
            chip = self.chip(entry.text("chip"))
            pools.append(Pool(name=entry.text("name", chip.name), chip=chip, chips=entry.integer("chips")))
            entry.done()
        if not pools:
            raise table.error("a system needs chips", expected="[[pools]] with chip and chips, or a base")
        return tuple(pools)

    def _levels(self, name: str, table: Table, base: System | None) -> tuple[Level, ...]:
        own = table.tables("levels")
        levels = [self._level(name, entry) for entry in own]
        if not levels and base is not None:
            levels = [self._renamed(name, level) for level in base.levels]
        network = table.table("network")
        if network is not None:
            kept = [level for level in levels if level.name != "network"]
            levels = [*kept, self._level(name, network, level_name="network")]
        if not levels:
            raise table.error("a system needs levels", expected="[[levels]] from the chip outwards, or a base")
        for inner, outer in pairwise(levels):
            if outer.chips <= inner.chips:
                raise table.error(
                    f"level {outer.name} must hold more chips than {inner.name}", "levels", value=outer.chips,
                    expected=f"more than {inner.chips}",
                )  # fmt: skip
        return tuple(levels)

    def _level(self, system: str, table: Table, level_name: str | None = None) -> Level:
        name = level_name or table.text("name")
        prefix = f"system/{system}.{name}."
        interconnect = table.text("interconnect")
        numbers: dict[str, Any] = {
            key: self.values.apply(table.number(key, unit, name=prefix + key)) for key, unit in LEVEL_UNITS.items()
        }
        planes = table.optional_number("planes", "count", name=prefix + "planes")
        level = Level(
            name=name, chips=table.integer("chips"), dims=table.integers("dims"),
            rings=table.integers("rings"), wires=_wires(table),
            planes=self.values.apply(planes) if planes else None,
            topology=table.choice("topology", get_args(Topology)),  # type: ignore[arg-type]
            reduction_in_network=table.flag("reduction_in_network"), interconnect=interconnect,
            fitted=self.fitted(interconnect), algorithms=self.algorithms(interconnect), **numbers,
        )  # fmt: skip
        table.done()
        return level

    def _renamed(self, system: str, level: Level) -> Level:
        prefix = f"system/{system}.{level.name}."
        changed: dict[str, Any] = {
            key: self.values.apply(c.with_value(c.value, name=prefix + key))
            for key, c in (("bandwidth", level.bandwidth), ("latency", level.latency))
        }
        return replace(level, **changed)

    def _overhead(self, name: str, table: Table, base: System | None) -> Overhead:
        profile = table.optional_text("overhead")
        numbers: dict[str, Constant | None] = {}
        if profile is None and base is not None:
            numbers = {key: getattr(base.overhead, key) for key in OVERHEAD_UNITS}
        else:
            profiles = self.overheads()
            entry = profiles.table(profile or "default")
            if entry is None:
                raise table.error("unknown overhead profile", "overhead", value=profile, expected=", ".join(profiles))
            numbers = {key: entry.optional_number(key, unit, name=key) for key, unit in OVERHEAD_UNITS.items()}
            entry.done()
            if numbers["pue"] is None:
                default = profiles.table("default")
                assert default is not None
                numbers["pue"] = default.number("pue", "1", name="pue")
        named: dict[str, Any] = {}
        for key, unit in OVERHEAD_UNITS.items():
            constant, full = numbers[key], f"system/{name}.{key}"
            named[key] = (
                self.values.absent(full, unit)
                if constant is None
                else self.values.apply(constant.with_value(constant.value, name=full))
            )
        return Overhead(**named)


def _wires(table: Table) -> tuple[int, ...]:
    """``wires = [[0, 3, 2], …]``: two chips and the links between them, as flat triples."""
    triples = table.data["wires"] if "wires" in table else []
    chips = table.integer("chips")
    if not isinstance(triples, list) or not all(_wire(triple, chips) for triple in triples):
        expected = f"[[chip, other chip, links], …] of chips 0 to {chips - 1}"
        raise table.error("wires of a board", "wires", value=triples, expected=expected)
    return tuple(v for triple in triples for v in triple)


def _wire(triple: object, chips: int) -> bool:
    if not isinstance(triple, list) or len(triple) != 3 or not all(type(v) is int for v in triple):
        return False
    one, other, links = triple
    return bool(0 <= one < chips and 0 <= other < chips and one != other and links > 0)
