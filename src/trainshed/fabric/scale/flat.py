"""One ring through all chips of a system of switches: every send has its links to itself, so the ring is a column."""

from __future__ import annotations

import numpy as np

from trainshed.core import UserError, unknown_name
from trainshed.fabric.flow.sends import Floats, Ints, Transport
from trainshed.fabric.scale.outer import repeated
from trainshed.fabric.scale.rounds import Round, rounds
from trainshed.hardware.schema import System

KINDS = ("all_reduce", "reduce_scatter", "all_gather")


def flat_ring(kind: str, size: float, system: System, chips: int, transport: Transport) -> float:
    """Seconds of a ring of ``size`` bytes (NCCL's convention) over all chips in their order, one rank per chip.

    Neighbours meet at the innermost level that holds both. UserError: a level that is no switch (its links are shared).
    """
    if kind not in KINDS:
        raise unknown_name("collective of a ring", kind, KINDS, where="scale")
    other = [level.name for level in system.levels if level.topology not in ("switch", "chip")]
    if other:
        raise UserError("levels of a flat ring", where=system.name, value=", ".join(other), expected="switches alone")
    if not 1 < chips <= system.max_chips:
        raise UserError("chips of a ring", where=system.name, value=chips, expected=f"2 to {system.max_chips}")
    ready = np.zeros((1, chips))
    finish = np.zeros((1, chips))
    outermost = 0
    for each in rounds(kind, "ring", chips):
        assert isinstance(each, Round)
        level = _meet(system, each.source, each.target)
        outermost = int(level.max())
        whole, out = _sends(system, transport, level, size / chips)
        end = repeated(each, whole[None], ready[:, each.source] + whole, np.argsort(each.source)[each.target])
        ready[:, each.target] = np.maximum(ready[:, each.target], end)
        finish[:, each.target] = out
    return float((ready + finish).max()) + transport.launch.get(system.levels[outermost].name, 0.0)


def _meet(system: System, one: Ints, other: Ints) -> Ints:
    """The innermost level at which chips meet."""
    inside = np.stack([one // level.chips == other // level.chips for level in system.levels])
    return np.asarray(inside.argmax(axis=0))


def _sends(system: System, transport: Transport, level: Ints, size: float) -> tuple[Floats, Floats]:
    """What sends at those levels take, and what the last one of a rank takes out of its receive buffer."""
    whole, out = [], []
    for at in system.levels:
        rate = min(float(at.bandwidth.value) * transport.reach.get(at.name, 1.0), transport.inject)
        hop, late = transport.hop.get(at.name, 0.0), float(at.latency.value)
        last = transport.last_step.get(at.name, 0.0)
        whole.append(transport.message.get(at.name, 0.0) + hop + size / rate + late)
        out.append(hop + late + last * size / rate if last else 0.0)
    return np.array(whole)[level], np.array(out)[level]
