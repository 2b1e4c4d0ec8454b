"""What a collective takes: α-β costs of the documented algorithms over the levels of a system, the best one chosen."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from trainshed.core import BYTES, Cost, Number, UserError, cheapest, total, unknown_name
from trainshed.fabric import algorithms as ways
from trainshed.fabric import direct
from trainshed.fabric.algorithms import Call, Way
from trainshed.fabric.bound import lower_bound
from trainshed.fabric.group import Group, Share, spread
from trainshed.fabric.terms import launch
from trainshed.hardware.schema import Level

#: Algorithms by kind, in the words of NCCL and AWS.
ALGORITHMS: Mapping[str, Mapping[str, Callable[[Call], Way]]] = {
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
#: Without these the kind could not be done at all, whatever a library lists.
_ALWAYS = {"all_to_all": "direct", "permute": "direct", "moe_dispatch": "direct", "moe_combine": "direct"}


@dataclass(frozen=True, kw_only=True, eq=False)
class CollectiveCost:
    """Time of one collective, the bytes it puts on the links, what bounds it below, and what each algorithm takes."""

    time: Cost
    bytes_on_links: Mapping[str, Number]
    """Bytes that one rank sends over the links of each level (a message that passes two links counts twice)."""
    lower_bound: Cost
    algorithms: Mapping[str, Cost] = field(default_factory=dict)
    chosen: NDArray[np.str_] = field(default_factory=lambda: np.array("none"))
    """Name of the algorithm taken, element by element."""


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
        nothing = total(kind, [], unit="s")
        return CollectiveCost(time=nothing, bytes_on_links={}, lower_bound=nothing)
    call = Call(kind=kind, size=size, shares=shares, concurrent=concurrent, copies=copies)
    start = launch(shares)
    done = {name: way(call) for name, way in menu.items()}
    costs = {name: total(f"{name} {kind}", [start, way.time]) for name, way in done.items()}
    best = np.argmin(np.stack(np.broadcast_arrays(*(np.asarray(c.value) for c in costs.values()))), axis=0)
    return CollectiveCost(
        time=cheapest(kind, list(costs.values())), lower_bound=lower_bound(kind, shares, size, copies),
        bytes_on_links=_carried(shares, list(done.values()), best), algorithms=costs,
        chosen=np.where(shares[0].ranks > 1.0, np.array(list(costs))[best], "none"),
    )  # fmt: skip


def _menu(kind: str, levels: Sequence[Level], algorithm: str, dtype: str) -> dict[str, Callable[[Call], Way]]:
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
    return listed or {name: known[name] for name in (_ALWAYS.get(kind, "ring"),)}


def _carried(shares: Sequence[Share], done: Sequence[Way], best: NDArray[np.intp]) -> dict[str, Number]:
    """Bytes per level of the chosen algorithm, element by element."""
    out: dict[str, Number] = {}
    for i, share in enumerate(shares):
        columns = np.broadcast_arrays(best, *(np.asarray(way.carried[i]) for way in done))
        picked = np.take_along_axis(np.stack(columns[1:]), columns[0][None], axis=0)[0]
        out[share.level.name] = float(picked) if picked.ndim == 0 else picked
    return out
