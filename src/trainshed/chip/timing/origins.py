"""Where instructions come from: the kernel's line, the opcode and the engine, as columns over a core's records."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from trainshed.chip.record import Instruction
from trainshed.chip.words import engine

Array = np.ndarray[Any, Any]


class Origin(NamedTuple):
    """One line of a kernel, ``file:line``, and what it executes."""

    source: str
    opcode: str
    engine: str


@dataclass(frozen=True)
class Origins:
    """The instructions of one core by origin."""

    names: tuple[Origin, ...]
    of: Array
    """Place in ``names``, per instruction."""

    def on(self, name: str) -> Array:
        """Indices of the instructions of one engine, in program order."""
        places = np.array([origin.engine == name for origin in self.names], dtype=bool)
        found: Array = np.flatnonzero(places[self.of]) if self.names else np.zeros(0, np.int64)
        return found

    @property
    def engines(self) -> tuple[str, ...]:
        """Engines that execute anything, in the vendor's order."""
        used = {origin.engine for origin in self.names}
        return tuple(one.name for one in engine if one.name in used)


def origins(items: Sequence[Instruction]) -> Origins:
    """The origins of a core's instructions, in the order of their first instruction."""
    places: dict[tuple[Any, ...], int] = {}
    of = np.fromiter(
        (places.setdefault((item.source, item.opcode, id(item.engine)), len(places)) for item in items),
        np.int64, len(items),
    )  # fmt: skip
    first = np.unique(of, return_index=True)[1].tolist()
    names = tuple(Origin(str(items[i].source), items[i].opcode, items[i].engine.name) for i in first)
    return Origins(names, of)
