"""Fitted mechanisms: what a chip or an interconnect reaches of its data sheet, and its fixed times.

``fitted.toml`` holds what the fitting program found, ``estimates.toml`` what is assumed where nothing was measured,
``interconnects.toml`` what the interconnects' collective libraries document. A chip's value is its own fitted one, else
that of its predecessor (and so on back), else the estimate for its kind; an interconnect likewise, along ``[carry]``.
Mechanisms in ``not_carried`` speak of one chip's libraries and are not handed on.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import lru_cache
from pathlib import Path

from trainshed import units
from trainshed.core import Constant
from trainshed.core.load import Table, read
from trainshed.hardware.values import Values

HERE = Path(__file__).parent
#: Units that a mechanism may have; a bare number is a fraction.
_UNITS = ("s", "B", "B/s", "W", "count", "1")


def _unit(table: Table, key: str) -> str:
    spec = table.data[key]
    value = spec.get("value") if isinstance(spec, Mapping) else None
    if not isinstance(value, str):
        return "1"
    unit = units.base_of(units.spelled(value), _UNITS)
    if unit is None:
        raise table.error("unknown unit of a mechanism", key, value=value, expected=f"one of {', '.join(_UNITS)}")
    return unit


def _constants(table: Table | None, owner: str) -> dict[str, Constant]:
    if table is None:
        return {}
    out = {key: table.number(key, _unit(table, key), name=f"{owner}.{key}") for key in table}
    table.done()
    return out


class Mechanisms:
    """The three files, and the rule that carries over."""

    def __init__(self, values: Values, fitted: Path = HERE / "fitted.toml", estimates: Path = HERE / "estimates.toml"):
        self.values = values
        self._fitted, self._carry, self._estimates, self._alone = _read_all(fitted, estimates)
        self._algorithms, libraries = _read_libraries(HERE / "interconnects.toml")
        self._estimates = {
            owner: {**libraries.get(owner, {}), **self._estimates.get(owner, {})}
            for owner in {**self._estimates, **libraries}
        }

    def _own(self, owner: str, key: str, name: str) -> Constant | None:
        """The fitted (or overridden, or user-set) constant of exactly this owner."""
        own = self._fitted.get(owner, {}).get(key)
        if own is not None:
            return self.values.apply(own.with_value(own.value, name=name))
        unit = next((e[key].unit for e in self._estimates.values() if key in e), "1")
        return self.values.absent(name, unit)

    def _find(self, chain: list[str], key: str, estimates: Mapping[str, Constant], infix: str) -> Constant | None:
        name = f"{chain[0]}.{infix}{key}"
        for owner in chain[:1] if key in self._alone else chain:
            found = self._own(owner, key, f"{owner}.{infix}{key}")
            if found is None:
                continue
            if owner == chain[0]:
                return found
            note = f"carried from {owner.split('/', 1)[1]}; {found.note}".rstrip("; ")
            return self.values.apply(found.with_value(found.value, name=name, status="estimated", note=note))
        estimate = estimates.get(key)
        return None if estimate is None else self.values.apply(estimate.with_value(estimate.value, name=name))

    def _filled(
        self, chain: list[str], estimates: Mapping[str, Constant], infix: str, extra: Iterable[str]
    ) -> dict[str, Constant]:
        keys = dict.fromkeys(extra)
        for owner in chain:
            keys |= dict.fromkeys(self._fitted.get(owner, {}))
        keys |= dict.fromkeys(estimates)
        found = {key: self._find(chain, key, estimates, infix) for key in keys}
        return {key: constant for key, constant in found.items() if constant is not None}

    def of_chip(self, chain: list[str], architecture: str) -> dict[str, Constant]:
        """All mechanisms of a chip; ``chain`` is its name and those of its predecessors."""
        prefix = f"chip/{chain[0]}.fitted."
        extra = [n.removeprefix(prefix) for n in (*self.values.given, *self.values.overrides) if n.startswith(prefix)]
        estimates = self._estimates.get(f"architecture/{architecture}", {})
        return self._filled([f"chip/{c}" for c in chain], estimates, "fitted.", extra)

    def _chain(self, name: str) -> list[str]:
        """An interconnect and those that its values carry over from."""
        chain = [name]
        while chain[-1] in self._carry and self._carry[chain[-1]] not in chain:
            chain.append(self._carry[chain[-1]])
        return chain

    def algorithms(self, interconnect: str) -> tuple[str, ...]:
        """Collective algorithms of an interconnect's library, empty where no library is known."""
        return next((self._algorithms[c] for c in self._chain(interconnect) if c in self._algorithms), ())

    def of_interconnect(self, name: str) -> dict[str, Constant]:
        """All mechanisms of an interconnect (``nvlink4``)."""
        chain = self._chain(name)
        estimates = dict(self._estimates.get("interconnect/default", {}))
        for owner in reversed(chain):
            estimates |= self._estimates.get(f"interconnect/{owner}", {})
        prefix = f"interconnect/{name}."
        extra = [n.removeprefix(prefix) for n in (*self.values.given, *self.values.overrides) if n.startswith(prefix)]
        return self._filled([f"interconnect/{c}" for c in chain], estimates, "", extra)


def unit_of_mechanism(kind: str, key: str) -> str | None:
    """The unit of a mechanism of chips or interconnects, None if no file knows it."""
    fitted, _, estimates, _ = _read_all(HERE / "fitted.toml", HERE / "estimates.toml")
    _, libraries = _read_libraries(HERE / "interconnects.toml")
    kinds = (kind, "chip/") if kind == "architecture/" else (kind,)
    known = (*estimates.items(), *libraries.items(), *fitted.items())
    return next((e[key].unit for owner, e in known if owner.startswith(kinds) and key in e), None)


@lru_cache(maxsize=4)
def _read_all(
    fitted: Path, estimates: Path
) -> tuple[dict[str, dict[str, Constant]], dict[str, str], dict[str, dict[str, Constant]], frozenset[str]]:
    """Fitted, who follows whom, estimates, and the mechanisms that a successor does not take over."""
    own = read(fitted)
    found = _sections(own, ("chip", "interconnect"))
    own.done()
    assumed = read(estimates)
    carry_table = assumed.table("carry")
    carry = {key: carry_table.text(key) for key in carry_table} if carry_table else {}
    estimated = _sections(assumed, ("architecture", "interconnect"))
    alone = frozenset(assumed.texts("not_carried"))
    assumed.done()
    return found, carry, estimated, alone


@lru_cache(maxsize=2)
def _read_libraries(path: Path) -> tuple[dict[str, tuple[str, ...]], dict[str, dict[str, Constant]]]:
    """Algorithms by interconnect, and the constants of the libraries' code."""
    root = read(path)
    table = root.table("algorithms")
    assert table is not None
    algorithms = {key: table.texts(key) for key in list(table.keys())}
    constants = _sections(root, ("interconnect",))
    root.done()
    return algorithms, constants


def _sections(root: Table, kinds: tuple[str, ...]) -> dict[str, dict[str, Constant]]:
    out: dict[str, dict[str, Constant]] = {}
    for kind in kinds:
        table = root.table(kind)
        for name in table if table else []:
            assert table is not None
            out[f"{kind}/{name}"] = _constants(table.table(name), f"{kind}/{name}")
    return out
