"""A network of the user's own, in TOML, and any network written as such.

    name = "lab"

    [chips]
    count = 8                    # chip 0 … chip 7; or names = ["left", "right"]
    bandwidth = "400 GB/s"       # optional, with latency: between ranks on one chip (level chip)
    latency = "1 us"

    [coordinates]                # optional
    rack = [0, 0, 0, 0, 1, 1, 1, 1]

    [[levels]]                   # optional, from the chips outwards; else all links are of the level "network"
    name = "rack"
    scale_out = false            # true: chips do not forward onto it
    launch = "0 s"               # what a collective's start,
    hop = "0 s"                  # a step of software
    message = "0 s"              # and each message cost there
    reach = 1.0                  # and what part of a link's rate is reached: these are the defaults

    [[switches]]
    name = "rack"                # with count: rack 0, rack 1
    count = 2
    kind = "rack switch"         # optional

    [[links]]
    from = "chip 0..3"           # a node, a range, or a list of them
    to = "rack 0"                # every one of from with every one of to
    bandwidth = "50 GB/s"
    latency = "1 us"
    level = "rack"               # needed where there are several
    both_ways = true             # the default

    [[links]]
    from = ["chip 4..7", "rack 0"]
    to = "rack 1"
    bandwidth = "50 GB/s"
    latency = "1 us"
    level = "rack"

Units are those of ``trainshed.units``; every key is checked.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path

import numpy as np

from trainshed import units
from trainshed.core import UserError, unknown_name
from trainshed.core import load as strict
from trainshed.core.load import Table
from trainshed.fabric.flow.sends import Transport
from trainshed.fabric.network.faults import cut_off
from trainshed.fabric.network.graph import Ints, Network

CONSTANTS = {"launch": ("s", 0.0), "hop": ("s", 0.0), "message": ("s", 0.0), "reach": ("1", 1.0)}
"""What a level may say of software: unit, and the value where it does not."""
_RANGE = re.compile(r"(.+) (\d+)\.\.(\d+)")

#: Nodes of one kind that a file may ask for.
MOST = 1_000_000


@dataclass(frozen=True, kw_only=True, eq=False)
class Custom:
    """What a file says."""

    network: Network
    transport: Transport
    defaults: tuple[str, ...]
    """A sentence for each constant that the file leaves out."""


def load(path: str | Path) -> Network:
    """The network of a file (see the top of this module).

    UserError, naming file, key and value: an unknown or missing key, two nodes of one name, an unknown node, a link
    that carries nothing or is there twice, a negative latency, chips that cannot reach each other.
    """
    return read(path).network


def read(path: str | Path) -> Custom:
    """The network of a file with what its software costs."""
    table = strict.read(Path(path))
    builder = _Builder(table)
    name = table.text("name", Path(path).stem)
    chips = table.table("chips")
    if chips is None:
        raise table.error("a network needs chips", expected="[chips] with count or names")
    builder.chips(chips)
    coordinates = _coordinates(table, builder.count)
    for switch in table.tables("switches"):
        builder.switch(switch)
    builder.levels(table.tables("levels"))
    builder.itself(chips)
    for link in table.tables("links"):
        builder.link(link)
    table.done()
    network = builder.network(name, coordinates)
    if (pair := cut_off(network, np.arange(network.chips))) is not None:
        ends = f"{network.names[pair[0]]} to {network.names[pair[1]]}"
        raise table.error("chips that cannot reach each other", "links", value=ends, expected="a way between all chips")
    constants = builder.constants
    transport = Transport(
        name=name, launch=constants["launch"], hop=constants["hop"], message=constants["message"],
        reach=constants["reach"],
    )  # fmt: skip
    return Custom(network=network, transport=transport, defaults=tuple(builder.defaults))


def _coordinates(table: Table, chips: int) -> dict[str, Ints]:
    inner = table.table("coordinates")
    out: dict[str, Ints] = {}
    for key in inner or ():
        assert inner is not None
        value = inner.data[key]
        if not isinstance(value, list) or len(value) != chips or not all(type(v) is int and v >= 0 for v in value):
            raise inner.error("coordinate of the chips", key, value=value, expected=f"{chips} whole numbers")
        out[key] = np.array(value, dtype=np.int64)
    return out


def _count(entry: Table, default: int | None = None) -> int:
    """How many; so many that they can be spelled out."""
    found = entry.integer("count") if default is None else entry.integer("count", default)
    if found > MOST:
        raise entry.error("count of nodes", "count", value=found, expected=f"at most {MOST:,}")
    return found


@dataclass
class _Builder:
    """Nodes and links as they are read."""

    table: Table
    nodes: dict[str, int] = field(default_factory=dict)
    kind: list[str] = field(default_factory=list)
    count: int = 0
    level_names: list[str] = field(default_factory=list)
    scale_out: list[str] = field(default_factory=list)
    constants: dict[str, dict[str, float]] = field(default_factory=lambda: {key: {} for key in CONSTANTS})
    defaults: list[str] = field(default_factory=list)
    rows: dict[tuple[int, int, int], tuple[float, float]] = field(default_factory=dict)

    def add(self, name: str, kind: str, entry: Table, key: str) -> None:
        """One more node."""
        if name in self.nodes:
            raise entry.error("two nodes of one name", key, value=name, expected="a name of its own for each node")
        self.nodes[name] = len(self.nodes)
        self.kind.append(kind)

    def chips(self, entry: Table) -> None:
        """``[chips]``."""
        names = entry.texts("names")
        if not names:
            names = tuple(f"chip {i}" for i in range(_count(entry)))
        elif "count" in entry:
            raise entry.error("chips named and counted", "count", value=entry.data["count"], expected="names or count")
        for name in names:
            self.add(name, "chip", entry, "names")
        self.count = len(names)

    def switch(self, entry: Table) -> None:
        """One of ``[[switches]]``."""
        name, kind = entry.text("name"), entry.text("kind", "switch")
        if kind == "chip":
            raise entry.error("kind of a switch", "kind", value=kind, expected="any other word")
        numbered = "count" in entry
        for i in range(_count(entry, 1)):
            self.add(f"{name} {i}" if numbered else name, kind, entry, "name")
        entry.done()

    def levels(self, entries: list[Table]) -> None:
        """``[[levels]]`` with their constants."""
        if "bandwidth" in (self.table.data.get("chips") or {}):
            self.level_names.append("chip")
        for entry in entries:
            name = entry.text("name")
            if name in self.level_names:
                raise entry.error("two levels of one name", "name", value=name, expected="a name of its own for each")
            self.level_names.append(name)
            if entry.flag("scale_out"):
                self.scale_out.append(name)
            for key, (unit, default) in CONSTANTS.items():
                self.constants[key][name] = self._constant(entry, name, key, unit, default)
            entry.done()
        if not entries:
            self.level_names.append("network")

    def _constant(self, entry: Table, name: str, key: str, unit: str, default: float) -> float:
        if key not in entry:
            self.defaults.append(f"{key} of level {name} is {default:g}{' s' if unit == 's' else ''}: not given")
            return default
        value = _quantity(entry, key, unit)
        if key == "reach" and not 0 < value <= 1:
            raise entry.error("reach of a level", key, value=entry.data[key], expected="above 0, at most 1")
        return value

    def itself(self, entry: Table) -> None:
        """Each chip's link to itself, where ``[chips]`` gives its rate."""
        if "bandwidth" in entry:
            rate, latency = self._rates(entry)
            for chip in range(self.count):
                self.rows[chip, chip, 0] = rate, latency
        entry.done()

    def _rates(self, entry: Table) -> tuple[float, float]:
        values = []
        for key, unit in (("bandwidth", "B/s"), ("latency", "s")):
            text = entry.text(key)
            value = _quantity(entry, key, unit)
            if key == "bandwidth" and not value > 0:
                raise entry.error("a link that carries nothing", key, value=text, expected="a bandwidth above 0 B/s")
            if value < 0:
                raise entry.error("latency of a link", key, value=text, expected="at least 0 s")
            values.append(value)
        return values[0], values[1]

    def link(self, entry: Table) -> None:
        """One of ``[[links]]``."""
        one, other = self._ends(entry, "from"), self._ends(entry, "to")
        default = {} if len(self.level_names) > 1 else {"default": self.level_names[0]}
        level = self.level_names.index(entry.choice("level", self.level_names, **default))
        rates, both = self._rates(entry), entry.flag("both_ways", True)
        for a, b in product(one, other):
            for ends in ((a, b), (b, a)) if both else ((a, b),):
                if a == b:
                    raise entry.error(
                        "a link from a node to itself", "to", value=self._name(a), expected="bandwidth in [chips]"
                    )
                if (*ends, level) in self.rows:
                    value = f"{self._name(ends[0])} -> {self._name(ends[1])}"
                    raise entry.error(
                        "a link given twice", "from", value=value, expected="one with their bandwidths added"
                    )
                self.rows[(*ends, level)] = rates
        entry.done()

    def _name(self, node: int) -> str:
        return list(self.nodes)[node]

    def _ends(self, entry: Table, key: str) -> list[int]:
        value = entry.data.get(key)
        names = entry.texts(key) if isinstance(value, list) else (entry.text(key),)
        return [node for name in names for node in self._range(entry, key, name)]

    def _range(self, entry: Table, key: str, name: str) -> list[int]:
        found = _RANGE.fullmatch(name)
        spelt = [f"{found[1]} {i}" for i in range(int(found[2]), int(found[3]) + 1)] if found else [name]
        if not spelt:
            raise entry.error("an empty range of nodes", key, value=name, expected="from a lower to a higher number")
        for each in spelt:
            if each not in self.nodes:
                raise unknown_name("node", each, self.nodes, where=entry.file.where((*entry.path, key)))
        return [self.nodes[each] for each in spelt]

    def network(self, name: str, coordinates: Mapping[str, Ints]) -> Network:
        """All of it, as columns."""
        kinds = tuple(dict.fromkeys(self.kind))
        ends = np.array(list(self.rows), dtype=np.int64).reshape(-1, 3)
        rates = np.array(list(self.rows.values()), dtype=np.float64).reshape(-1, 2)
        return Network(
            name=name, chips=self.count, kinds=kinds, kind=np.array([kinds.index(k) for k in self.kind]),
            names=tuple(self.nodes), levels=tuple(self.level_names), source=ends[:, 0], target=ends[:, 1],
            level=ends[:, 2], bandwidth=rates[:, 0], latency=rates[:, 1], coordinates=coordinates,
            scale_out=tuple(self.scale_out),
        )  # fmt: skip


def _quantity(entry: Table, key: str, unit: str) -> float:
    """A quantity of the file; where it stands is looked for only if it is wrong."""
    try:
        return units.parse(str(entry.data[key]), unit)
    except units.UnitError as error:
        raise entry.error(error.what, key, value=error.text, expected=error.expected) from error


def dump(network: Network) -> str:
    """The TOML of a network, link by link: a start for one of your own. Links to itself need a level ``chip``."""
    names = [network.names[i] for i in range(network.nodes)]
    out = [
        f"name = {_quoted(network.name)}",
        "",
        "[chips]",
        f"names = [{', '.join(map(_quoted, names[: network.chips]))}]",
    ]
    own = np.flatnonzero(network.source == network.target)
    if len(own):
        out += [
            f'bandwidth = "{float(network.bandwidth[own[0]])!r} B/s"',
            f'latency = "{float(network.latency[own[0]])!r} s"',
        ]
    if network.coordinates:
        out += ["", "[coordinates]", *(f"{key} = {column.tolist()}" for key, column in network.coordinates.items())]
    for level in network.levels:
        if not (level == "chip" and len(own)):
            scale_out = str(level in network.scale_out).lower()
            out += ["", "[[levels]]", f"name = {_quoted(level)}", f"scale_out = {scale_out}"]
    for node in range(network.chips, network.nodes):
        kind = network.kinds[int(network.kind[node])]
        out += ["", "[[switches]]", f"name = {_quoted(names[node])}", f"kind = {_quoted(kind)}"]
    for k in np.flatnonzero(network.source != network.target).tolist():
        out += [
            "", "[[links]]", f"from = {_quoted(names[network.source[k]])}", f"to = {_quoted(names[network.target[k]])}",
            f'bandwidth = "{float(network.bandwidth[k])!r} B/s"', f'latency = "{float(network.latency[k])!r} s"',
            f"level = {_quoted(network.levels[int(network.level[k])])}", "both_ways = false",
        ]  # fmt: skip
    return "\n".join(out) + "\n"


def _quoted(text: str) -> str:
    if any(c in text for c in '"\\\n'):
        raise UserError("a name that TOML cannot hold as it is", where="network", value=text, expected="no quotes")
    return f'"{text}"'
