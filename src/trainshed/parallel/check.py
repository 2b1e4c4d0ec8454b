"""Why a plan does not divide or fit: one sentence per reason, and the same rules as masks over tables of plans."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainshed import units
from trainshed.core import Attention, Experts, Matmul, Number, Plan, Shard
from trainshed.hardware.schema import Chip, System
from trainshed.models import Model
from trainshed.parallel.memory import Memory

Mask = NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True, eq=False)
class Rule:
    """``holds`` is True (element by element) where the plan keeps the rule; ``why`` tells one plan that does not."""

    holds: Mask
    text: str
    """A format string over the plan's degrees and ``values``."""
    plan: Plan
    values: Mapping[str, object]

    def why(self) -> str:
        """The sentence for one plan."""
        degrees = {f.name: getattr(self.plan, f.name) for f in fields(self.plan)}
        return self.text.format(**degrees, **self.values)


def rules(
    model: Model,
    plan: Plan,
    chip: Chip,
    *,
    global_batch: Number | None = None,
    sequence: Number | None = None,
) -> list[Rule]:
    """Every rule of division that the plan must keep; ``plan`` may be a table."""
    made = [*_pipeline(model, plan), *_heads(model, plan, chip), *_widths(model, plan), *_experts(model, plan)]
    if global_batch is not None:
        made += _batch(plan, global_batch)
    if sequence is not None:
        made += _sequence(plan, sequence)
    return made


def divides(model: Model, plan: Plan, chip: Chip, **workload: Any) -> Mask:
    """True where a plan keeps every rule."""
    mask: Mask = np.ones(plan.shape, dtype=np.bool_)
    for rule in rules(model, plan, chip, **workload):
        mask = mask & rule.holds
    return mask


def check(
    model: Model,
    plan: Plan,
    system: System,
    chips: int,
    *,
    global_batch: float | None = None,
    sequence: Number | None = None,
    memory: Memory | None = None,
) -> list[str]:
    """The reasons why one plan cannot run on ``chips`` chips of a system; none: it can."""
    chip = system.chip
    cores = float(chip.cores.value)
    lnc = plan.lnc or (1.0 if chip.lnc is None else float(chip.lnc.value))
    needed = float(plan.ranks * plan.replicas) * lnc / cores
    reasons = []
    if needed != chips:
        reasons.append(
            f"the plan takes {needed:g} chips ({plan.ranks * plan.replicas} ranks of {lnc:g} of {cores:g} cores each) "
            f"and {chips} are given"
        )
    if chips > system.max_chips:
        reasons.append(f"{system.name} has at most {system.max_chips} chips and {chips} are given")
    found = rules(model, plan, chip, global_batch=global_batch, sequence=sequence)
    reasons += [rule.why() for rule in found if not bool(rule.holds)]
    if memory is not None:
        capacity = float(chip.hbm_capacity.value) * lnc / cores
        used = float(np.asarray(memory.total))
        if used > capacity:
            largest = max(memory.by_class().items(), key=lambda item: float(np.asarray(item[1])))
            reasons.append(
                f"a rank needs {units.format(used, 'B')} and has {units.format(capacity, 'B')}; "
                f"most goes to {largest[0]} ({units.format(float(np.asarray(largest[1])), 'B')})"
            )
    return reasons


def _rule(plan: Plan, holds: Any, text: str, **values: object) -> Rule:
    return Rule(holds=np.asarray(holds, dtype=np.bool_), text=text, plan=plan, values=values)


def _d(plan: Plan, name: str) -> NDArray[np.int64]:
    return np.asarray(getattr(plan, name), dtype=np.int64)


def _pipeline(model: Model, plan: Plan) -> Iterator[Rule]:
    pp, vpp = _d(plan, "pp"), _d(plan, "vpp")
    yield _rule(
        plan, pp * vpp <= max(model.layers, 1), "pp{pp} × vpp{vpp} makes more chunks than there are layers ({layers})",
        layers=model.layers,
    )  # fmt: skip
    yield _rule(plan, (vpp == 1) | (pp > 1), "vpp{vpp} interleaves the stages of a pipeline, and pp is 1")


def _heads(model: Model, plan: Plan, chip: Chip) -> Iterator[Rule]:
    tp, dpa = _d(plan, "tp"), _d(plan, "dpa")
    yield _rule(plan, tp % dpa == 0, "dpa{dpa} does not divide tp{tp}")
    degree = np.maximum(tp // dpa, 1)
    shapes = {(o.heads, o.kv_heads) for b in model.graph.blocks for o in b.ops if isinstance(o, Attention)}
    for heads, kv_heads in sorted(shapes):
        if chip.architecture == "neuroncore":
            # NeuronX Distributed pads heads with zeros up to a multiple of tp and replicates KV heads
            yield _rule(plan, degree <= 2 * heads, "tp{tp} is over twice the {heads} attention heads", heads=heads)
            continue
        yield _rule(plan, heads % degree == 0, "tp{tp} does not divide {heads} attention heads", heads=heads)
        yield _rule(
            plan, (kv_heads % degree == 0) | (degree % kv_heads == 0),
            "tp{tp} neither divides {kv_heads} KV heads nor is a multiple of them", kv_heads=kv_heads,
        )  # fmt: skip


def _widths(model: Model, plan: Plan) -> Iterator[Rule]:
    tp = _d(plan, "tp")
    widths = {
        o.n for b in model.graph.blocks for o in b.ops
        if isinstance(o, Matmul) and o.shard is Shard.COLUMN and o.role in ("mlp", "shared_experts")
    }  # fmt: skip
    for n in sorted(widths):
        yield _rule(plan, n % tp == 0, "tp{tp} does not divide the MLP's {n} columns", n=n)


def _experts(model: Model, plan: Plan) -> Iterator[Rule]:
    ep, etp = _d(plan, "ep"), _d(plan, "etp")
    routed = {(o.experts, o.n) for b in model.graph.blocks for o in b.ops if isinstance(o, Experts)}
    if not routed:
        text = "{model} has no routed experts and the plan says ep{ep} etp{etp}"
        yield _rule(plan, (ep == 1) & (etp == 1), text, model=model.name)
        return
    for experts, n in sorted(routed):
        yield _rule(plan, experts % ep == 0, "ep{ep} does not divide {experts} experts", experts=experts)
        yield _rule(plan, n % etp == 0, "etp{etp} does not divide an expert's {n} columns", n=n)
    inside = _d(plan, "tp") * _d(plan, "cp") * _d(plan, "dp")
    text = "ep{ep} × etp{etp} does not divide tp{tp} × cp{cp} × dp{dp}"
    yield _rule(plan, inside % (ep * etp) == 0, text)


def _batch(plan: Plan, global_batch: Number) -> Iterator[Rule]:
    batch = np.asarray(global_batch, dtype=np.float64)
    text = "a global batch of {batch} sequences is not a multiple of dp{dp} × mb{mb}"
    yield _rule(plan, batch % (_d(plan, "dp") * _d(plan, "mb")) == 0, text, batch=batch)


def _sequence(plan: Plan, sequence: Number) -> Iterator[Rule]:
    tp, cp, sp = _d(plan, "tp"), _d(plan, "cp"), _d(plan, "sp")
    # causal context parallelism gives every rank an early and a late part
    parts = np.where(cp > 1, 2 * cp, 1) * np.where(sp > 0, tp, 1)
    text = "a sequence of {sequence:g} tokens does not split over cp{cp} (two parts each) and sp over tp{tp}"
    yield _rule(plan, sequence % parts == 0, text, sequence=sequence)
