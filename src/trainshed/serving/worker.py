"""One copy of a model on chips of one kind, run by one engine: what prefills, decodes, or both."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from trainshed.core import Dtypes, Number, Plan
from trainshed.hardware.schema import Chip, Level, System
from trainshed.models import Model
from trainshed.software.schema import Engine


@dataclass(frozen=True, kw_only=True, eq=False)
class Worker:
    """A model under a plan on one pool of a system; ``plan`` may be a table of plans."""

    model: Model
    system: System
    chip: Chip
    plan: Plan
    dtypes: Dtypes
    engine: Engine
    identical: bool = False
    """Every sequence has the same tokens: an MoE layer reads the experts of one token."""

    @property
    def levels(self) -> tuple[Level, ...]:
        """The fabric, innermost level first."""
        return self.system.levels

    @property
    def cores(self) -> int:
        """Physical cores of one rank."""
        if self.plan.lnc:
            return self.plan.lnc
        return int(float(self.chip.lnc.value)) if self.chip.lnc is not None else 1

    @property
    def ranks_per_chip(self) -> float:
        """Ranks on one chip."""
        return float(self.chip.cores.value) / self.cores

    @property
    def share(self) -> float:
        """Part of a chip that one rank owns."""
        return self.cores / float(self.chip.cores.value)

    @property
    def ranks(self) -> Number:
        """Ranks of one replica."""
        return np.asarray(self.plan.ranks, dtype=np.float64)

    @property
    def replicas(self) -> Number:
        """Copies of the model."""
        return np.asarray(self.plan.replicas, dtype=np.float64)

    @property
    def chips(self) -> Number:
        """Chips of all replicas."""
        return self.ranks * self.replicas * self.share

    def degree(self, name: str) -> Number:
        """A degree of the plan as floats."""
        return np.asarray(getattr(self.plan, name), dtype=np.float64)


def worker(
    model: Model, system: System, plan: Plan, dtypes: Dtypes, engine: Engine, *, pool: str = "", identical: bool = False
) -> Worker:
    """A worker on a pool of a system (the first one where none is named); dtypes become what the chip multiplies."""
    chip = (system.pool(pool) if pool else system.pools[0]).chip
    return Worker(
        model=model, system=system, chip=chip, plan=plan, dtypes=multiplied(chip, dtypes), engine=engine,
        identical=identical,
    )  # fmt: skip


#: Product dtypes that stand in, in this order, for one that a chip does not multiply.
_STAND_INS: dict[str, tuple[str, ...]] = {
    "nvfp4": ("mxfp4", "fp8", "mxfp8", "bf16", "fp16"), "mxfp4": ("nvfp4", "fp8", "mxfp8", "bf16", "fp16"),
    "mxfp8": ("fp8", "bf16", "fp16"), "fp8": ("mxfp8", "bf16", "fp16"), "int8": ("bf16", "fp16"),
    "int4": ("bf16", "fp16"), "bf16": ("fp16",), "fp16": ("bf16",), "tf32": ("fp32", "bf16"), "fp32": ("tf32", "bf16"),
}  # fmt: skip


def multiplied(chip: Chip, dtypes: Dtypes) -> Dtypes:
    """The same with the product dtype that the chip has: narrower weights than it multiplies are widened first.

    A NeuronCore with MX products multiplies block-scaled weights with nothing else: activations are quantised for them.
    """
    mx = chip.neuron is not None and chip.neuron.mx_rows is not None

    def nearest(stored: str, wanted: str) -> str:
        if mx and stored.startswith("mx"):
            return "mxfp8"
        return next((d for d in (wanted, *_STAND_INS.get(wanted, ())) if d in chip.flops), wanted)

    return replace(
        dtypes, matmul=nearest(dtypes.weights, dtypes.of("matmul")),
        experts_matmul=nearest(dtypes.of("experts"), dtypes.of("experts_matmul")),
    )  # fmt: skip
