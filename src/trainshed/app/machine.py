"""What the options --on, --chips, --ultraservers, --set and --hardware say: a system and how much of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from trainshed.core import Assumption, UserError
from trainshed.hardware import Catalogue, System, parse_set
from trainshed.software import Software


@dataclass(frozen=True, kw_only=True)
class Machine:
    """A system of the catalogue, so many of its chips, and the catalogues that the answer reads."""

    catalogue: Catalogue
    software: Software
    system: System
    chips: int
    assumptions: tuple[Assumption, ...] = ()

    @property
    def ultraservers(self) -> float:
        """Scale-up domains in use."""
        return self.chips / self.system.ultraserver_chips


def machine(
    on: str,
    *,
    chips: int | None = None,
    ultraservers: int | None = None,
    set_values: Sequence[str] = (),
    hardware: Sequence[Path] = (),
) -> Machine:
    """Resolve the options; every mistake is one sentence.

    Without ``chips`` and ``ultraservers`` one whole UltraServer (rack, board) is taken.
    """
    catalogue = Catalogue(extra=hardware)
    system = catalogue.system(on)
    overrides = {name: value for text in set_values for name, value in parse_set(text, system).items()}
    if overrides:
        catalogue = Catalogue(extra=hardware, overrides=overrides)
        system = catalogue.system(on)
    software = Software(overrides=overrides)
    assumed = tuple(Assumption(what=n, value=v, status="given", source="--set") for n, v in overrides.items())
    if chips is not None and ultraservers is not None:
        raise UserError(
            "given together with --chips", where="--ultraservers", value=ultraservers, expected="one of them"
        )
    count = chips if chips is not None else (1 if ultraservers is None else ultraservers) * system.ultraserver_chips
    where, given = ("--chips", chips) if ultraservers is None else ("--ultraservers", ultraservers)
    if not 1 <= count <= system.max_chips:
        raise UserError(
            f"not a size that {system.name} comes in", where=where, value=given,
            expected=f"1 to {system.max_chips:,} chips",
        )  # fmt: skip
    if chips is None and ultraservers is None:
        assumed += (Assumption(what="chips", value=count, status="derived", source=f"one {system.title}"),)
    return Machine(catalogue=catalogue, software=software, system=system, chips=count, assumptions=assumed)
