"""What the clock says of a launch: time, engines at work, bounds, and the path that decided it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from trainshed.chip.accesses import Accesses
from trainshed.chip.timing.bounds import bounds, hbm_bytes, products
from trainshed.chip.timing.clock import Clock, clocks
from trainshed.chip.timing.origins import origins
from trainshed.chip.timing.path import Activity, Step, activity, critical
from trainshed.chip.timing.rates import Rates, rates


@dataclass(frozen=True, kw_only=True)
class Timing:
    """A launch's time. Engines, bounds and paths are of the core that ends last; shares of peaks are of all cores."""

    seconds: float
    cores: tuple[float, ...]
    """Seconds of each core."""
    engines: dict[str, Activity]
    bounds: dict[str, float]
    """Least seconds by what would take them (``timing/bounds.py``)."""
    mfu: float
    """Model FLOPs utilisation: FLOPs of matmuls over what TensorE could do in this time, at the peak of their dtype."""
    hfu: float
    """Hardware FLOPs utilisation: the same with transposes on TensorE."""
    mbu: float
    """Memory bandwidth utilisation: bytes from and to HBM over the cores' share of its bandwidth."""
    dma: float
    """Bytes moved by DMA over what the DMA engines could move in this time; of the core that ends last."""
    critical: tuple[Step, ...]
    """The critical path by line, the longest first; the seconds add up to the kernel's."""

    @property
    def busy(self) -> dict[str, float]:
        """Seconds each engine is at work; ``dma``: at least one transfer is under way."""
        return {name: one.busy for name, one in self.engines.items()}

    @property
    def limit(self) -> str:
        """The bound that is nearest; empty for a kernel without instructions."""
        return max(self.bounds, key=lambda name: self.bounds[name], default="")

    def ratio(self, bound: str) -> float | None:
        """The time over a bound, at least 1; None for a bound of nothing."""
        least = self.bounds[bound]
        return self.seconds / least if least else None

    def to_json(self) -> dict[str, Any]:
        """All fields as plain JSON, units in the keys."""
        return {
            "time_s": self.seconds, "cores_s": list(self.cores), "limit": self.limit, "mfu": self.mfu, "hfu": self.hfu,
            "mbu": self.mbu, "dma_share": self.dma,
            "engines": {name: one.to_json() for name, one in self.engines.items()},
            "bounds": {name: {"time_s": least, "ratio": self.ratio(name)} for name, least in self.bounds.items()},
            "critical": [step.to_json() for step in self.critical],
        }  # fmt: skip


def timing(columns: Sequence[Accesses], of: Rates | None = None, found: Sequence[Clock] | None = None) -> Timing:
    """The time of a finished launch, from the columns of its cores.

    ``of``: rates other than the catalogue's; ``found``: its clocks, where they are known already.
    """
    of = of or rates(columns[0].core.target.chip)
    found = found or clocks(columns, of)
    last = max(range(len(found)), key=lambda i: found[i].seconds)
    items, slowest, seconds = columns[last].core.instructions, found[last], found[last].seconds
    where = origins(items)
    useful, every = map(sum, zip(*(products(column.core.instructions, of) for column in columns), strict=True))
    moved = sum(hbm_bytes(column.core.instructions) for column in columns)
    whole = seconds * len(columns) or 1.0
    least = bounds(items, where, slowest, of)
    return Timing(
        seconds=seconds, cores=tuple(one.seconds for one in found), engines=activity(where, slowest), bounds=least,
        mfu=useful / whole, hfu=every / whole, mbu=moved / (of.hbm_share * whole),
        dma=least.get("dma", 0.0) / (seconds or 1.0), critical=critical(where, slowest),
    )  # fmt: skip
