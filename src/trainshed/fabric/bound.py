"""What no algorithm can undercut: bytes that must leave a domain over all links that leave it, and one hop."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from trainshed.core import Constant, Cost, Number, formula, longest
from trainshed.fabric.group import Share


def must_leave(kind: str, share: Share, size: Number) -> Number:
    """Bytes per member that must leave the domain below ``share``, over this level's links or those further out.

    With D domains: an all_gather or reduce_scatter (D − 1) / D of the buffer per domain, an all_reduce twice that
    unless switches add up (then the domain's own sum has to leave once), an all_to_all what is meant for others, a
    permute the buffer of the one member whose neighbour is in another domain.
    """
    domains = np.asarray(share.ranks / share.inner)
    others = share.active * (1.0 - 1.0 / domains)
    leaving: Number = share.active * size / share.inner  # broadcast; permute: one member's buffer to the neighbour
    if kind == "all_reduce":
        leaving = (share.active if share.level.reduction_in_network else 2.0 * others) * size / share.inner
    elif kind in ("all_gather", "reduce_scatter"):
        leaving = others * size / share.inner
    elif kind in ("all_to_all", "moe_dispatch", "moe_combine"):
        leaving = others * size
    return leaving


def lower_bound(kind: str, shares: Sequence[Share], size: Number, copies: Number = 1.0) -> Cost:
    """The largest over the levels of (bytes that must leave / rate of all links that leave), plus one hop's wire."""
    parts = []
    for i, share in enumerate(shares):
        outer = shares[i:]
        names: dict[str, Number | Constant] = {
            f"on{j}": s.active for j, s in enumerate(outer)
        } | {f"bandwidth{j}": s.level.bandwidth for j, s in enumerate(outer)}  # fmt: skip
        rate = " + ".join(f"on{j} * bandwidth{j}" for j in range(len(outer)))
        leaving = must_leave(kind, share, size)
        if kind.startswith("moe"):
            leaving = leaving / copies  # a token must reach at least one expert
        parts.append(
            formula(
                f"out of the {share.level.name}'s parts", "s",
                f"active * wire + leaving * ranks_per_chip / max({rate}, tiny)", active=share.active,
                wire=share.level.latency, leaving=leaving, ranks_per_chip=share.per_chip, tiny=1.0, **names,
            )
        )  # fmt: skip
    return longest(f"lower bound of {kind}", parts)
