"""The claims about Trainium3 and Trainium4: what was said, what running the workload model gives, the verdict."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from trainshed.core import Evidence, TrainshedError, plain, unknown_name
from trainshed.validate.lab import Lab
from trainshed.validate.measures import MEASURES, Found
from trainshed.validate.setup import Setup

FILE = Path(__file__).parent / "claims.toml"


@dataclass(frozen=True, kw_only=True)
class Claim:
    """One claim, tried."""

    id: str
    claim: str
    source: str
    claimed: float | None
    simulated: float | None
    """The reading that favours the claim most, where there are several."""
    unit: str
    ratio: float | None
    """simulated / claimed."""
    verdict: str
    """``holds``, ``holds for …``, ``does not hold``, ``cannot be tested: why``."""
    how: str
    readings: Mapping[str, float] = field(default_factory=dict)
    """Every reading of the claim that was tried."""
    evidence: Evidence | None = None
    """How far off such answers were on measurements; None for data-sheet arithmetic."""

    def to_json(self) -> dict[str, Any]:
        """The row that the command prints."""
        out = plain(self)
        assert isinstance(out, dict)
        return out


def check(setup: Setup | None = None, only: Sequence[str] = ()) -> list[Claim]:
    """Try all claims (or those of the ids named)."""
    lab = Lab(Setup.default() if setup is None else setup)
    known = {entry["id"]: entry for entry in entries()}
    for name in only:
        if name not in known:
            raise unknown_name("claim", name, known, where="claims")
    return [tried(entry, lab) for name, entry in known.items() if not only or name in only]


@cache
def entries() -> tuple[dict[str, Any], ...]:
    """The data of all claims, defaults filled in."""
    raw = tomllib.loads(FILE.read_text(encoding="utf-8"))
    return tuple({**raw["defaults"], **entry} for entry in raw["claim"])


def tried(entry: Mapping[str, Any], lab: Lab) -> Claim:
    """Run the claim's measure and judge."""
    try:
        found = MEASURES[entry["measure"]](lab, entry)
    except TrainshedError as error:
        found = Found(values={}, how="the workload model refused", cannot=str(error))
    claimed = entry.get("claimed")
    best = max(found.values.values(), default=None)
    return Claim(
        id=entry["id"], claim=entry["claim"], source=entry["source"], claimed=claimed, simulated=best,
        unit=entry["unit"], ratio=best / claimed if best is not None and claimed else None, how=found.how,
        verdict=verdict(found, claimed, entry["tolerance"]), readings=found.values, evidence=found.evidence,
    )  # fmt: skip


def verdict(found: Found, claimed: float | None, tolerance: float) -> str:
    """Whether what was found reaches what was claimed; ``tolerance`` allows for the claim's rounding."""
    if found.cannot:
        return f"cannot be tested: {found.cannot}"
    if not found.values or claimed is None:
        return "cannot be tested: nothing was found to compare"
    held = [name for name, value in found.values.items() if value >= claimed * (1.0 - tolerance)]
    if len(held) == len(found.values):
        return "holds"
    return f"holds for {', '.join(held)}" if held else "does not hold"
