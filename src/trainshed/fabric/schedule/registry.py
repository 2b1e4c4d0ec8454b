"""Algorithms by kind and name, the user's own included."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import replace

from trainshed.core import UserError, unknown_name
from trainshed.fabric.collective import KINDS
from trainshed.fabric.schedule.steps import Schedule

Algorithm = Callable[..., Schedule]
"""``(ranks, **shape) -> Schedule``."""

#: Filled by ``@algorithm``; the built-in ones are registered when ``trainshed.fabric.schedule`` is imported.
ALGORITHMS: dict[str, dict[str, Algorithm]] = {kind: {} for kind in KINDS}


def algorithm(kind: str, name: str) -> Callable[[Algorithm], Algorithm]:
    """Register a function ``(ranks, **shape) -> Schedule`` under a name; the last one of a name counts."""
    if kind not in KINDS:
        raise unknown_name("collective", kind, KINDS, where=f"algorithm {name}")

    def register(way: Algorithm) -> Algorithm:
        ALGORITHMS[kind][name] = way
        return way

    return register


def schedule(kind: str, algorithm: str, ranks: int, **shape: object) -> Schedule:
    """The schedule of a collective of ``ranks`` ranks by an algorithm; ``shape`` is what that algorithm takes."""
    if kind not in ALGORITHMS:
        raise unknown_name("collective", kind, KINDS, where="schedule")
    if algorithm not in ALGORITHMS[kind]:
        raise unknown_name(f"algorithm of {kind}", algorithm, ALGORITHMS[kind], where="schedule")
    if ranks < 1 or int(ranks) != ranks:
        raise UserError("ranks", where=f"{algorithm} {kind}", value=ranks, expected="a whole number, at least 1")
    way = ALGORITHMS[kind][algorithm]
    takes = list(inspect.signature(way).parameters)[1:]
    for name in shape:
        if name not in takes:
            raise unknown_name("setting", name, takes or ["none"], where=f"{algorithm} {kind}")
    return replace(way(int(ranks), **shape), kind=kind, algorithm=algorithm)
