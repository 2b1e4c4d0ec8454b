"""What the options --on, --chips, --ultraservers, --set and --hardware say: a system and how much of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from trainshed import units
from trainshed.core import Assumption, Constant, Number, UserError
from trainshed.hardware import Catalogue, System, parse_set
from trainshed.software import Software
from trainshed.software.names import parse_set as parse_software
from trainshed.software.names import speaks_of_software

PURCHASES = ("capacity-block", "on-demand", "spot", "reserved")


@dataclass(frozen=True, kw_only=True)
class Machine:
    """A system of the catalogue, so many of its chips, its price, and the catalogues that the answer reads."""

    catalogue: Catalogue
    software: Software
    system: System
    chips: int
    price: Constant | None
    said: Mapping[str, Any] = field(default_factory=dict)
    """The options as given, for ``inputs``."""
    assumptions: tuple[Assumption, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    grid: str = "us"
    """Region whose electricity's carbon is counted."""

    def replaced(self, values: Mapping[str, Number]) -> Machine:
        """The same machine with constants replaced by full name (values may be stacked arrays)."""
        return machine(**self.options, overrides=values)


def machine(
    on: str,
    *,
    chips: int | None = None,
    ultraservers: int | None = None,
    price: str | None = None,
    purchase: str | None = None,
    grid: str = "us",
    set_values: Sequence[str] = (),
    hardware: Sequence[Path | str] = (),
    overrides: Mapping[str, Number] | None = None,
) -> Machine:
    """Resolve the options; every mistake is one sentence.

    Without ``chips`` and ``ultraservers`` one whole UltraServer (rack, board) is taken.
    """
    options = {
        "on": on, "chips": chips, "ultraservers": ultraservers, "price": price, "purchase": purchase,
        "grid": grid,
        "set_values": tuple(set_values), "hardware": tuple(Path(p) for p in hardware),
    }  # fmt: skip
    if purchase is not None and purchase not in PURCHASES:
        raise UserError("unknown kind of purchase", where="--purchase", value=purchase, expected=", ".join(PURCHASES))
    extra = [Path(path) for path in hardware]
    system = Catalogue(extra=extra).system(on)
    programs = [text for text in set_values if speaks_of_software(text)]
    soft = {name: value for text in programs for name, value in parse_software(text).items()}
    rest = [text for text in set_values if text not in programs]
    given = {name: value for text in rest for name, value in parse_set(text, system).items()}
    if price is not None:
        given |= parse_set(f"price={price}", system, where="--price")
    catalogue = Catalogue(extra=extra, given=given, overrides=overrides)
    system = catalogue.system(on)
    return Machine(
        catalogue=catalogue, software=Software(overrides={**soft, **(overrides or {})}), system=system,
        chips=_count(system, chips, ultraservers), price=catalogue.price(system.name, purchase),
        said={k: v for k, v in options.items() if v not in (None, ())}, options=options,
        assumptions=_assumed(system, chips, ultraservers, {**given, **soft}), grid=grid,
    )  # fmt: skip


def _count(system: System, chips: int | None, ultraservers: int | None) -> int:
    if chips is not None and ultraservers is not None:
        raise UserError(
            "given together with --chips", where="--ultraservers", value=ultraservers, expected="one of both"
        )
    where, given = ("--chips", chips) if ultraservers is None else ("--ultraservers", ultraservers)
    count = chips if chips is not None else (1 if ultraservers is None else ultraservers) * system.ultraserver_chips
    if not 1 <= count <= system.max_chips:
        raise UserError(
            f"not a size that {system.name} comes in", where=where, value=given,
            expected=f"1 to {system.max_chips:,} chips",
        )  # fmt: skip
    return count


def _assumed(
    system: System, chips: int | None, ultraservers: int | None, given: Mapping[str, Number]
) -> tuple[Assumption, ...]:
    said = [Assumption(what=name, value=value, status="given", source="--set") for name, value in given.items()]
    if chips is None and ultraservers is None:
        whole = Assumption(what="chips", value=system.ultraserver_chips, status="derived", source=f"one {system.title}")
        said.append(whole)
    return tuple(said)


def rate(text: str) -> float:
    """Requests per second from ``20/s``, ``20`` or ``1200/min``."""
    number, _, per = text.partition("/")
    seconds = {"s": 1.0, "": 1.0, "min": 60.0, "h": 3600.0}.get(per.strip())
    try:
        value = float(number)
    except ValueError:
        value = 0.0
    if seconds is None or value <= 0:
        raise UserError("not a rate", where="--rate", value=text, expected="requests per time, as in 20/s or 1200/min")
    return value / seconds


def size(text: str, where: str) -> float:
    """Bytes from ``1GiB``."""
    try:
        value = units.parse(text, "B")
    except units.UnitError as error:
        raise UserError(error.what, where=where, value=text, expected=error.expected) from None
    if value <= 0:
        raise UserError("no bytes", where=where, value=text, expected="more than 0 bytes, as in 64MiB")
    return value


def objectives(text: str | None) -> dict[str, float]:
    """``ttft<2s tpot<40ms`` as seconds by figure."""
    limits: dict[str, float] = {}
    for word in (text or "").replace(",", " ").split():
        name, less, limit = word.partition("<")
        try:
            limits[name.strip()] = units.parse(limit, "s")
        except units.UnitError:
            less = ""
        if not less or name not in ("ttft", "tpot", "e2e"):
            raise UserError("not an objective", where="--slo", value=word, expected="'ttft<2s tpot<40ms e2e<30s'")
    return limits
