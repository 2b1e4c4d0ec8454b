"""Collectives that go on at the same time on overlapping groups: the TP, DP, EP and PP traffic of one step.

They share links max-min fairly, as everything under way does. Groups that tile a domain alike are classes, so that 36
tensor-parallel groups of an UltraServer cost what one does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from trainshed.core import UserError
from trainshed.fabric.flow.sends import Floats, Run, Transport
from trainshed.fabric.network.graph import Network
from trainshed.fabric.scale.classes import Symmetric
from trainshed.fabric.schedule.sends import Placed, join, sends
from trainshed.fabric.schedule.steps import Schedule


@dataclass(frozen=True, kw_only=True, eq=False)
class Collective:
    """One of them: ``size`` bytes (NCCL's convention) by a schedule among ranks where they are, from ``start`` s on."""

    schedule: Schedule
    size: float
    placement: Placed
    start: float = 0.0


@dataclass(frozen=True, kw_only=True, eq=False)
class Together:
    """How long collectives take when they go on at the same time."""

    end: Floats
    """``[collectives]`` s: when the last byte of each has arrived."""
    run: Run
    """All sends, one collective after another."""


def concurrent(
    network: Network, collectives: Sequence[Collective], transport: Transport, *, routing: str = "spray"
) -> Together:  # fmt: skip
    """Time collectives that nobody makes wait for each other. UserError: none given, or as ``flow.fair``."""
    if not collectives:
        raise UserError("collectives", where="concurrent", value="none", expected="at least one")
    parts = [sends(c.schedule, c.size, c.placement, c.start, group) for group, c in enumerate(collectives)]
    run = Symmetric().run(network, join(parts), transport, routing=routing)
    end = np.array([c.start for c in collectives])
    np.maximum.at(end, np.repeat(np.arange(len(parts)), [len(part) for part in parts]), run.end)
    return Together(end=end, run=run)
