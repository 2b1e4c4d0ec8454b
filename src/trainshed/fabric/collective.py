"""What a collective takes: α-β costs of the documented algorithms over the levels of a system, the best one chosen."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from trainshed.core import BYTES, Cost, Number, UserError, cheapest, total, unknown_name
from trainshed.fabric import algorithms as ways
from trainshed.fabric import direct
from trainshed.fabric.algorithms import Call, Way
from trainshed.fabric.bound import lower_bound
from trainshed.fabric.group import Group, spread
from trainshed.fabric.terms import launch
from trainshed.hardware.schema import Level

Algorithm = Callable[[Call], Way]

#: Algorithms by kind, in the words of NCCL and AWS.
ALGORITHMS: Mapping[str, Mapping[str, Algorithm]] = {
    "all_reduce": {
        "ring": ways.ring, "kangaring": ways.kangaring, "tree": ways.tree, "nvls": ways.nvls, "mesh": ways.mesh,
        "one_shot_mesh": ways.one_shot_mesh, "rhd": ways.rhd, "hierarchical": ways.hierarchical,
    },
    "all_gather": {"ring": ways.ring, "kangaring": ways.kangaring, "mesh": ways.mesh, "rhd": ways.rhd,
                   "hierarchical": ways.hierarchical},
    "reduce_scatter": {"ring": ways.ring, "kangaring": ways.kangaring, "mesh": ways.mesh, "rhd": ways.rhd,
                       "hierarchical": ways.hierarchical},
    "broadcast": {"ring": ways.chain, "tree": ways.tree},
    "all_to_all": {"direct": direct.direct, "hierarchical": direct.two_level},
    "permute": {"direct": direct.permute},
    "moe_dispatch": {"direct": direct.direct, "hierarchical": direct.once_per_domain},
    "moe_combine": {"direct": direct.direct, "hierarchical": direct.once_per_domain},
}  # fmt: skip
KINDS = tuple(ALGORITHMS)
#: NVLink SHARP adds these (PTX ``multimem.ld_reduce``).
_SUMMED_IN_SWITCH = ("fp32", "tf32", "bf16", "fp16")
_POINT_TO_POINT = ("all_to_all", "permute", "moe_dispatch", "moe_combine")


@dataclass(frozen=True, kw_only=True, eq=False)
class CollectiveCost:
    """Time of one collective, the bytes it puts on the links, what bounds it below, and what each algorithm takes."""

    time: Cost
    call: Call | None = None
    """What was asked for, as the algorithms took it; None where no group has a second member."""
    ways: Mapping[str, Way] = field(default_factory=dict)
    algorithms: Mapping[str, Cost] = field(default_factory=dict)
    """What each algorithm that was compared takes."""

    @cached_property
    def _best(self) -> NDArray[np.intp]:
        costs = np.broadcast_arrays(*(np.asarray(c.value) for c in self.algorithms.values()))
        return np.asarray(np.argmin(np.stack(costs), axis=0))

    @cached_property
    def chosen(self) -> NDArray[np.str_]:
        """Name of the algorithm taken, element by element; ``none`` in a group of one."""
        if self.call is None:
            return np.array("none")
        return np.where(np.asarray(self.call.ranks) > 1.0, np.array(list(self.algorithms))[self._best], "none")

    @cached_property
    def bytes_on_links(self) -> Mapping[str, Number]:
        """Bytes that one rank sends over the links of each level (a message that passes two links counts twice)."""
        out: dict[str, Number] = {}
        for i, share in enumerate(self.call.shares if self.call else ()):
            sent = [np.asarray(way.carried[i]) for way in self.ways.values()]
            columns = np.broadcast_arrays(self._best, *sent)
            picked = np.take_along_axis(np.stack(columns[1:]), columns[0][None], axis=0)[0]
            out[share.level.name] = float(picked) if picked.ndim == 0 else picked
        return out

    @cached_property
    def lower_bound(self) -> Cost:
        """What no algorithm can undercut."""
        if self.call is None:
            return self.time
        return lower_bound(self.call.kind, self.call.shares, self.call.size, self.call.copies)


def collective(
    kind: str,
    *,
    size: Number,
    group: Group,
    levels: Sequence[Level],
    ranks_per_chip: float = 1.0,
    algorithm: str = "auto",
    concurrent: Number = 1.0,
    dtype: str = "bf16",
    copies: Number = 1.0,
) -> CollectiveCost:
    """The cost of one collective of ``size`` bytes (NCCL's convention) among the members of ``group``.

    ``size`` is the per-rank buffer of all_reduce, all_to_all, permute and broadcast, the whole output of all_gather,
    the whole input of reduce_scatter, the routed copies of a rank's tokens of moe_dispatch and moe_combine (``copies``
    per token). ``concurrent``: how many such collectives share the same links at this time; the groups of the other
    ranks of a chip are counted anyway. Everything but names may be an array.
    """
    menu = _menu(kind, levels, algorithm, dtype)
    if np.any(np.asarray(size) < 0):
        raise UserError("negative size", where="collective", value=size, expected="bytes, at least 0")
    shares = spread(group, levels, ranks_per_chip)
    if not shares:
        return CollectiveCost(time=total(kind, [], unit="s"))
    call = Call(kind=kind, size=size, shares=shares, concurrent=concurrent, copies=copies)
    start = launch(shares)
    done = {name: way(call) for name, way in _worth(menu, call, algorithm).items()}
    costs = {name: total(f"{name} {kind}", [start, way.time]) for name, way in done.items()}
    return CollectiveCost(time=cheapest(kind, list(costs.values())), call=call, ways=done, algorithms=costs)


def _worth(menu: Mapping[str, Algorithm], call: Call, algorithm: str) -> dict[str, Algorithm]:
    """The menu without what another entry cannot lose against.

    Kangaring is ring where no two ranks share a chip and never slower; hierarchical has rhd as one of its choices.
    """
    left = dict(menu)
    if algorithm == "auto":
        if {"ring", "kangaring"} <= set(left):
            del left["ring" if np.any(ways.paired(call)) else "kangaring"]
        if "hierarchical" in left:
            left.pop("rhd", None)
    return left


def _menu(kind: str, levels: Sequence[Level], algorithm: str, dtype: str) -> dict[str, Algorithm]:
    """The algorithms to compare: the one asked for, else those of the innermost level's library."""
    if kind not in ALGORITHMS:
        raise unknown_name("collective", kind, KINDS, where="collective")
    if dtype not in BYTES:
        raise unknown_name("dtype", dtype, BYTES, where="collective")
    known = dict(ALGORITHMS[kind])
    if not any(level.reduction_in_network for level in levels) or dtype not in _SUMMED_IN_SWITCH:
        known.pop("nvls", None)
    if algorithm != "auto":
        if algorithm not in known:
            raise unknown_name(f"algorithm of {kind}", algorithm, ["auto", *known], where="collective")
        return {algorithm: known[algorithm]}
    library = levels[0].algorithms if levels else ()
    listed = {name: way for name, way in known.items() if not library or name in library}
    # without one of these the kind could not be done at all, whatever a library lists
    least = "direct" if kind in _POINT_TO_POINT else "ring"
    return listed or {least: known[least]}
