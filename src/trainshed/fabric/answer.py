"""The answer of ``trainshed collective``: one collective among the first chips of a system."""

from __future__ import annotations

import math
from typing import Any

from trainshed.core import Assumption, Cost, Result, UserError
from trainshed.fabric.collective import ALGORITHMS, CollectiveCost, collective
from trainshed.fabric.group import Group
from trainshed.hardware.schema import System

#: busbw / algbw of nccl-tests, besides (n − 1) / n.
_BUS = {"all_reduce": 2.0, "all_gather": 1.0, "reduce_scatter": 1.0, "all_to_all": 1.0}


def answer(
    kind: str, bytes: float, system: System, chips: int, algorithm: str = "auto", *, ranks_per_chip: int = 1,
    dtype: str = "bf16", concurrent: int = 1, copies: int = 1,
) -> Result:  # fmt: skip
    """Time, algorithm, bandwidths, lower bound and bytes on links of one collective; what each algorithm would take."""
    ranks = _checked(bytes, system, chips, ranks_per_chip)

    def run(name: str) -> CollectiveCost:
        return collective(
            kind, size=float(bytes), group=Group(ranks=ranks), levels=system.levels, dtype=dtype, algorithm=name,
            ranks_per_chip=float(ranks_per_chip), concurrent=float(concurrent), copies=float(copies),
        )  # fmt: skip

    found = run(algorithm)
    time = found.time.at(())
    seconds = float(time.value)
    rate = bytes / seconds if seconds > 0 else math.nan
    result: dict[str, Any] = {
        "time_s": seconds, "algorithm": str(found.chosen), "algbw_bytes_per_s": rate,
        "busbw_bytes_per_s": rate * _bus(kind, ranks), "lower_bound_s": float(found.lower_bound.value),
        "bytes_on_links": {level: float(size) for level, size in found.bytes_on_links.items()},
        "ranks": ranks, "algorithms_s": _each(kind, system, dtype, run),
        "bound": _bound(time),
    }  # fmt: skip
    inputs = {"kind": kind, "bytes": float(bytes), "system": system.name, "chips": chips, "algorithm": algorithm,
              "ranks_per_chip": ranks_per_chip}  # fmt: skip
    return Result(
        command="collective", inputs=inputs, result=result, assumptions=assumed(system, ranks_per_chip, time),
        cost=time, details={"lower_bound": found.lower_bound, "algorithms": found.algorithms},
    )  # fmt: skip


def _checked(bytes: float, system: System, chips: int, ranks_per_chip: int) -> int:
    if not bytes > 0 or not math.isfinite(bytes):
        raise UserError("a collective needs bytes", where="--bytes", value=bytes, expected="a size above 0")
    if chips < 1:
        raise UserError("a collective needs chips", where="--chips", value=chips, expected="at least 1")
    if chips > system.max_chips:
        raise UserError(
            "group larger than the system", where="--chips", value=chips, expected=f"at most {system.max_chips} chips "
            f"of {system.name}",
        )  # fmt: skip
    if ranks_per_chip < 1:
        raise UserError("ranks per chip", where="--ranks-per-chip", value=ranks_per_chip, expected="at least 1")
    return chips * ranks_per_chip


def _bus(kind: str, ranks: int) -> float:
    return _BUS[kind] * (ranks - 1) / ranks if kind in _BUS else 1.0


def _each(kind: str, system: System, dtype: str, run: Any) -> dict[str, float]:
    """What every algorithm of the kind would take here, whether the system's library has it or not."""
    names = [n for n in ALGORITHMS[kind] if n != "nvls" or system.levels[0].reduction_in_network]
    if dtype not in ("fp32", "tf32", "bf16", "fp16"):
        names = [n for n in names if n != "nvls"]
    return {name: float(run(name).time.value) for name in names}


def _bound(time: Cost) -> str:
    """What most of the time goes into: launch, steps or bytes over links."""
    parts: dict[str, float] = {}
    for node in time.walk():
        if not node.children:
            parts[node.what] = parts.get(node.what, 0.0) + float(node.value)
    return max(parts, key=lambda what: parts[what]) if parts else "nothing"


def assumed(system: System, ranks_per_chip: int, time: Cost) -> tuple[Assumption, ...]:
    """What an answer takes for granted: ranks on chips, the library's algorithms, constants that nobody published."""
    ranks = "one rank per chip" if ranks_per_chip == 1 else f"{ranks_per_chip} ranks per chip, all at work at once"
    first = Assumption(what="ranks on a chip", value=ranks, source="--ranks-per-chip")
    library = system.levels[0].algorithms
    menu = Assumption(
        what="algorithms compared", value=", ".join(library) if library else "all", status="published",
        source="hardware/interconnects.toml",
    )  # fmt: skip
    weak = [c for c in time.used_constants().values() if c.status in ("estimated", "fitted", "announced")]
    return (first, menu, *(
        Assumption(what=c.name, value=float(c.value), unit=c.unit, status=c.status, source=c.note or c.source)
        for c in weak
    ))  # fmt: skip
