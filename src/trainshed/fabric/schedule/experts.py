"""Dispatch to experts and combine: a gather of which each rank needs a part, and the same backwards with additions.

Slot i is the tokens of rank i, of which every token goes to ``copies`` experts (top-k). The collective's size is the
routed copies of a rank's tokens, so that its tokens are 1 / ``copies`` of it. ``counts``: ``[ranks, ranks]`` copies
that rank i routes to experts of rank j, in any unit; without them all ranks get as much. A copy per expert goes
directly; in a hierarchy a token goes once to each domain that has any of its experts and is handed on inside (as
DeepEP's normal kernels do), and combine adds up inside before it leaves.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike

from trainshed.core import UserError
from trainshed.fabric.schedule.compose import backwards, hierarchy
from trainshed.fabric.schedule.gather import mesh, others
from trainshed.fabric.schedule.personal import shares_of
from trainshed.fabric.schedule.reductions import levels_of
from trainshed.fabric.schedule.registry import algorithm
from trainshed.fabric.schedule.steps import Floats, Schedule, Step


def _dispatch(kind: str, ranks: int, steps: Sequence[Step], copies: float, shares: Floats | None) -> Schedule:
    return Schedule(
        kind=kind, algorithm="", ranks=ranks, slots=ranks, slot_share=1.0 / copies, counts=shares,
        steps=tuple(steps) if kind == "moe_dispatch" else backwards(steps),
    )  # fmt: skip


def _copies(copies: float, kind: str) -> float:
    if not copies >= 1:
        raise UserError("copies", where=kind, value=copies, expected="experts per token, at least 1")
    return float(copies)


def direct(kind: str, ranks: int, copies: float, counts: ArrayLike | None) -> Schedule:
    """Every copy straight to its expert's rank."""
    source, target = others(ranks)
    shares = shares_of(ranks, counts, f"direct {kind}")
    if shares is not None:
        busy = shares[source, target] > 0
        source, target = source[busy], target[busy]
    part = np.full(len(source), 1.0 / ranks) if shares is None else shares[source, target]
    steps = [Step(source=source, target=target, slot=source, to=source, weight=_copies(copies, kind) * part)]
    return _dispatch(kind, ranks, steps if len(source) else [], copies, shares)


def hierarchical(
    kind: str, ranks: int, copies: float, counts: ArrayLike | None, levels: Sequence[int] | None
) -> Schedule:
    """One copy per domain, then on inside.

    Experts of a token are taken to be drawn one by one, so that a part q of the copies hits a domain with
    1 − (1 − q)^copies of the tokens.
    """
    fans = levels_of(ranks, levels, where=f"hierarchical {kind}")
    shares = shares_of(ranks, counts, f"hierarchical {kind}")
    inside = [int(np.prod(fans[:k])) for k, fan in enumerate(fans) if fan > 1]
    steps = []
    for step, inner in zip(hierarchy([(fan, mesh) for fan in fans]).steps, reversed(inside), strict=True):
        steps.append(replace(step, weight=_reached(step, ranks, inner, _copies(copies, kind), shares)))
    return _dispatch(kind, ranks, steps, copies, shares)


def _reached(step: Step, ranks: int, inner: int, copies: float, shares: Floats | None) -> Floats:
    """``[sends]`` part of the tokens a send could carry that have an expert among the ``inner`` ranks it leads to."""
    if shares is None:
        return np.full(len(step), 1.0 - (1.0 - inner / ranks) ** copies)
    of_rank = shares / np.maximum(shares.sum(axis=1, keepdims=True), np.finfo(np.float64).tiny)
    inside = np.clip(of_rank.reshape(ranks, -1, inner).sum(axis=2), 0.0, 1.0)
    tokens = shares.sum(axis=1)
    hit = (1.0 - (1.0 - inside) ** copies) * tokens[:, None]
    return np.asarray(hit[step.reads, (step.target // inner)[:, None]].mean(axis=1))


@algorithm("moe_dispatch", "direct")
def dispatch(ranks: int, copies: float = 1.0, counts: ArrayLike | None = None) -> Schedule:
    """Every copy straight to its expert's rank."""
    return direct("moe_dispatch", ranks, copies, counts)


@algorithm("moe_combine", "direct")
def combine(ranks: int, copies: float = 1.0, counts: ArrayLike | None = None) -> Schedule:
    """Every expert's output straight back; the token's rank adds up."""
    return direct("moe_combine", ranks, copies, counts)


@algorithm("moe_dispatch", "hierarchical")
def dispatch_by_levels(
    ranks: int, levels: Sequence[int] | None = None, copies: float = 1.0, counts: ArrayLike | None = None
) -> Schedule:
    """One copy per domain, handed on inside."""
    return hierarchical("moe_dispatch", ranks, copies, counts, levels)


@algorithm("moe_combine", "hierarchical")
def combine_by_levels(
    ranks: int, levels: Sequence[int] | None = None, copies: float = 1.0, counts: ArrayLike | None = None
) -> Schedule:
    """Added up inside a domain, then one sum per domain back."""
    return hierarchical("moe_combine", ranks, copies, counts, levels)
