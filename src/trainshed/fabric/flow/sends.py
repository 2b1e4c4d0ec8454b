"""What a network model is given and what it gives: dependent sends between chips, and when each of them ends."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from trainshed.core import UserError
from trainshed.fabric.network.graph import Network

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, eq=False)
class Sends:
    """Send k takes ``size[k]`` bytes from chip ``source[k]`` to chip ``target[k]``."""

    source: Ints
    target: Ints
    size: Floats
    first: Ints
    """``[sends + 1]``: ``before[first[k]:first[k + 1]]`` are the sends that must have arrived before k may start."""
    before: Ints
    earliest: Floats
    """``[sends]`` s: nothing of a send happens sooner."""
    group: Ints
    """``[sends]`` of which collective it is."""

    def __post_init__(self) -> None:
        count = len(self.source)
        columns = (self.target, self.size, self.earliest, self.group)
        if any(len(c) != count for c in columns) or len(self.first) != count + 1 or self.first[-1] != len(self.before):
            raise ValueError("columns of sends differ in length")
        if len(self.before) and not 0 <= self.before.min() <= self.before.max() < count:
            raise ValueError("a send waits for one that does not exist")
        for name, column, unit in (("size", self.size, "B"), ("earliest time", self.earliest, "s")):
            wrong = np.flatnonzero(~(column >= 0) | ~np.isfinite(column))
            if len(wrong):
                raise UserError(
                    f"{name} of a send",
                    where="network model",
                    value=f"{column[wrong[0]]} {unit}",
                    expected="at least 0",
                )

    def __len__(self) -> int:
        return len(self.source)


@dataclass(frozen=True, kw_only=True)
class Transport:
    """What software and engines add to the wires, by level of links (a level that is not named adds nothing).

    A send pays ``hop`` of the outermost level on its way once; ``message`` keeps its sender busy before it leaves, one
    after another; ``reach`` is the part of a link's rate that is reached; ``launch`` starts a collective.
    """

    name: str
    launch: Mapping[str, float] = field(default_factory=dict)
    """s"""
    hop: Mapping[str, float] = field(default_factory=dict)
    """s"""
    message: Mapping[str, float] = field(default_factory=dict)
    """s"""
    reach: Mapping[str, float] = field(default_factory=dict)
    """1"""
    last_step: Mapping[str, float] = field(default_factory=dict)
    """1: a rank that has received its last chunk copies it once more, out of the receive buffer: a hop, and this part
    of the time that its bytes take on the links."""
    inject: float = float("inf")
    """B/s that one chip's DMA engines put on all its links together."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Run:
    """When sends happened and what the links carried."""

    begin: Floats
    """``[sends]`` s: when its first byte leaves."""
    end: Floats
    """``[sends]`` s: when its last byte has arrived."""
    carried: Floats
    """``[links]`` bytes."""
    peak: Floats
    """``[links]`` largest part of the reachable rate in use at any time, 0 to 1."""

    @property
    def seconds(self) -> float:
        """From 0 to the last arrival."""
        return float(self.end.max()) if len(self.end) else 0.0


class Model(Protocol):
    """A network model: the one interface that flow level and packet level share."""

    def run(self, network: Network, sends: Sends, transport: Transport, *, routing: str = "spray") -> Run:
        """Time all sends; ``routing`` is one of ``network.routing.POLICIES``."""
        ...
