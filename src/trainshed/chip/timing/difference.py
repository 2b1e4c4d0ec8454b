"""Which lines make one kernel slower than another: two critical paths side by side."""

from __future__ import annotations

import ast
import linecache
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from trainshed.chip.timing.path import Step
from trainshed.chip.timing.timing import Timing


@dataclass(frozen=True, kw_only=True)
class Change:
    """One line of code on the critical paths of two kernels: instructions and seconds in each (0: not there)."""

    code: str
    """The statement, else its place: one that moved, or that both files have, is one."""
    opcode: str
    engine: str
    sources: tuple[str, ...]
    counts: tuple[int, int]
    seconds: tuple[float, float]

    @property
    def difference(self) -> float:
        """Seconds that the first kernel spends here more than the second, to the clock's femtosecond."""
        return round(self.seconds[0] - self.seconds[1], 15)

    def to_json(self) -> dict[str, Any]:
        """All fields as plain JSON."""
        return {
            "code": self.code, "opcode": self.opcode, "engine": self.engine, "sources": list(self.sources),
            "counts": list(self.counts), "times_s": list(self.seconds), "difference_s": self.difference,
        }  # fmt: skip


def changes(one: Timing, two: Timing) -> tuple[Change, ...]:
    """The lines of both critical paths, the largest difference first; all differences add up to that of the times."""
    sides = _by_code(one.critical), _by_code(two.critical)
    found = []
    for key in dict.fromkeys((*sides[0], *sides[1])):
        steps = [side.get(key, []) for side in sides]
        found.append(Change(
            code=key[0], opcode=key[1], engine=key[2],
            sources=tuple(dict.fromkeys(step.source for side in steps for step in side)),
            counts=(sum(step.count for step in steps[0]), sum(step.count for step in steps[1])),
            seconds=(sum(step.seconds for step in steps[0]), sum(step.seconds for step in steps[1])),
        ))  # fmt: skip
    return tuple(sorted(found, key=lambda change: -abs(change.difference)))


def _by_code(steps: Iterable[Step]) -> dict[tuple[str, str, str], list[Step]]:
    found: defaultdict[tuple[str, str, str], list[Step]] = defaultdict(list)
    for step in steps:
        found[code(step.source), step.opcode, step.engine].append(step)
    return found


def code(source: str) -> str:
    """The statement at ``file:line``, however it is laid out; the source itself where it cannot be read."""
    file, _, line = source.rpartition(":")
    return _statements(file).get(int(line), source) if line.isdecimal() else source


@lru_cache(maxsize=64)
def _statements(file: str) -> dict[int, str]:
    """By line of a file the statement it belongs to; of one with a body, its head."""
    lines = linecache.getlines(file)
    try:
        tree = ast.parse("".join(lines))
    except SyntaxError:
        return {}
    found: dict[int, str] = {}
    for node in ast.walk(tree):  # what is inside comes after what is around it
        if not isinstance(node, ast.stmt):
            continue
        body = getattr(node, "body", None)
        last = max(body[0].lineno - 1, node.lineno) if body else node.end_lineno or node.lineno
        text = " ".join(line.strip() for line in lines[node.lineno - 1 : last]) if body else ast.unparse(node)
        for line in range(node.lineno, last + 1):
            known = found.get(line, text)
            found[line] = known if text in known else f"{known}; {text}"
    return found
