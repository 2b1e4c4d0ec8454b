"""Names of nodes that are spelled only when asked for: a million adapters are one block."""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import overload


@dataclass(frozen=True)
class Block:
    """``count`` nodes in a row: ``chip 7``, or with ``per`` inner ones in each outer one ``rack 1 plane 2``."""

    count: int
    outer: str
    inner: str = ""
    per: int = 1

    def name(self, i: int) -> str:
        """The i-th name."""
        if not self.inner:
            return f"{self.outer} {i}"
        return f"{self.outer} {i // self.per} {self.inner} {i % self.per}"

    def find(self, name: str) -> int | None:
        """The place of a name, None if this block has no such."""
        *_, last = name.split(" ")
        if not self.inner:
            i = int(last) if last.isdecimal() else -1
        else:
            head = name.removeprefix(f"{self.outer} ").split(" ", 1)[0]
            i = int(head) * self.per + int(last) if head.isdecimal() and last.isdecimal() else -1
        return i if 0 <= i < self.count and self.name(i) == name else None


class Names(Sequence[str]):
    """All names of a network, block after block."""

    def __init__(self, blocks: Sequence[Block]) -> None:
        self.blocks = tuple(blocks)
        self.first = (0, *itertools.accumulate(block.count for block in self.blocks))

    def __len__(self) -> int:
        return self.first[-1]

    @overload
    def __getitem__(self, i: int) -> str: ...
    @overload
    def __getitem__(self, i: slice) -> Sequence[str]: ...
    def __getitem__(self, i: int | slice) -> str | Sequence[str]:
        if isinstance(i, slice):
            return [self[k] for k in range(*i.indices(len(self)))]
        if not -len(self) <= i < len(self):
            raise IndexError(i)
        place = i % len(self)
        at = bisect.bisect_right(self.first, place) - 1
        return self.blocks[at].name(place - self.first[at])

    def __iter__(self) -> Iterator[str]:
        return (block.name(i) for block in self.blocks for i in range(block.count))

    def index(self, name: str, start: int = 0, stop: int | None = None) -> int:
        """The node of a name, without spelling the others."""
        for first, block in zip(self.first, self.blocks, strict=False):
            if (i := block.find(name)) is not None and start <= first + i < (len(self) if stop is None else stop):
                return first + i
        raise ValueError(f"{name!r} is not in the network")

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and any(block.find(name) is not None for block in self.blocks)
