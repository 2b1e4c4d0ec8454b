"""What is fitted on what, as data: ``validate/fits/*.toml``, one stage each, in their order.

A stage fits constants of hardware and software jointly on counted rows of its tables, with all other constants as they
stand. A constant is a *mechanism* of a *scope*: one value per chip, interconnect, engine or framework version.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path
from typing import Any, Literal, get_args

from trainshed.core import UserError, unknown_name
from trainshed.validate.table import Row, columns

Scope = Literal["chip", "interconnect", "framework", "engine"]
FOLDER = Path(__file__).parent / "fits"


@dataclass(frozen=True, kw_only=True)
class Mechanism:
    """One physical quantity, to be fitted once per owner (chip, interconnect, framework or engine version)."""

    scope: Scope
    mechanism: str
    """Its key, e.g. ``gemm_efficiency.bf16``."""
    unit: str
    meaning: str
    start: float
    """Estimate that the fit starts from and, where rows say little, stays near."""
    bounds: tuple[float, float]
    spread: float = 0.5
    """Standard deviation of the prior around ``start``: of the logarithm; where the lower bound is 0, of the value."""
    least: int = 8
    """Rows that an owner needs for a value of its own; with fewer it takes that of its predecessor."""
    only: tuple[str, ...] = ("*",)
    """Patterns of owners that have the mechanism (``!pattern``: that do not)."""

    def __post_init__(self) -> None:
        low, high = self.bounds
        if self.scope not in get_args(Scope):
            raise unknown_name("scope", self.scope, get_args(Scope), where=f"fits of {self.mechanism}")
        if not (0 <= low < high and low <= self.start <= high and self.spread > 0):
            raise UserError(
                "bounds do not hold the start", where=f"fits of {self.mechanism}", value=self.start,
                expected=f"a value in {low} … {high}",
            )  # fmt: skip

    def name(self, owner: str) -> str:
        """Full name of the owner's constant."""
        middle = ".fitted" if self.scope == "chip" else ""
        return f"{self.scope}/{owner}{middle}.{self.mechanism}"

    def has(self, owner: str) -> bool:
        """Whether the owner is one of those that the patterns name."""
        banned = [p[1:] for p in self.only if p.startswith("!")]
        wanted = [p for p in self.only if not p.startswith("!")] or ["*"]
        return any(fnmatchcase(owner, p) for p in wanted) and not any(fnmatchcase(owner, p) for p in banned)

    @property
    def linear(self) -> bool:
        """Fitted as it is (a share that may be 0) rather than as its logarithm."""
        return self.bounds[0] == 0


@dataclass(frozen=True, kw_only=True)
class Stage:
    """Constants fitted together on the counted rows of some tables."""

    name: str
    order: int
    tables: tuple[str, ...]
    where: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    """Column → values that a row must have (``!value``: must not have)."""
    balance: float = 0.0
    """0: every row weighs the same; 1: every group does."""
    stacked: bool = False
    """The tables take constants of shape (k, 1), so that all columns of a Jacobian come from one prediction."""
    mechanisms: tuple[Mechanism, ...] = ()

    def takes(self, row: Row) -> bool:
        """Whether a row is one that the stage is fitted on."""
        return row.table in self.tables and row.counted and all(_matches(row, c, v) for c, v in self.where.items())

    @property
    def filter_text(self) -> str:
        """The rows in words."""
        words = [f"{c} in {', '.join(map(str, v))}" for c, v in self.where.items()]
        return f"{' and '.join(f'{t}.csv' for t in self.tables)}, counted{''.join(f', {w}' for w in words)}"


def _matches(row: Row, column: str, values: Sequence[Any]) -> bool:
    have = {"metric": row.metric, "group": row.group}.get(column) or str(row.cells.get(column, ""))
    banned = [str(v)[1:] for v in values if str(v).startswith("!")]
    wanted = [str(v) for v in values if not str(v).startswith("!")]
    return have not in banned and (not wanted or have in wanted)


@cache
def stages() -> tuple[Stage, ...]:
    """All stages in the order in which they are fitted."""
    return tuple(sorted((stage(path) for path in FOLDER.glob("*.toml")), key=lambda s: (s.order, s.name)))


def stage(path: Path) -> Stage:
    """One file, read strictly."""
    raw = tomllib.loads(path.read_text(encoding="utf-8"))
    mechanisms = tuple(_mechanism(entry, path) for entry in raw.pop("constant", []))
    known = {f.name for f in fields(Stage)} - {"name", "mechanisms"}
    for key in raw:
        if key not in known:
            raise unknown_name("key", key, known | {"constant"}, where=str(path))
    for table in raw["tables"]:
        for column in raw.get("where", {}):
            if column not in columns(table):
                raise unknown_name(f"column of table {table}", column, columns(table), where=str(path))
    return Stage(**{**raw, "name": path.stem, "tables": tuple(raw["tables"]), "mechanisms": mechanisms})


def _mechanism(entry: Mapping[str, Any], path: Path) -> Mechanism:
    known = {f.name for f in fields(Mechanism)}
    for key in entry:
        if key not in known:
            raise unknown_name("key", key, known, where=f"{path}: {entry.get('mechanism', '')}")
    lists = {k: tuple(v) for k, v in entry.items() if isinstance(v, list)}
    return Mechanism(**{**entry, **lists})
