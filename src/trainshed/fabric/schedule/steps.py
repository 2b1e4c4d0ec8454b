"""A collective as steps of sends: who sends which slots of its buffer to whom, and whether they are added up there.

Every rank has one buffer of equal slots. All sends of a step read what was there before the step. Which slots a rank
starts with and must end with is the kind's (``schedule/check.py``).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True, eq=False)
class Step:
    """Sends that may go at once: send k moves ``count`` slots from ``slot[k]`` of one rank to ``to[k]`` of another."""

    source: Ints
    """``[sends]`` ranks."""
    target: Ints
    """``[sends]`` ranks."""
    slot: Ints
    """``[sends]`` first slot read."""
    to: Ints
    """``[sends]`` first slot written."""
    count: int = 1
    """Slots of each send."""
    reduce: bool = False
    """Added to what the target holds, instead of overwriting it."""
    repeat: int = 1
    """The step happens so many times; only its slots differ."""
    shift: int = 0
    """What is added to the slots, modulo ``wrap``, from one time to the next."""
    wrap: int = 0

    def times(self) -> Iterator[Step]:
        """The step as often as it happens, each with its slots."""
        for k in range(self.repeat):
            moved = k * self.shift
            if not moved:
                yield replace(self, repeat=1)
            else:
                yield replace(
                    self, slot=(self.slot + moved) % self.wrap, to=(self.to + moved) % self.wrap, repeat=1
                )  # fmt: skip


@dataclass(frozen=True, kw_only=True, eq=False)
class Schedule:
    """All steps of one collective of ``ranks`` ranks."""

    kind: str
    """``all_reduce``, … (``fabric.KINDS``)."""
    algorithm: str
    ranks: int
    slots: int
    """Of each rank's buffer, scratch included."""
    slot_share: float
    """A slot's part of the collective's size (NCCL's convention)."""
    steps: tuple[Step, ...]

    def size(self, step: Step, size: float) -> float:
        """Bytes of each send of a step in a collective of ``size`` bytes."""
        return step.count * self.slot_share * size

    @property
    def sends(self) -> int:
        """Sends in all."""
        return sum(len(step.source) * step.repeat for step in self.steps)
