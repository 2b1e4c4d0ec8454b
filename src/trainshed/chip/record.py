"""What a core has executed: one record per instruction, the contract between values and time.

A record names the engine, the regions it reads and writes, and the work in the vendor's units. Nothing in it
depends on values or on object identities, so that two runs of one kernel give the same records.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from trainshed.chip.errors import Source, violation
from trainshed.chip.words import MemoryRegion, NKIObject, engine


class Region(NamedTuple):
    """Bytes of one allocation: ``pattern`` is ``((stride, count), …)`` in elements from ``offset``."""

    storage: int
    buffer: MemoryRegion
    dtype: str
    offset: int
    pattern: tuple[tuple[int, int], ...]
    indirect: str | None = None
    """``scalar``, ``vector`` or ``free``: the place is found at run time, and is resolved in the record where known."""

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(count for _, count in self.pattern)


class Instruction(NKIObject):
    """One executed instruction of one core."""

    __slots__ = (
        "after",
        "attributes",
        "core",
        "engine",
        "name",
        "opcode",
        "reads",
        "serial",
        "source",
        "work",
        "writes",
    )

    def __init__(
        self,
        serial: int,
        core: int,
        opcode: str,
        engine: engine,
        reads: tuple[Region, ...],
        writes: tuple[Region, ...],
        work: dict[str, int],
        attributes: dict[str, Any],
        source: Source,
        name: str | None,
    ) -> None:
        self.serial, self.core, self.opcode, self.engine = serial, core, opcode, engine
        self.reads, self.writes, self.work, self.attributes = reads, writes, work, attributes
        self.source, self.name = source, name
        #: Serials that ``depends_on`` names.
        self.after: tuple[int, ...] = ()

    def depends_on(self, *producers: Instruction) -> Instruction:
        """This instruction starts only after every producer has ended (a semaphore wait on the device).

        Raises ``NkiValidationError`` where a producer is not another instruction of this core. Source:
        ``nki.isa.NkiInstruction.depends_on``.
        """
        for producer in producers:
            if not isinstance(producer, Instruction) or producer.core != self.core or producer is self:
                raise violation(
                    "depends_on", "", f"producer of {self.opcode} on core {self.core}", value=producer,
                    expected="another instruction of this core, as the functions of nisa return it", rule="depends-on",
                )  # fmt: skip
        self.after = (*self.after, *(producer.serial for producer in producers))
        return self

    def __repr__(self) -> str:
        return f"<{self.serial} {self.opcode} on {self.engine.name} at {self.source}>"

    def key(self) -> tuple[Any, ...]:
        """All that must agree between two runs."""
        return (
            self.serial, self.core, self.opcode, self.engine, self.reads, self.writes,
            tuple(sorted(self.work.items())), tuple(sorted((k, str(v)) for k, v in self.attributes.items())),
            self.source, self.name, self.after,
        )  # fmt: skip
