"""Communication of one rank in seconds: the collectives of blocks, of data parallelism and between stages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from trainshed.core import Cost, Number, total
from trainshed.fabric import CollectiveCost, Group, collective
from trainshed.hardware.schema import System
from trainshed.ops.base import Rank
from trainshed.parallel import BlockWork, Collective, Span
from trainshed.parallel.work import Axis, Direction


@dataclass(frozen=True, kw_only=True, eq=False)
class Links:
    """The fabric of a system as the ranks of one job see it; equal collectives are costed once."""

    system: System
    rank: Rank
    dispatch: str = "direct"
    """Algorithm of the experts' dispatch and combine (a policy of the framework)."""
    _known: dict[tuple[object, ...], CollectiveCost] = field(default_factory=dict, init=False)

    @property
    def ranks_per_chip(self) -> float:
        """Ranks that share one chip's links."""
        return 1.0 / self.rank.share

    def cost(
        self, kind: str, size: Number, span: Span, dtype: str = "bf16", copies: Number = 1.0
    ) -> CollectiveCost:  # fmt: skip
        """One collective among the ranks of ``span``."""
        key = (kind, dtype, _key(size), _key(span.ranks), _key(span.stride), _key(copies))
        if key not in self._known:
            group = Group(ranks=span.ranks, stride=span.stride)
            self._known[key] = collective(
                kind, size=size, group=group, levels=self.system.levels, ranks_per_chip=self.ranks_per_chip,
                algorithm=self.dispatch if kind.startswith("moe_") else "auto", dtype=dtype, copies=copies,
            )  # fmt: skip
        return self._known[key]

    def block(self, block: BlockWork, direction: Direction, axes: Sequence[Axis]) -> Cost:
        """All collectives of a block in one direction along some axes; none where every group has one rank."""
        name = "/".join(axes)
        along = [c for c in block.collectives if c.axis in axes]
        return self.together(f"{block.block.name} {direction}: {name}", along, direction)

    def together(self, what: str, collectives: Sequence[Collective], direction: Direction) -> Cost:
        """Collectives of one direction that follow one another."""
        found = [self.of(c).time.named(c.what) for c in collectives if c.direction == direction and _real(c)]
        return total(what, found, unit="s")

    def of(self, c: Collective) -> CollectiveCost:
        """The cost of a collective that a rank takes part in."""
        return self.cost(c.kind, c.size, Span(ranks=c.ranks, stride=c.stride), c.dtype, c.copies)

    def bytes_of(self, collectives: Sequence[Collective]) -> Mapping[str, Number]:
        """Bytes that a rank sends in collectives of both directions, by level."""
        result: dict[str, Number] = {}
        for c in filter(_real, collectives):
            for level, size in self.of(c).bytes_on_links.items():
                result[level] = result.get(level, 0.0) + size
        return result


def _real(c: Collective) -> bool:
    return bool(np.any(np.asarray(c.ranks) > 1))


def _key(value: Number) -> object:
    array = np.asarray(value, dtype=np.float64)
    return float(array) if array.ndim == 0 else (array.shape, array.tobytes())
