"""Who takes part in a collective, and how a group spreads over the levels of the fabric."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

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
    """One level as one group sees it. ``inner`` · ``fan`` = ``members``."""

    level: Level
    inner: Number
    """Members inside one domain of the level below: they share the work of leaving it."""
    fan: Number
    """Domains of the level below that the group joins at this level (1: it does not reach this level)."""
    members: Number
    """Members inside one domain of this level."""
    ranks: Number
    """Members of the whole group."""
    offset: Number
    """Distance of neighbouring members in domains of the level below (a strided group skips some)."""
    span: Number
    """Chips from the first member to the last inside one domain of this level."""
    per_chip: float
    """Ranks on one chip: all are taken to communicate at the same time, so that each has that part of its links."""

    @cached_property
    def active(self) -> Number:
        """1 where the group reaches this level, else 0."""
        return np.where(np.asarray(self.fan) > 1.0, 1.0, 0.0)

    @cached_property
    def whole(self) -> NDArray[np.bool_]:
        """Whether a domain of this level holds all members."""
        return np.asarray(self.members) >= np.asarray(self.ranks)

    @cached_property
    def outermost(self) -> Number:
        """1 at the level where the group is whole for the first time."""
        return np.where((np.asarray(self.fan) > 1.0) & self.whole, 1.0, 0.0)


def spread(group: Group, levels: Sequence[Level], ranks_per_chip: float = 1.0) -> tuple[Share, ...]:
    """How many members meet at each level that some group of the table reaches; the last level takes in what is left.

    Members per domain = domain / stride, at least one and at most all. Where a domain is no multiple of the stride the
    quotient is a mean over domains.
    """
    ranks, stride = np.broadcast_arrays(np.asarray(group.ranks, np.float64), np.asarray(group.stride, np.float64))
    inner: Number = np.ones(ranks.shape)
    below = 1.0  # ranks in one domain of the level below
    if levels and levels[0].topology != "chip":
        # no level describes the chip's inside: ranks of one chip meet for free
        inner, below = np.clip(ranks_per_chip / stride, 1.0, ranks), ranks_per_chip
    shares = []
    for i, level in enumerate(levels):
        domain = level.chips * ranks_per_chip
        last = i == len(levels) - 1
        members = ranks if last else np.maximum(np.clip(domain / stride, 1.0, ranks), inner)
        fan = members / inner
        if np.any(fan > 1.0):
            shares.append(
                Share(level=level, inner=inner, fan=fan, members=members, ranks=ranks, per_chip=ranks_per_chip,
                      offset=np.maximum(stride / below, 1.0), span=members * stride / ranks_per_chip)
            )  # fmt: skip
        inner, below = members, domain
    return tuple(shares)
