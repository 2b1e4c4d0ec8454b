"""Control flow that differs between the cores of a launch: loops of the hardware may not, static branches may."""

from __future__ import annotations

from collections.abc import Sequence

from trainshed.chip.core import NeuronCore
from trainshed.chip.errors import Source, violation
from trainshed.chip.findings import Finding


def note_trips(core: NeuronCore, trips: int, at: Source) -> None:
    """Keep how often a loop of the hardware ran, for ``check_loops``."""
    core.state.setdefault("trips", []).append((at, trips))


def check_loops(cores: Sequence[NeuronCore]) -> None:
    """The error ``lnc-divergence`` where cores run a loop of the hardware differently often.

    Source: "Logical NeuronCores", final notes: dynamic control flow that differs between cores is undefined.
    """
    first = cores[0].state.get("trips", [])
    for core in cores[1:]:
        trips = core.state.get("trips", [])
        for k in range(max(len(first), len(trips))):
            one, two = (listed[k] if k < len(listed) else None for listed in (first, trips))
            if one == two:
                continue
            at, count = two or one or (Source("", 0), 0)
            other = f"{one[1]} trips of the loop at {one[0]}" if one else "no such loop"
            raise violation(
                "dynamic loop", "", f"trips on core {core.index}", value=count if two else 0, rule="lnc-divergence",
                expected=f"as on core 0: {other}", at=at,
            )  # fmt: skip


def divergence(cores: Sequence[NeuronCore]) -> list[Finding]:
    """A finding where cores execute different instructions.

    Static control flow may differ (``if nl.program_id(0) == 0`` is common in AWS's kernels); dynamic control flow
    may not ("Logical NeuronCores", final notes).
    """
    if len(cores) < 2:
        return []
    found: list[Finding] = []
    one = [(i.opcode, i.source) for i in cores[0].instructions]
    for core in cores[1:]:
        two = [(i.opcode, i.source) for i in core.instructions]
        place = next((k for k, (a, b) in enumerate(zip(one, two, strict=False)) if a != b), min(len(one), len(two)))
        if place == len(one) == len(two):
            continue
        at: Source = (two[place] if place < len(two) else one[place])[1]
        found.append(Finding(
            "lnc-divergence", f"cores 0 and {core.index} execute different instructions from here on "
            f"({len(one)} and {len(two)} in all): legal if the condition is known when the kernel is compiled", at,
        ))  # fmt: skip
    return found
