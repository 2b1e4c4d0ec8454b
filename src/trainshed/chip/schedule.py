"""Edges that a kernel's author adds between named instructions (``kernel.with_schedule``).

Source: "How to use the NKI scheduling APIs".
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from trainshed.chip.accesses import meet
from trainshed.chip.core import NeuronCore
from trainshed.chip.errors import violation
from trainshed.chip.record import Instruction, Region


def apply_schedule(cores: Sequence[NeuronCore], schedule: Sequence[Any]) -> None:
    """Give the records of a launch the edges of ``[(consumer, producer or [producers]), …]``, core by core.

    Raises ``schedule`` for a name that no instruction has, and for a consumer that its producer's data depends on.
    """
    if not schedule:
        return
    named: list[dict[str, list[Instruction]]] = []
    for core in cores:
        named.append({})
        for instruction in core.instructions:
            if instruction.name:
                named[-1].setdefault(instruction.name, []).append(instruction)
    known = {name for names in named for name in names}
    for consumer, producers in schedule:
        for producer in [producers] if isinstance(producers, str) else producers:
            for name in (consumer, producer):
                if name not in known:
                    raise violation(
                        "with_schedule", "", "name of an instruction", value=name, rule="schedule",
                        expected=f"one of {', '.join(sorted(known)) or 'none: no instruction has name='}",
                    )  # fmt: skip
            for core, names in zip(cores, named, strict=True):
                for later in names.get(consumer, ()):
                    for earlier in names.get(producer, ()):
                        _edge(core, earlier, later)


def _edge(core: NeuronCore, earlier: Instruction, later: Instruction) -> None:
    if earlier is later or (earlier.serial > later.serial and _feeds(core, later, earlier)):
        raise violation(
            "with_schedule", later.name or "", f"must wait for {earlier.name!r}", value="which needs its result",
            expected="a producer that does not depend on its consumer", rule="schedule", at=later.source,
        )  # fmt: skip
    if earlier.serial not in later.after:
        later.depends_on(earlier)


def _feeds(core: NeuronCore, source: Instruction, sink: Instruction) -> bool:
    """Whether ``sink`` comes after ``source`` by data: through tensors written by one and accessed by the next."""
    tainted: list[Region] = list(source.writes)
    for instruction in core.instructions[source.serial + 1 : sink.serial + 1]:
        touched = (*instruction.reads, *instruction.writes)
        if any(meet(region, other) for region in touched for other in tainted):
            if instruction is sink:
                return True
            tainted += instruction.writes
    return False
