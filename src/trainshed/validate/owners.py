"""Who a row's constants belong to: its chip, its interconnects, the family of its framework or engine."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from trainshed.core import UserError
from trainshed.validate import fits
from trainshed.validate.setup import Setup
from trainshed.validate.table import Row, columns

#: Rows that agree in these use the same chip and the same version of the same software.
_SIGNATURE = (
    "group", "chip", "system", "framework", "framework_version", "date", "disaggregated", "mode", "phase", "variant",
)  # fmt: skip

Owner = tuple[str, str]
"""(scope, name), e.g. ``("chip", "h100-sxm")``."""
Owners = Mapping[Owner, Sequence[fits.Mechanism]]


class Directory:
    """Answers for the rows of one fit."""

    def __init__(self, rows: Sequence[Row], setup: Setup) -> None:
        self.rows, self.setup = rows, setup
        self._known: dict[tuple[str, ...], frozenset[str]] = {}
        software = setup.software
        self._families = {
            **{("framework", name): software.framework(name).family for name in software.frameworks()},
            **{("engine", name): software.engine(name).family for name in software.engines()},
        }

    def owners(self, stage: fits.Stage) -> Owners:
        """Every owner that a stage's mechanisms could have, with those mechanisms."""
        known = {
            "chip": self._hardware("chip"), "interconnect": self._hardware("interconnect"),
            "framework": self.setup.software.frameworks(), "engine": self.setup.software.engines(),
        }  # fmt: skip
        found: dict[Owner, list[fits.Mechanism]] = {}
        for mechanism in stage.mechanisms:
            for name in filter(mechanism.has, known[mechanism.scope]):
                found.setdefault((mechanism.scope, name), []).append(mechanism)
        return found

    def candidates(self, owner: Owner) -> list[int]:
        """Indices of the rows that could rest on an owner (of software: on any version of its family, or unnamed)."""
        wanted = {self._families.get(owner, owner[1]), ""}
        return [i for i, row in enumerate(self.rows) if wanted & self._names(owner[0], row)]

    def alike(self, owner: Owner, rows: Sequence[int]) -> list[list[int]]:
        """Rows in sets that use the same owners of that scope. (Which links a row uses depends on its plan as well.)"""
        if owner[0] == "interconnect":
            return [[i] for i in rows]
        sets: dict[tuple[str | None, ...], list[int]] = defaultdict(list)
        for i in rows:
            sets[tuple(self.rows[i].text(c) for c in _SIGNATURE if c in columns(self.rows[i].table))].append(i)
        return list(sets.values())

    def _hardware(self, scope: str) -> list[str]:
        return list(dict.fromkeys(name for row in self.rows for name in sorted(self._names(scope, row))))

    def _names(self, scope: str, row: Row) -> frozenset[str]:
        """Chip, interconnects or software of a row; ``""`` stands for any."""
        find, *columns = _FINDERS[scope]
        words = tuple(row.text(column) or "" for column in columns)
        if not words[0]:
            return frozenset({""}) if scope in {"framework", "engine"} else frozenset()
        if (scope, *words) not in self._known:
            try:
                self._known[scope, *words] = frozenset(find(self.setup, *words))
            except UserError:
                self._known[scope, *words] = frozenset()
        return self._known[scope, *words]


def _engines(setup: Setup, name: str, chip: str) -> list[str]:
    """Families: the one of that name, and the one that the chip's vendor makes of it."""
    find = setup.software.engine
    return [find(name).family, find(f"{name} on {setup.catalogue.chip(chip).vendor}").family]


_FINDERS: Mapping[str, tuple[Any, ...]] = {
    "chip": (lambda setup, word: [setup.catalogue.chip(word).name], "chip"),
    "interconnect": (lambda setup, word: [v.interconnect for v in setup.catalogue.system(word).levels], "system"),
    "framework": (lambda setup, word: [setup.software.framework(word).family], "framework"),
    "engine": (_engines, "framework", "chip"),
}
"""Scope → how a row's words (in these columns) name the owners that it may rest on."""
