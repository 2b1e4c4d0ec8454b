"""Chips and systems as flat lists of numbers, and what differs between two of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

from trainshed.core import Constant
from trainshed.hardware.schema import Chip, Level, System


@dataclass(frozen=True, kw_only=True)
class Difference:
    """One number of two things; None where one of them lacks it."""

    name: str
    """Without the owner: ``hbm_bandwidth``, ``rack.bandwidth``."""
    a: Constant | None
    b: Constant | None

    @property
    def ratio(self) -> float | None:
        """b over a, or None where either is absent or a is zero."""
        if self.a is None or self.b is None or not float(self.a.value):
            return None
        return float(self.b.value) / float(self.a.value)


def _walk(thing: Any, prefix: str) -> Iterator[tuple[str, Constant]]:
    if isinstance(thing, Constant):
        yield prefix, thing
    elif isinstance(thing, Mapping):
        for key, value in thing.items():
            yield from _walk(value, f"{prefix}.{key}" if prefix else str(key))
    elif is_dataclass(thing):
        for f in fields(thing):
            yield from _walk(getattr(thing, f.name), f"{prefix}.{f.name}" if prefix else f.name)


def _level(level: Level) -> Iterator[tuple[str, Constant]]:
    yield f"{level.name}.bandwidth", level.bandwidth
    yield f"{level.name}.latency", level.latency
    yield from ((f"{level.name}.fitted.{key}", constant) for key, constant in level.fitted.items())


def constants(thing: Chip | System) -> list[tuple[str, Constant]]:
    """Every number of a chip or of a system (its chips apart), by name without the owner."""
    if isinstance(thing, Chip):
        return list(_walk(thing, ""))
    out = [pair for level in thing.levels for pair in _level(level)]
    return out + list(_walk(thing.overhead, ""))


def diff(a: Chip | System, b: Chip | System) -> list[Difference]:
    """The numbers in which two chips, or two systems, differ, in the order of the first."""
    first, second = dict(constants(a)), dict(constants(b))
    out = []
    for name in dict.fromkeys((*first, *second)):
        left, right = first.get(name), second.get(name)
        if left is None or right is None or float(left.value) != float(right.value):
            out.append(Difference(name=name, a=left, b=right))
    return out


def totals(system: System, chips: int | None = None) -> dict[str, float]:
    """What a data sheet prints of a whole system: peak FLOP/s by dtype, HBM bytes and B/s of ``chips`` of it.

    Of a system of several pools, each counts with its share of the chips.
    """
    every = sum(p.chips for p in system.pools)
    count = system.ultraserver_chips if chips is None else chips
    out: dict[str, float] = {}
    for pool in system.pools:
        share = count * pool.chips / every
        numbers = {f"flops.{k}": c for k, c in pool.chip.flops.items()}
        numbers |= {"hbm_capacity": pool.chip.hbm_capacity, "hbm_bandwidth": pool.chip.hbm_bandwidth}
        for key, constant in numbers.items():
            out[key] = out.get(key, 0.0) + share * float(constant.value)
    return out
