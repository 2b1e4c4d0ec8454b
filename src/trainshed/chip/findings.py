"""Findings: what runs and gives the right values, yet a kernel's author would want to know, with the line."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from trainshed.chip.core import NeuronCore
from trainshed.chip.errors import Source


@dataclass(frozen=True)
class Finding:
    """One observation at one line of the kernel.

    ``rule`` is a short stable name, ``count`` how often the same was observed at this line.
    """

    rule: str
    message: str
    source: Source
    count: int = 1

    def __str__(self) -> str:
        times = f" ({self.count} times)" if self.count > 1 else ""
        return f"{self.source}: {self.rule}: {self.message}{times}"

    def to_json(self) -> dict[str, Any]:
        """``{rule, message, file, line, count}``."""
        return {
            "rule": self.rule, "message": self.message, "file": self.source.file, "line": self.source.line,
            "count": self.count,
        }  # fmt: skip


def note(core: NeuronCore, rule: str, message: str, source: Source) -> None:
    """Keep a finding on the core; the same one again only counts."""
    places: dict[tuple[str, str, Source], int] = core.state.setdefault("findings", {})
    key = (rule, message, source)
    place = places.get(key)
    if place is None:
        places[key] = len(core.findings)
        core.findings.append(Finding(rule, message, source))
    else:
        core.findings[place] = Finding(rule, message, source, core.findings[place].count + 1)


def merged(findings: list[Finding]) -> list[Finding]:
    """Equal findings (of several cores) added up, in the order of their first appearance."""
    counts: dict[tuple[str, str, Source], int] = {}
    for finding in findings:
        key = (finding.rule, finding.message, finding.source)
        counts[key] = counts.get(key, 0) + finding.count
    return [Finding(rule, message, source, count) for (rule, message, source), count in counts.items()]
