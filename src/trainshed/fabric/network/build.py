"""The network of a system: its levels as chips, switches, adapters and links.

A level's bandwidth is what one chip sends over all its links of that level, so each link has its part. A level's
latency is that of the level's shortest way between two chips, split over the links of that way.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from trainshed.core import UserError
from trainshed.fabric.network.graph import Floats, Ints, Network
from trainshed.fabric.network.names import Block, Names
from trainshed.hardware.schema import Level, System, Topology

LAYERS = ("leaf", "spine", "core")
"""Switches of a leaf-spine network from the chips upwards; further ones are ``layer 4``, …"""


@dataclass
class _Parts:
    """A network being built."""

    name: str
    chips: int
    blocks: list[Block] = field(default_factory=list)
    kinds: list[str] = field(default_factory=list)
    ends: list[tuple[Ints, Ints]] = field(default_factory=list)
    """Of each lot of links: where they come from and go to, then level, bandwidth, latency in ``lots``."""
    lots: list[tuple[int, float, float]] = field(default_factory=list)

    def add(self, kind: str, block: Block) -> Ints:
        """New nodes."""
        first = sum(b.count for b in self.blocks)
        self.blocks.append(block)
        self.kinds.append(kind)
        return np.arange(first, first + block.count)

    def join(self, one: Ints, other: Ints, level: int, bandwidth: float, latency: float) -> None:
        """Links both ways between pairs of nodes; ``bandwidth`` in B/s one way."""
        for ends in ((one, other), (other, one)):
            self.ends.append(ends)
            self.lots.append((level, bandwidth, latency))

    def network(self, levels: tuple[Level, ...], coordinates: dict[str, Ints]) -> Network:
        """What was built, as columns."""
        kinds = tuple(dict.fromkeys(self.kinds))
        sizes = np.array([len(one) for one, _ in self.ends], dtype=np.int64)
        level, bandwidth, latency = (np.array(column) for column in zip(*self.lots, strict=True)) if self.lots else (
            np.zeros(0, np.int64), np.zeros(0), np.zeros(0),
        )  # fmt: skip
        return Network(
            name=self.name, chips=self.chips, kinds=kinds, names=Names(self.blocks),
            kind=np.repeat([kinds.index(kind) for kind in self.kinds], [block.count for block in self.blocks]),
            levels=tuple(each.name for each in levels), level=np.repeat(level.astype(np.int64), sizes),
            source=_concatenate([one for one, _ in self.ends]), target=_concatenate([other for _, other in self.ends]),
            bandwidth=np.repeat(bandwidth, sizes), latency=np.repeat(latency, sizes), coordinates=coordinates,
            scale_out=tuple(each.name for each in levels if each.topology == "leaf-spine"),
        )  # fmt: skip


def _concatenate(columns: list[Ints]) -> Ints:
    return np.concatenate(columns) if columns else np.zeros(0, dtype=np.int64)


def network(system: System, chips: int) -> Network:
    """The network of a system's first ``chips`` chips.

    Domains of levels are built whole: 100 chips of a Trn3 Gen2 UltraServer are one of 144, since messages of some
    pass by others. Levels further out than those chips need are left out. UserError: more chips than the system has.
    """
    if not 1 <= chips <= system.max_chips:
        raise UserError(
            "chips of a network", where=f"system {system.name}", value=chips, expected=f"1 to {system.max_chips}"
        )
    levels, whole = _needed(system, chips)
    parts = _Parts(system.name, whole)
    parts.add("chip", Block(whole, "chip"))
    below = 1
    for k, level in enumerate(levels):
        WIRING[level.topology](parts, k, level, below)
        below = level.chips
    return parts.network(levels, _coordinates(system, levels, whole))


def _needed(system: System, chips: int) -> tuple[tuple[Level, ...], int]:
    """The levels that so many chips need, and the chips of whole domains."""
    inner = [level for level in system.levels if level.topology != "leaf-spine"]
    for k, level in enumerate(inner):
        if level.chips >= chips:
            return tuple(inner[: k + 1]), level.chips
    domain = inner[-1].chips if inner else 1
    return system.levels, math.ceil(chips / domain) * domain


def _coordinates(system: System, levels: tuple[Level, ...], chips: int) -> dict[str, Ints]:
    """In which domain of each level a chip is, on tori its place, in mixed racks its pool, on networks leaf and pod."""
    chip = np.arange(chips)
    out = {level.name: chip // level.chips for level in levels if level.topology not in ("chip", "leaf-spine")}
    axes = iter("xyzw")
    below, torus = 1, any(level.topology == "torus" for level in levels)
    for level in levels:
        if torus and level.topology in ("torus", "ring"):
            unit = chip % level.chips // below
            for dim in _dims(level, below):
                out[next(axes)] = unit % dim
                unit = unit // dim
        if level.topology == "leaf-spine":
            half = _half(level, chips)
            out["leaf"] = chip // half
            if chips > 2 * half**2:  # three layers: the chips below the same spines
                out.setdefault("pod", chip // half**2)
        below = level.chips
    if len(system.pools) > 1:
        last = np.cumsum([pool.chips for pool in system.pools])
        out["pool"] = np.searchsorted(last, chip % last[-1], side="right")
    return out


def _half(level: Level, chips: int) -> int:
    """Ports of a leaf that go down; all chips have one leaf where no ``radix`` is known."""
    return int(level.fitted["radix"].value) // 2 if "radix" in level.fitted else chips


def _dims(level: Level, below: int) -> tuple[int, ...]:
    """Dimensions of a level in domains of the level below."""
    dims = level.dims or (level.chips // below,)
    if math.prod(dims) * below != level.chips:
        raise ValueError(f"level {level.name}: {dims} domains of {below} chips are not {level.chips} chips")
    return dims


def _chip(parts: _Parts, k: int, level: Level, below: int) -> None:
    """From each chip to itself."""
    chip = np.arange(parts.chips)
    parts.ends.append((chip, chip))
    parts.lots.append((k, float(level.bandwidth.value), float(level.latency.value)))


def _torus(parts: _Parts, k: int, level: Level, below: int) -> None:
    """Each chip to the one at its place of the next domain along each dimension, and around; a pair has one link."""
    dims = _dims(level, below)
    ports = sum(min(dim - 1, 2) for dim in dims)
    chip = np.arange(parts.chips)
    stride = below
    for dim in dims:
        place = chip // stride % dim
        onward = chip + ((place + 1) % dim - place) * stride
        once = place < (dim if dim > 2 else dim - 1)
        parts.join(chip[once], onward[once], k, float(level.bandwidth.value) / ports, float(level.latency.value))
        stride *= dim


def _mesh(parts: _Parts, k: int, level: Level, below: int) -> None:
    """Each chip to the chips at its place of all other domains, or as ``wires`` say."""
    domains = math.prod(_dims(level, below))
    wires = np.array(level.wires, dtype=np.int64).reshape(-1, 3)
    if not len(wires):
        one, other = np.triu_indices(domains, 1)
        wires = np.stack([one, other, np.ones_like(one)], axis=1)
    links = np.bincount(wires[:, :2].ravel(), weights=np.repeat(wires[:, 2], 2)).max(initial=1.0)
    first = (np.arange(parts.chips // level.chips)[:, None] * level.chips + np.arange(below)).ravel()
    for a, b, count in wires.tolist():
        rate = float(level.bandwidth.value) * count / links
        parts.join(first + a * below, first + b * below, k, rate, float(level.latency.value))


def _planes(level: Level) -> int:
    return int(level.planes.value) if level.planes else 1


def _switch(parts: _Parts, k: int, level: Level, below: int) -> None:
    """Each chip to the switches of its domain, one link to each plane: half of the way up, half down."""
    planes, domains = _planes(level), parts.chips // level.chips
    block = Block(domains * planes, level.name, *(("plane", planes) if planes > 1 else ()))
    switch = parts.add(f"{level.name} switch", block)
    chip = np.arange(parts.chips)
    for plane in range(planes):
        at = switch[chip // level.chips * planes + plane]
        parts.join(chip, at, k, float(level.bandwidth.value) / planes, float(level.latency.value) / 2)


def _leaf_spine(parts: _Parts, k: int, level: Level, below: int) -> None:
    """Each chip over an adapter to a leaf of each plane, and as many layers of a folded Clos above as the chips need.

    Full bisection: a switch has half of its ``radix`` ports down, the uppermost layer all. Below the uppermost layer
    each uplink is a link of its own; there, only as many switches are built as have all their ports in use, and the
    links between the same two are one (as fast as they are together).
    """
    planes, chip = _planes(level), np.arange(parts.chips)
    half = _half(level, parts.chips)
    rate, quarter = float(level.bandwidth.value), float(level.latency.value) / 4
    adapter = parts.add("adapter", Block(parts.chips, "adapter"))
    parts.join(chip, adapter, k, rate, quarter)
    layer = float(level.fitted["layer"].value) / 2 if "layer" in level.fitted else 0.0
    for plane in range(planes):
        leaves = math.ceil(parts.chips / half)
        leaf = parts.add("leaf", _block(plane, planes, "leaf", leaves))
        parts.join(adapter, leaf[chip // half], k, rate / planes, quarter)
        _clos(parts, k, leaf, half, rate / planes, layer, (plane, planes))


def _clos(
    parts: _Parts, k: int, below: Ints, half: int, rate: float, latency: float, plane: tuple[int, int]
) -> None:  # fmt: skip
    """The layers above one plane's leaves. ``below`` holds the pods of the layer under this one, each of ``width``."""
    width, depth = 1, 1  # switches of one pod of the layer below; that layer's number
    while (pods := len(below) // width) > 1:
        word = LAYERS[depth] if depth < len(LAYERS) else f"layer {depth + 1}"
        top = pods <= 2 * half
        # each switch below has `half` ports up: `half / fan` links to each of the `fan` switches above it
        fan = min(half, 1 << max(math.ceil(pods / 2) - 1, 0).bit_length()) if top else half
        parents = 1 if top else math.ceil(pods / half)
        above = parts.add(word, _block(*plane, word, parents * width * fan))
        node = np.arange(len(below))
        pod, place = node // width, node % width
        parent = np.zeros_like(pod) if top else pod // half
        base = (parent * width + place) * fan
        for up in range(fan):
            parts.join(below, above[base + up], k, rate * half / fan, latency)
        if top:
            return
        below, width, depth = above, width * fan, depth + 1


def _block(plane: int, planes: int, word: str, count: int) -> Block:
    return Block(count, word) if planes == 1 else Block(count, f"plane {plane} {word}")


WIRING: dict[Topology, Callable[[_Parts, int, Level, int], None]] = {
    "chip": _chip, "ring": _torus, "torus": _torus, "mesh": _mesh, "switch": _switch, "leaf-spine": _leaf_spine,
}  # fmt: skip


def sent(network: Network) -> Floats:
    """``[levels, chips]`` B/s that each chip can send over its links of each level."""
    own = network.source < network.chips
    at = network.level[own] * network.chips + network.source[own]
    total = np.bincount(at, weights=network.bandwidth[own], minlength=len(network.levels) * network.chips)
    return np.asarray(total, dtype=np.float64).reshape(len(network.levels), network.chips)
