"""A schedule replayed with values: exact results, added up in the schedule's order."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainshed.core import UserError, unknown_name
from trainshed.fabric.schedule.check import arrivals
from trainshed.fabric.schedule.steps import Schedule, Step

Values = NDArray[Any]
OPS: dict[str, Callable[[Values, Values], Values]] = {
    "add": np.add, "multiply": np.multiply, "maximum": np.maximum, "minimum": np.minimum,
}  # fmt: skip
#: Kinds that start with, and end with, a block for each rank.
_BLOCKED = ("reduce_scatter", "moe_combine", "all_to_all")
_GATHERS = ("all_gather", "moe_dispatch")


def replay(schedule: Schedule, buffers: Values, op: str = "add") -> Values:
    """``[ranks, elements]`` what every rank passes to the collective, to ``[ranks, elements]`` what each gets.

    all_reduce, broadcast (the root's counts), permute: m to m elements; reduce_scatter, moe_combine: n · b to b;
    all_gather, moe_dispatch: b to n · b; all_to_all: n · b to n · b. Elements keep their dtype, so that each addition
    rounds to it; slots that do not divide are padded. ``op``: one of ``OPS``. Raises UserError on other shapes.
    """
    if op not in OPS:
        raise unknown_name("operation", op, OPS, where="replay")
    values, n = np.asarray(buffers), schedule.ranks
    if values.ndim != 2 or len(values) != n:
        raise UserError("buffers", where=f"{schedule.algorithm} {schedule.kind}", value=values.shape,
                        expected=f"({n} ranks, elements)")  # fmt: skip
    blocks = n if schedule.kind in _BLOCKED else 1
    if values.shape[1] % blocks:
        raise UserError("elements", where=f"{schedule.algorithm} {schedule.kind}", value=values.shape[1],
                        expected=f"a multiple of {n} ranks")  # fmt: skip
    length = values.shape[1] // blocks
    held = _fill(schedule, values, length)
    for step in schedule.steps:
        for once in step.times():
            _advance(once, held, OPS[op])
    return _result(schedule, held, length)


def _fill(schedule: Schedule, values: Values, length: int) -> Values:
    """``[ranks, slots, width]``: the slots a kind starts with; the others hold what nobody may read (NaN)."""
    n, data = schedule.ranks, schedule.data
    gathers = schedule.kind in _GATHERS
    pieces = data // n if gathers or schedule.kind in _BLOCKED else data
    width = -(-length // pieces)
    held = np.zeros((n, schedule.slots, width), values.dtype)
    if values.dtype.kind not in "iub":
        held[:] = np.nan
    padded = np.zeros((n, 1 if gathers else data // pieces, pieces * width), values.dtype)
    padded[:, :, :length] = values.reshape(n, -1, length) if length else 0
    if gathers:
        ranks = np.arange(n)
        held.reshape(n, -1)[:, : data * width].reshape(n, n, -1)[ranks, ranks] = padded[:, 0]
    else:
        held[:, :data] = padded.reshape(n, data, width)
    if schedule.output:
        each, ranks = data // n, np.arange(n)[:, None]
        own = ranks * each + np.arange(each)
        held[ranks, schedule.output + own] = held[ranks, own]
    return held


def _advance(step: Step, held: Values, op: Callable[[Values, Values], Values]) -> None:
    """One step: everything is read, then written, arrival by arrival in the order of the sends."""
    if not len(step):
        return
    brought, writes = held[step.source[:, None], step.reads], step.writes
    for sends in arrivals(step.target, writes):
        at = (step.target[sends][:, None], writes[sends])
        held[at] = op(held[at], brought[sends]) if step.reduce else brought[sends]


def _result(schedule: Schedule, held: Values, length: int) -> Values:
    n, data, width = schedule.ranks, schedule.data, held.shape[2]
    out = held[:, schedule.output : schedule.output + data]
    if schedule.kind in ("reduce_scatter", "moe_combine"):
        pieces = data // n
        ranks = np.arange(n)[:, None]
        return np.asarray(out[ranks, ranks * pieces + np.arange(pieces)].reshape(n, -1)[:, :length])
    blocks = n if schedule.kind in _GATHERS or schedule.kind == "all_to_all" else 1
    return np.asarray(out.reshape(n, blocks, data // blocks * width)[:, :, :length]).reshape(n, -1)
