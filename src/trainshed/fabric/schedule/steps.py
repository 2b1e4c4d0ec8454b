"""A collective as steps of sends: who sends which slots of its buffer to whom, and whether they are added up there.

Every rank has one buffer of equal slots. All sends of a step read what was there before the step: what arrives is
kept apart until the step is over. Which slots a rank starts with and must end with is the kind's (``kinds.py``).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


def _one() -> Ints:
    return np.zeros(1, np.int64)


@dataclass(frozen=True, kw_only=True, eq=False)
class Step:
    """Sends that may go at once: send k moves slots of rank ``source[k]`` to slots of rank ``target[k]``."""

    source: Ints
    """``[sends]`` ranks."""
    target: Ints
    """``[sends]`` ranks."""
    slot: Ints
    """``[sends]`` or ``[sends, parts]`` slots read."""
    to: Ints
    """As ``slot``: slots written."""
    offsets: Ints = field(default_factory=_one)
    """``[…]`` what is added to each of them: a send moves parts times so many slots."""
    weight: Floats | None = None
    """``[sends]`` bytes of a send relative to those of its slots (all_to_all_v, experts); None: 1."""
    reduce: bool = False
    """Added to what the target holds, instead of overwriting it."""
    repeat: int = 1
    """The step happens so many times, the sends of each pair one after another; only its slots differ."""
    shift: int = 0
    """What is added to ``slot`` and ``to``, modulo ``wrap``, from one time to the next."""
    wrap: int = 0

    def __len__(self) -> int:
        return len(self.source)

    @property
    def count(self) -> int:
        """Slots of each send."""
        return self.parts * len(self.offsets)

    @property
    def parts(self) -> int:
        """Slots of each send before ``offsets`` are added."""
        return self.slot.shape[1] if self.slot.ndim == 2 else 1

    @property
    def reads(self) -> Ints:
        """``[sends, count]`` slots read, the first time."""
        return self._blocks(self.slot)

    @property
    def writes(self) -> Ints:
        """``[sends, count]`` slots written, the first time."""
        return self._blocks(self.to)

    def _blocks(self, slot: Ints) -> Ints:
        return (slot.reshape(len(self), self.parts, 1) + self.offsets).reshape(len(self), self.count)

    def time(self, k: int) -> Step:
        """The step as it happens the ``k``-th time, from 0."""
        moved = k * self.shift
        if not moved:
            return self if self.repeat == 1 else replace(self, repeat=1)
        return replace(self, slot=(self.slot + moved) % self.wrap, to=(self.to + moved) % self.wrap, repeat=1)

    def times(self) -> Iterator[Step]:
        """The step as often as it happens, each with its slots."""
        return (self.time(k) for k in range(self.repeat))


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
    scratch: int = 0
    """How many of the slots, the last ones, are not the collective's."""
    output: int = 0
    """all_to_all: the first slot of the result; 0: in place."""
    root: int = 0
    """broadcast: who has the data."""
    partner: Ints | None = None
    """permute: ``[ranks]`` to whom each rank sends."""
    counts: Floats | None = None
    """all_to_all_v, experts: ``[ranks, ranks]`` what each has for each; where it is 0 nothing has to arrive."""

    @property
    def data(self) -> int:
        """Slots that are the collective's."""
        return self.slots - self.scratch

    def size(self, step: Step, size: float) -> Floats:
        """``[sends]`` bytes of the sends of a step in a collective of ``size`` bytes."""
        each = step.count * self.slot_share * size
        return np.full(len(step), each) if step.weight is None else each * step.weight

    @property
    def sends(self) -> int:
        """Sends in all."""
        return sum(len(step) * step.repeat for step in self.steps)
