"""Calls of a trace timed send by send on a network's links, each group on the chips where it really is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from trainshed.core import UserError
from trainshed.fabric.chakra.pricing import ClosedForms
from trainshed.fabric.chakra.trace import Call, Floats, Ints
from trainshed.fabric.collective import collective
from trainshed.fabric.flow.fair import Flow
from trainshed.fabric.flow.sends import Model
from trainshed.fabric.flow.transport import transport
from trainshed.fabric.group import Group, spread
from trainshed.fabric.network.graph import Network
from trainshed.fabric.schedule import ALGORITHMS, Schedule, schedule, sends
from trainshed.hardware.schema import System


@dataclass(frozen=True, kw_only=True)
class _Chips:
    """Where a group's members are (``schedule.sends.Placed``)."""

    chip: Ints


@dataclass(frozen=True, kw_only=True, eq=False)
class OnLinks:
    """``pricing.Fabric`` by a network model: a call's schedule alone on the network, whole or with faults.

    ``auto`` takes the algorithm that the closed forms choose. Ranks are placed in order, ``ranks_per_chip`` on each.
    """

    system: System
    network: Network
    ranks_per_chip: int = 1
    model: Model = field(default_factory=Flow)
    routing: str = "spray"

    def seconds(self, call: Call, size: Floats, members: Sequence[Ints]) -> Floats:
        """One run of the model per different call."""
        return np.array([self._one(call, float(s), m) for s, m in zip(size, members, strict=True)])

    def _one(self, call: Call, size: float, members: Ints) -> float:
        if len(members) == 1:
            return 0.0
        chips = members // self.ranks_per_chip
        if int(chips[-1]) >= self.network.chips:
            raise UserError(
                "a rank beyond the network", where=self.network.name, value=int(members[-1]),
                expected=f"at most {self.network.chips * self.ranks_per_chip} ranks",
            )  # fmt: skip
        made = self._schedule(call, size, members)
        pays = transport(self.system, call.kind, algorithm=made.algorithm, size=size, ranks=made.ranks)
        return self.model.run(self.network, sends(made, size, _Chips(chip=chips)), pays, routing=self.routing).seconds

    def _schedule(self, call: Call, size: float, members: Ints) -> Schedule:
        """The algorithm named, or the one that the closed forms choose; a hierarchy has the fans of the levels."""
        forms = ClosedForms(levels=self.system.levels, ranks_per_chip=float(self.ranks_per_chip))
        group = Group(ranks=len(members), stride=forms.stride(members))
        name = call.algorithm
        if name == "auto":
            name = str(
                collective(
                    call.kind, size=size, group=group, levels=self.system.levels, dtype=call.dtype, copies=call.copies,
                    ranks_per_chip=float(self.ranks_per_chip),
                ).chosen
            )  # fmt: skip
        if name not in ALGORITHMS[call.kind]:
            name = "direct" if "direct" in ALGORITHMS[call.kind] else "ring"
        shape: dict[str, object] = {"copies": call.copies} if call.kind.startswith("moe_") else {}
        if name == "hierarchical":
            shares = spread(group, self.system.levels, float(self.ranks_per_chip))
            fans = [round(float(np.asarray(s.fan))) for s in shares]
            if np.prod(fans) != len(members):
                name = "direct" if "direct" in ALGORITHMS[call.kind] else "ring"
            else:
                shape["levels"] = [fan for fan in fans if fan > 1]
        return schedule(call.kind, name, len(members), **shape)
