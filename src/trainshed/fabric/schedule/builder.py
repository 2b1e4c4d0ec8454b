"""What a user writes an algorithm with: sends, and where a step ends."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from trainshed.core import UserError, unknown_name
from trainshed.fabric.collective import KINDS
from trainshed.fabric.schedule.steps import Ints, Schedule, Step

#: Kinds whose buffers have a slot per rank unless the user says otherwise.
_PER_RANK = ("all_gather", "reduce_scatter", "all_to_all", "moe_dispatch", "moe_combine")


class Builder:
    """Collects the sends of one collective, step by step.

    ``slots``: slots of a rank's buffer (all_reduce, broadcast and permute: any number, 1 by default; other kinds: a
    multiple of the ranks), ``scratch``: further ones that are the algorithm's own. ``copies`` are those of experts.
    """

    def __init__(
        self, kind: str, ranks: int, slots: int | None = None, *, scratch: int = 0, root: int = 0, copies: float = 1.0
    ) -> None:  # fmt: skip
        if kind not in KINDS:
            raise unknown_name("collective", kind, KINDS, where="builder")
        per_rank = kind in _PER_RANK
        data = slots if slots is not None else ranks if per_rank else 1
        if data < 1 or (per_rank and data % ranks):
            raise UserError("slots", where=f"builder of {kind}", value=data,
                            expected=f"a multiple of {ranks} ranks" if per_rank else "at least 1")  # fmt: skip
        self.kind, self.ranks, self.data, self.scratch, self.root = kind, ranks, data, scratch, root
        self.share = ranks / data / copies if kind.startswith("moe") else 1.0 / data
        self.steps: list[Step] = []
        self._open: list[tuple[Ints, Ints, Ints, Ints]] = []
        self._way: tuple[bool, int] | None = None

    def send(
        self, source: ArrayLike, target: ArrayLike, slot: ArrayLike, to: ArrayLike | None = None, *, count: int = 1,
        reduce: bool = False,
    ) -> None:  # fmt: skip
        """Sends of ``count`` slots from ``slot`` on of the sources to ``to`` (the same slots) of the targets.

        Numbers or arrays ``[sends]``; all of a step read what was there before it. Within a step all add up
        (``reduce``) or all overwrite, and all have the same count.
        """
        where = f"builder of {self.kind}, step {len(self.steps)}"
        if self._way is not None and self._way != (reduce, count):
            raise UserError("sends of one step", where=where, value=f"reduce={reduce}, count={count}",
                            expected=f"reduce={self._way[0]}, count={self._way[1]} as before, or next()")  # fmt: skip
        columns = [np.atleast_1d(np.asarray(c)) for c in (source, target, slot, slot if to is None else to)]
        if any(c.dtype.kind not in "iu" for c in columns):
            raise UserError("a send", where=where, value=[c.dtype.name for c in columns], expected="whole numbers")
        try:
            s, t, a, b = np.broadcast_arrays(*(c.astype(np.int64) for c in columns))
        except ValueError:
            raise UserError("columns of a send differ in length", where=where, value=[len(c) for c in columns],
                            expected="numbers, or arrays of one length") from None  # fmt: skip
        self._way = (reduce, count)
        self._open.append((s, t, a, b))

    def next(self) -> None:
        """End the step: what follows reads what it has written."""
        if self._way is None:
            return
        reduce, count = self._way
        source, target, slot, to = (np.concatenate([part[i] for part in self._open]) for i in range(4))
        self.steps.append(Step(source=source, target=target, slot=slot, to=to, offsets=np.arange(count), reduce=reduce))
        self._open, self._way = [], None

    def schedule(self, partner: ArrayLike | None = None, output: int = 0) -> Schedule:
        """All steps; ``partner`` of permute and ``output`` of all_to_all as in ``Schedule``."""
        self.next()
        if self.kind == "permute" and partner is None:
            partner = (np.arange(self.ranks) + 1) % self.ranks
        return Schedule(
            kind=self.kind, algorithm="built", ranks=self.ranks, slots=self.data + self.scratch, slot_share=self.share,
            steps=tuple(self.steps), scratch=self.scratch, root=self.root, output=output,
            partner=None if partner is None else np.asarray(partner),
        )  # fmt: skip
