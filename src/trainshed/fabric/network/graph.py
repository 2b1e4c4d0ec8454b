"""A network: chips and switches, and the directed links between them, as columns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from trainshed.core import UserError

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, eq=False)
class Network:
    """Chips are nodes 0 to ``chips`` − 1, switches and adapters those after them. A link goes one way.

    A link from a chip to itself is the way between ranks on that chip. Bandwidths and latencies are the data sheet's:
    what software reaches of them and adds to them is the transport's.
    """

    name: str
    chips: int
    kinds: tuple[str, ...]
    """Kinds of nodes: ``chip``, ``sled switch``, ``leaf``, …"""
    kind: Ints
    """``[nodes]`` which of ``kinds``; chips are kind 0."""
    names: Sequence[str]
    """``[nodes]`` unique: ``chip 17``, ``rack 0 plane 3``, …"""
    levels: tuple[str, ...]
    """Names of the levels of links, from the chip outwards."""
    source: Ints
    """``[links]`` node a link comes from."""
    target: Ints
    """``[links]`` node it goes to."""
    level: Ints
    """``[links]`` which of ``levels``."""
    bandwidth: Floats
    """``[links]`` B/s one way."""
    latency: Floats
    """``[links]`` s for the first bit."""
    coordinates: Mapping[str, Ints] = field(default_factory=dict)
    """``[chips]`` by name (``sled``, ``rack``, ``ultraserver``, …): in which of them a chip is."""
    scale_out: tuple[str, ...] = ()
    """Levels (EFA, InfiniBand) onto which chips do not forward: a way takes them from end to end where it can."""

    def __post_init__(self) -> None:
        nodes, links = len(self.kind), len(self.source)
        if any(len(c) != links for c in (self.target, self.level, self.bandwidth, self.latency)):
            raise ValueError(f"{self.name}: columns of links differ in length")
        if len(self.names) != nodes or not 0 < self.chips <= nodes or (self.kind[: self.chips] != 0).any():
            raise ValueError(f"{self.name}: nodes, their names and chips do not fit")
        if links and not (
            0 <= min(self.source.min(), self.target.min()) <= max(self.source.max(), self.target.max()) < nodes
        ):
            raise ValueError(f"{self.name}: a link ends at no node")
        slow = np.flatnonzero(~(self.bandwidth > 0) | ~np.isfinite(self.bandwidth))
        if len(slow):
            raise UserError(
                "a link that carries nothing", where=f"{self.name}: {self.link_name(int(slow[0]))}",
                value=f"{self.bandwidth[slow[0]]} B/s", expected="a bandwidth above 0",
            )  # fmt: skip
        late = np.flatnonzero(~(self.latency >= 0) | ~np.isfinite(self.latency))
        if len(late):
            raise UserError(
                "a link's latency", where=f"{self.name}: {self.link_name(int(late[0]))}",
                value=f"{self.latency[late[0]]} s", expected="at least 0",
            )  # fmt: skip

    @property
    def nodes(self) -> int:
        """Chips and switches."""
        return len(self.kind)

    @property
    def links(self) -> int:
        """Directed links."""
        return len(self.source)

    def link_name(self, link: int) -> str:
        """``chip 3 -> sled 0``."""
        return f"{self.names[int(self.source[link])]} -> {self.names[int(self.target[link])]}"
