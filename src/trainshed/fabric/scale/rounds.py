"""The gathers of ``schedule.gather`` as rounds: who sends how much to whom, without saying which slots.

A rank's send of a round is what it has got so far, or what it got last: it waits for what has come to that rank, and
for nothing else. That is all that timing needs where every rank has links of its own; slots of 6,944 ranks would be
hundreds of megabytes. ``tests/fabric/scale/test_rounds.py`` holds each against its schedule.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from trainshed.core import UserError
from trainshed.fabric.flow.sends import Floats, Ints


@dataclass(frozen=True, kw_only=True, eq=False)
class Round:
    """Sends that may go at once. Every rank is a source once at most, and a target once, unless ``all`` are."""

    source: Ints
    target: Ints
    slots: Floats
    """``[sends]`` of n that a buffer has."""
    repeat: int = 1
    """So many times, the sends of each pair one after another."""
    adds: bool = False
    """Added to what the target holds: waits for what the target has been sent before, since sums keep their order."""


@dataclass(frozen=True)
class Everyone:
    """Each of so many ranks sends one slot to each other at once, forwards to its next neighbour first."""

    ranks: int
    adds: bool = False


Rounds = tuple[Round | Everyone, ...]


def ring(ranks: int) -> Rounds:
    """``gather.ring``."""
    r = np.arange(ranks)
    step = Round(source=r, target=(r + 1) % ranks, slots=np.ones(ranks), repeat=ranks - 1)
    return (step,) if ranks > 1 else ()


def mesh(ranks: int) -> Rounds:
    """``gather.mesh``."""
    return (Everyone(ranks),) if ranks > 1 else ()


def doubling(ranks: int) -> Rounds:
    """``gather.doubling`` of a power of two: beyond, two messages at a time come to ranks that stand in for others."""
    if ranks & (ranks - 1):
        raise UserError("members of rhd", where="scale", value=ranks, expected="a power of two (ring takes any number)")
    r, stride, found = np.arange(ranks), ranks, []
    while stride > 1:
        found.append(Round(source=r, target=r ^ (stride // 2), slots=np.full(ranks, ranks / stride)))
        stride //= 2
    return tuple(found)


def bruck(ranks: int) -> Rounds:
    """``gather.bruck``, where what the last round sends comes from the round before (else both go at a time)."""
    top = 1 << (ranks.bit_length() - 1)
    if 0 < ranks - top <= top // 2:
        raise UserError(
            "members of bruck", where="scale", value=ranks,
            expected=f"{top}, or {top + top // 2 + 1} to {2 * top} (ring takes any number)",
        )  # fmt: skip
    r, near, found = np.arange(ranks), 1, []
    while near < ranks:
        found.append(Round(source=r, target=(r - near) % ranks, slots=np.full(ranks, min(near, ranks - near) * 1.0)))
        near *= 2
    return tuple(found)


WAYS: dict[str, Callable[[int], Rounds]] = {"ring": ring, "mesh": mesh, "rhd": doubling, "bruck": bruck}


def backwards(rounds: Rounds) -> Rounds:
    """From last to first, each the other way: a reduce_scatter."""
    return tuple(_back(each) for each in reversed(rounds))


def _back(each: Round | Everyone) -> Round | Everyone:
    """Sends in the order of their sources, as forwards."""
    if isinstance(each, Everyone):
        return replace(each, adds=True)
    order = np.argsort(each.target)
    return replace(each, source=each.target[order], target=each.source[order], slots=each.slots[order], adds=True)


def rounds(kind: str, way: str, ranks: int) -> Rounds:
    """Of an all_gather, reduce_scatter or all_reduce."""
    gather = WAYS[way](ranks)
    if kind == "all_gather":
        return gather
    return backwards(gather) + (gather if kind == "all_reduce" else ())
