"""all_gather, reduce_scatter, all_reduce: every gather forwards, backwards and both in turn; and the one-shot mesh."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from trainshed.core import UserError, unknown_name
from trainshed.fabric.schedule.compose import backwards, hierarchy
from trainshed.fabric.schedule.gather import WAYS, Gather, Way, doubling, others
from trainshed.fabric.schedule.registry import Algorithm, algorithm
from trainshed.fabric.schedule.steps import Schedule, Step


def schedule_of(kind: str, ranks: int, gather: Gather) -> Schedule:
    """A gather as all_gather, reduce_scatter or all_reduce."""
    steps = gather.steps
    if kind != "all_gather":
        steps = backwards(steps) + (steps if kind == "all_reduce" else ())
    slots = ranks * gather.pieces
    return Schedule(kind=kind, algorithm="", ranks=ranks, slots=slots, slot_share=1.0 / slots, steps=steps)


def levels_of(ranks: int, levels: Sequence[int] | None, *, where: str) -> tuple[int, ...]:
    """Fans of a hierarchy, innermost first; without any, two that are as equal as they can be."""
    if levels is None:
        inner = next(d for d in range(int(ranks**0.5 + 0.5), 0, -1) if ranks % d == 0)
        return (inner, ranks // inner)
    if any(fan < 1 for fan in levels) or int(np.prod(levels)) != ranks:
        raise UserError("levels", where=where, value=tuple(levels), expected=f"fans whose product is {ranks} ranks")
    return tuple(levels)


def hierarchical(
    kind: str, ranks: int, levels: Sequence[int] | None = None, ways: str | Sequence[str | Way] = "mesh"
) -> Schedule:
    """Reduce inwards to outwards, gather back: at each level one of the algorithms (AWS's and NCCL's compositions).

    ``levels``: members of a domain at each level, innermost first; ``ways``: an algorithm for all or one per level, by
    name or as a gather of so many.
    """
    where = f"hierarchical {kind}"
    fans = levels_of(ranks, levels, where=where)
    names: list[str | Way] = [ways] * len(fans) if isinstance(ways, str) else list(ways)
    if len(names) != len(fans):
        raise UserError("ways", where=where, value=names, expected=f"one algorithm for each of {len(fans)} levels")
    for name in names:
        if isinstance(name, str) and name not in WAYS:
            raise unknown_name("algorithm of a level", name, WAYS, where=where)
    chosen = [WAYS[name] if isinstance(name, str) else name for name in names]
    return schedule_of(kind, ranks, hierarchy(list(zip(fans, chosen, strict=True))))


def halving_doubling(ranks: int) -> Schedule:
    """All_reduce by recursive halving and doubling, next neighbours first, when the halves are largest.

    Beyond a power of two p, rank p + i adds its whole buffer to rank i's before and gets the sum after (Rabenseifner).
    """
    power = 1 << (ranks.bit_length() - 1)
    inside, rest = doubling(power).steps, np.arange(ranks - power)
    zero = np.zeros_like(rest)
    out = Step(source=rest, target=power + rest, slot=zero, to=zero, offsets=np.arange(power))
    steps = backwards(inside) + inside
    if len(rest):
        steps = (*backwards([out]), *steps, out)
    return Schedule(kind="all_reduce", algorithm="", ranks=ranks, slots=power, slot_share=1.0 / power, steps=steps)


def one_shot_mesh(ranks: int) -> Schedule:
    """All_reduce in one step, for small sizes: all send all others their whole buffer, and all add up (AWS)."""
    source, target = others(ranks)
    zero = np.zeros_like(source)
    steps = (Step(source=source, target=target, slot=zero, to=zero, reduce=True),) if ranks > 1 else ()
    return Schedule(kind="all_reduce", algorithm="", ranks=ranks, slots=1, slot_share=1.0, steps=steps)


def _flat(kind: str, way: Way) -> Algorithm:
    def flat(ranks: int) -> Schedule:
        return schedule_of(kind, ranks, way(ranks))

    return flat


def _levels(kind: str) -> Algorithm:
    def by_level(
        ranks: int, levels: Sequence[int] | None = None, ways: str | Sequence[str | Way] = "mesh"
    ) -> Schedule:  # fmt: skip
        return hierarchical(kind, ranks, levels, ways)

    return by_level


for _kind in ("all_gather", "reduce_scatter", "all_reduce"):
    for _name, _way in WAYS.items():
        algorithm(_kind, _name)(_flat(_kind, _way))
    algorithm(_kind, "hierarchical")(_levels(_kind))
algorithm("all_reduce", "rhd")(halving_doubling)
algorithm("all_reduce", "one_shot_mesh")(one_shot_mesh)
