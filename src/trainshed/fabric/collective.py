"""What a collective takes: α-β costs of the documented algorithms over the levels of a system, the best one chosen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from trainshed.core import Cost, Number, UserError, cheapest, formula, longest, total
from trainshed.core.errors import unknown_name
from trainshed.fabric.group import Group, Share, spread
from trainshed.fabric.topology import distance, usable
from trainshed.hardware.schema import Level

KINDS = (
    "all_reduce", "all_gather", "reduce_scatter", "all_to_all", "permute", "broadcast", "moe_dispatch", "moe_combine",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True, eq=False)
class CollectiveCost:
    """Time of one collective, the bytes it puts on the links, what bounds it below, and what each algorithm takes."""

    time: Cost
    bytes_on_links: Mapping[str, Number]
    """Bytes that one rank sends at each level."""
    lower_bound: Cost
    algorithms: Mapping[str, Cost]
    chosen: Number
    """Index of the chosen algorithm in ``algorithms``, element by element."""


def _volume(kind: str, fan: Number, size: Number) -> Number:
    """Bytes that one member must send for a collective of ``size`` bytes among ``fan`` equals."""
    part = (fan - 1.0) / fan
    if kind == "all_reduce":
        return 2.0 * part * size
    if kind in ("permute", "broadcast"):
        return np.where(np.asarray(fan) > 1.0, size, 0.0)
    return part * size


def _steps(kind: str, algorithm: str, fan: Number) -> Number:
    rounds = 2.0 if kind == "all_reduce" else 1.0
    if kind == "permute":
        return np.where(np.asarray(fan) > 1.0, 1.0, 0.0)
    if algorithm == "ring" and kind not in ("all_to_all",):
        return rounds * (fan - 1.0)
    if algorithm == "tree":
        return rounds * np.ceil(np.log2(np.asarray(fan)))
    return np.where(np.asarray(fan) > 1.0, rounds, 0.0)


def _stage(kind: str, algorithm: str, share: Share, size: Number, concurrent: Number) -> Cost:
    level = share.level
    carried = _volume(kind, share.fan, size / share.inner if kind != "permute" else size)
    if kind == "all_to_all":
        carried = _volume(kind, share.fan, size) * distance(share)
    return formula(
        f"{algorithm} {kind} over {level.name}", "s",
        "steps * (latency + hop) + carried * sharing / (bandwidth * efficiency)",
        steps=_steps(kind, algorithm, share.fan), latency=level.latency, hop=level.fitted["hop"], carried=carried,
        sharing=share.per_chip * concurrent / usable(share), bandwidth=level.bandwidth,
        efficiency=level.fitted["efficiency"],
    )  # fmt: skip


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
    memory: str = "hbm",
) -> CollectiveCost:
    """The cost of one collective of ``size`` bytes (NCCL's convention) among the members of ``group``.

    ``size`` is the per-rank buffer of all_reduce, all_to_all, permute and broadcast, the whole output of all_gather,
    the whole input of reduce_scatter. ``concurrent``: how many such collectives share the same links at this time.
    """
    if kind not in KINDS:
        raise unknown_name("collective", kind, KINDS, where="collective")
    if np.any(np.asarray(size) < 0):
        raise UserError("negative size", where="collective", value=size, expected="bytes, at least 0")
    plain = {"moe_dispatch": "all_to_all", "moe_combine": "all_to_all"}.get(kind, kind)
    shares = spread(group, levels, ranks_per_chip)
    costs: dict[str, Cost] = {}
    for name in ("ring", "tree", "mesh"):
        stages = [_stage(plain, name, share, size, concurrent) for share in shares]
        costs[name] = total(f"{name} {kind}", [_launch(shares), *stages])
    if algorithm != "auto" and algorithm not in costs:
        raise unknown_name("algorithm", algorithm, costs, where="collective")
    chosen = costs if algorithm == "auto" else {algorithm: costs[algorithm]}
    time = cheapest(kind, list(chosen.values()))
    bytes_on_links = {
        s.level.name: _volume(plain, s.fan, size / s.inner if plain in ("all_reduce", "all_gather", "reduce_scatter")
                              else size) for s in shares
    }  # fmt: skip
    stacked = np.stack(np.broadcast_arrays(*(np.asarray(c.value) for c in chosen.values())))
    return CollectiveCost(
        time=time, bytes_on_links=bytes_on_links, lower_bound=_lower_bound(kind, shares, bytes_on_links),
        algorithms=costs, chosen=np.array(list(chosen))[np.argmin(stacked, axis=0)],
    )  # fmt: skip


def _launch(shares: Sequence[Share]) -> Cost:
    """The fixed cost of launching: that of the outermost level the group reaches."""
    parts = []
    for i, share in enumerate(shares):
        outer = [s.active for s in shares[i + 1 :]]
        outermost = share.active * np.prod([1.0 - np.asarray(o) for o in outer], axis=0) if outer else share.active
        launch = share.level.fitted["launch"]
        parts.append(formula(f"launch of {share.level.name}", "s", "on * launch", on=outermost, launch=launch))
    return total("launch", parts)


def _lower_bound(kind: str, shares: Sequence[Share], carried: Mapping[str, Number]) -> Cost:
    parts = [
        formula(
            f"bytes that must leave through {s.level.name}", "s", "on * latency + carried * sharing / bandwidth",
            on=s.active, latency=s.level.latency, carried=carried[s.level.name], sharing=s.per_chip,
            bandwidth=s.level.bandwidth,
        )
        for s in shares
    ]  # fmt: skip
    return longest(f"lower bound of {kind}", parts)
