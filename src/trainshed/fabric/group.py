"""Who takes part in a collective, and how a group spreads over the levels of the fabric."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from trainshed.core import Number, UserError
from trainshed.hardware.schema import Level


@dataclass(frozen=True, kw_only=True, eq=False)
class Group:
    """``ranks`` members at rank numbers 0, stride, 2·stride, … of the placement (rank order = order of the chips).

    Both may be arrays: a table of groups, one per plan.
    """

    ranks: Number
    stride: Number = 1

    def __post_init__(self) -> None:
        for name in ("ranks", "stride"):
            value = getattr(self, name)
            if np.any(np.asarray(value) < 1):
                raise UserError(f"{name} of a group below 1", where="group", value=value, expected="at least 1")


@dataclass(frozen=True, kw_only=True, eq=False)
class Share:
    """One level as one group sees it."""

    level: Level
    inner: Number
    """Members inside one domain of the level below: they share the work of leaving it."""
    fan: Number
    """Domains of the level below that the group joins at this level (1: it does not reach this level)."""
    offset: Number
    """Distance of neighbouring members in domains of the level below (a strided group skips some)."""
    per_chip: float
    """Ranks on one chip: all are taken to communicate at the same time, so that each has that part of its links."""

    @property
    def active(self) -> Number:
        """1 where the group reaches this level, else 0."""
        return np.where(np.asarray(self.fan) > 1.0, 1.0, 0.0)


def spread(group: Group, levels: Sequence[Level], ranks_per_chip: float = 1.0) -> tuple[Share, ...]:
    """How many members meet at each level; the outermost level takes in whatever is left."""
    ranks, stride = np.asarray(group.ranks, dtype=np.float64), np.asarray(group.stride, dtype=np.float64)
    shares = []
    inner: Number = np.ones(np.broadcast_shapes(ranks.shape, stride.shape))
    below = 1.0  # ranks in one domain of the level below
    for i, level in enumerate(levels):
        domain = level.chips * ranks_per_chip
        members = ranks * np.ones_like(inner) if i == len(levels) - 1 else np.clip(domain / stride, 1.0, ranks)
        members = np.maximum(members, inner)
        shares.append(
            Share(level=level, inner=inner, fan=members / inner, offset=np.maximum(stride / below, 1.0),
                  per_chip=ranks_per_chip)
        )  # fmt: skip
        inner, below = members, domain
    return tuple(shares)
