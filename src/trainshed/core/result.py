"""What every command returns and prints."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from trainshed.core.constant import Constant
from trainshed.core.cost import Cost


@dataclass(frozen=True, kw_only=True)
class Assumption:
    """Something the answer rests on that the user did not say."""

    what: str
    value: Any
    unit: str = ""
    status: str = "estimated"
    source: str = ""


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """How far off Trainshed was on the published measurements most like this answer."""

    comparable_points: int
    median_abs_error: float | None
    p90_abs_error: float | None
    range: tuple[float, float] | None
    """80 % interval of the headline metric."""
    carried_from: str | None
    """The chip whose measurements stand in where this one has too few."""
    why: str
    metric: str = ""
    """The figure that the flat fields speak of."""
    by_metric: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Result:
    """Inputs, the result proper (SI units in the keys), assumptions, evidence, and the tree it follows from."""

    command: str
    inputs: Mapping[str, Any]
    result: Mapping[str, Any] | list[Any]
    assumptions: tuple[Assumption, ...] = ()
    evidence: Evidence | None = None
    cost: Cost | None = None
    """The scalar tree of the headline figure (not part of the JSON: ``explain`` prints it)."""
    details: Mapping[str, Any] = field(default_factory=dict)
    """Typed records for reports and traces (not part of the JSON)."""

    def to_json(self, version: str) -> dict[str, Any]:
        """The command line's JSON: stable keys, SI units, no NaN."""
        out: dict[str, Any] = {
            "trainshed": version, "command": self.command, "inputs": plain(self.inputs), "result": plain(self.result),
            "assumptions": plain(self.assumptions),
        }  # fmt: skip
        if self.evidence is not None:
            out["evidence"] = plain(self.evidence)
        return out


def plain(value: Any) -> Any:
    """Dataclasses, arrays and NumPy scalars as JSON types; NaN and infinity as None."""
    if isinstance(value, Constant):
        return value.to_json()
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(v) for v in value]
    if isinstance(value, np.ndarray):
        return [plain(v) for v in value.tolist()]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if value is None or isinstance(value, str | int | float | bool):
        return value
    return str(value)
