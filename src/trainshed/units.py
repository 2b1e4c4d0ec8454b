"""Quantities as text: read ``"4.9 TB/s"`` into an SI float, print an SI float for people.

Inside Trainshed every quantity is a float in the base units below; only files, arguments and reports hold text. The
units library (pint) knows just the units defined here, so ``"4.9 TB"`` is never read as a bandwidth and a byte is
never a bit; the everyday spellings are tabulated, so that reading the catalogue does not wait for its import.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from functools import lru_cache
from typing import Any

PREFIXES: dict[str, float] = {
    "f": 1e-15, "p": 1e-12, "n": 1e-9, "u": 1e-6, "µ": 1e-6, "m": 1e-3, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12,
    "P": 1e15, "E": 1e18, "Ki": 2.0**10, "Mi": 2.0**20, "Gi": 2.0**30, "Ti": 2.0**40, "Pi": 2.0**50,
}  # fmt: skip

#: Unit → what it is made of (pint's notation); ``[x]`` is a dimension of its own.
DEFINITIONS: dict[str, str] = {
    "s": "[time]", "B": "[data]", "FLOP": "[flop]", "MAC": "[mac]", "element": "[element]", "cycle": "[cycle]",
    "row": "[row]", "column": "[column]", "USD": "[money]", "J": "[energy]", "gCO2": "[carbon]", "token": "[token]",
    "min": "60 * s", "h": "3600 * s", "day": "86400 * s", "bit": "B / 8", "bps": "bit / s", "Hz": "1 / s",
    "W": "J / s", "Wh": "3600 * J", "count": "[]", "percent": "0.01 * count",
}  # fmt: skip

#: Units whose prefixed spellings are tabulated.
_EVERYDAY = ("s", "B", "B/s", "FLOP/s", "Hz", "W", "J", "J/MAC", "J/B", "J/element", "element/s")
#: Units in which a bare number may be written.
BARE = frozenset({"1", "count", "element", "cycle", "row", "column", "element/cycle"})
_BINARY = frozenset({"Ki", "Mi", "Gi", "Ti", "Pi"})

_QUANTITY = re.compile(r"\s*([-+]?(?:\d[\d_,]*\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)\s*(.*?)\s*")


class UnitError(ValueError):
    """Text that is not a quantity of the wanted unit."""

    def __init__(self, what: str, text: object, expected: str) -> None:
        self.what, self.text, self.expected = what, text, expected
        super().__init__(f"{what}: {text!r}; expected {expected}")


def _everyday() -> dict[tuple[str, str], float]:
    table = {(unit, unit): 1.0 for unit in (*_EVERYDAY, *BARE, "USD/h", "kgCO2/kWh", "element/cycle", "token/s")}
    for unit in _EVERYDAY:
        table |= {(prefix + unit, unit): factor for prefix, factor in PREFIXES.items()}
    table |= {(f"{p}bit/s", "B/s"): f / 8 for p, f in PREFIXES.items()}
    table |= {(f"{p}J/bit", "J/B"): f * 8 for p, f in PREFIXES.items()}
    return table | {("count", "1"): 1.0, ("1", "count"): 1.0, ("%", "1"): 0.01, ("h", "s"): 3600.0, ("min", "s"): 60.0}


_FACTORS = _everyday()


@lru_cache(maxsize=1)
def _registry() -> Any:
    import pint  # a fifth of a second: only for spellings outside the table

    registry: Any = pint.UnitRegistry(None, preprocessors=[lambda text: text.replace("%", "percent")])
    for prefix, factor in PREFIXES.items():
        registry.define(f"{prefix}- = {factor!r}")
    for unit, meaning in DEFINITIONS.items():
        registry.define(f"{unit} = {meaning}")
    return registry


@lru_cache(maxsize=4096)
def factor(spelling: str, unit: str) -> float:
    """How many ``unit`` one ``spelling`` is: ``factor("GiB", "B")`` is 2**30."""
    known = _FACTORS.get((spelling, unit))
    if known is not None:
        return known
    try:
        registry = _registry()
        target = "count" if unit == "1" else unit
        return float(registry.Quantity(1.0, spelling).to(target).magnitude)
    except Exception as error:  # pint raises many kinds, tokenizer errors among them
        raise UnitError("not this kind of quantity", spelling, f"a quantity in {unit}") from error


def spelled(text: str) -> str:
    """The unit that a quantity is written in: ``spelled("4.9 TB/s")`` is ``TB/s``."""
    match = _QUANTITY.fullmatch(text)
    return match[2] if match else ""


def base_of(spelling: str, candidates: Iterable[str]) -> str | None:
    """The first of some units that a spelling can be brought to; the everyday table first, it needs no import."""
    units = list(candidates)
    for unit in units:
        if (spelling, unit) in _FACTORS:
            return unit
    for unit in units:
        try:
            factor(spelling, unit)
        except UnitError:
            continue
        return unit
    return None


def parse(text: str, unit: str) -> float:
    """The value of ``text`` in ``unit``: ``parse("4.9 TB/s", "B/s")`` is 4.9e12. Never negative, never unit-less."""
    match = _QUANTITY.fullmatch(text)
    if not match:
        raise UnitError("not a quantity", text, f"a number with a unit, in {unit}")
    number = float(match[1].replace(",", "").replace("_", ""))
    if number < 0 or not math.isfinite(number):
        raise UnitError("a quantity must be finite and not negative", text, f"a quantity in {unit}")
    if not match[2]:
        if unit not in BARE:
            raise UnitError("a quantity needs a unit", text, f"a number with a unit, in {unit}")
        return number
    try:
        return number * factor(match[2], unit)
    except UnitError as error:
        raise UnitError(error.what, text, error.expected) from error


def format(value: float, unit: str, digits: int = 3) -> str:
    """A value for people: ``format(4.9e12, "B/s")`` is ``4.9 TB/s``."""
    if not math.isfinite(value):
        return f"{value} {unit}"
    if unit in ("1", "count"):
        return f"{value:,.{digits + 1}g}" if abs(value) < 1e4 else f"{value:,.0f}"
    if unit not in _EVERYDAY or value == 0:
        return f"{value:,.{digits + 1}g} {unit}"
    prefixes = [(f, p) for p, f in PREFIXES.items() if p not in _BINARY and p != "u"] + [(1.0, "")]
    if unit == "s":
        prefixes = [(f, p) for f, p in prefixes if f <= 1.0]
    size = abs(float(f"{value:.{digits}g}"))
    scale, prefix = max((x for x in prefixes if x[0] <= size), default=min(prefixes))
    scaled = value / scale
    text = f"{scaled:,.{digits}g}" if abs(scaled) < 1000 else f"{scaled:,.0f}"
    return f"{text} {prefix}{unit}"
