"""What is filled in when the user does not say: the plan, the pools, the dtypes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from trainshed.core import Dtypes, Plan, PlanError
from trainshed.hardware.schema import Chip, Pool, System
from trainshed.models import Model
from trainshed.serving import memory, steps
from trainshed.serving.deployment import Deployment, checked, experts_split, parse_plan
from trainshed.serving.worker import Worker, worker
from trainshed.software.schema import Engine


def default_dtypes(model: Model) -> Dtypes:
    """The types of the published checkpoint; bf16 where they are not known."""
    return model.dtypes or Dtypes()


def pools(system: System) -> tuple[Pool, Pool]:
    """The pools that prefill and that decode: prefill goes where there is most compute per byte of HBM traffic."""
    ranked = sorted(system.pools, key=lambda p: _intensity(p.chip))
    return ranked[-1], ranked[0]


def _intensity(chip: Chip) -> float:
    peak = max(float(np.max(c.value)) for c in chip.flops.values())
    return peak / float(np.max(chip.hbm_bandwidth.value))


def deploy(
    model: Model, system: System, *, plan: str, dtypes: Dtypes, engine: Engine, prefill_engine: Engine | None = None,
    chips: int | None = None, identical: bool = False,
) -> Deployment:  # fmt: skip
    """The deployment of a plan's text; what it leaves out (replicas, pools, the whole plan) is filled in."""
    first, second = pools(system)
    plans = parse_plan(plan) if plan.strip() else {}
    if not plans and len(system.pools) > 1:
        plans = {"prefill": Plan(), "decode": Plan()}
        sizes = {"prefill": first.chips, "decode": second.chips}
    else:
        sizes = dict.fromkeys(plans or ("",), chips if chips is not None else system.pools[0].chips)
        plans = plans or {"": Plan()}
    whole = bool(plan.strip())

    def make(phase: str, pool: Pool, runs: Engine) -> Worker:
        base = worker(model, system, experts_split(plans[phase]), dtypes, runs, pool=pool.name, identical=identical)
        if not whole:
            base = smallest(base, sizes[phase])
        return checked(_filled(base, sizes[phase], alone=phase == ""))

    if "" in plans:
        return Deployment.of(make("", system.pools[0], engine))
    split = len(system.pools) > 1
    return Deployment(
        prefill=make("prefill", first if split else system.pools[0], prefill_engine or engine),
        decode=make("decode", second if split else system.pools[0], engine),
    )


def _filled(base: Worker, chips: int, *, alone: bool) -> Worker:
    """Replicas that fill the chips, where the plan does not say and one kind of worker has them all."""
    own = float(base.ranks * base.share)
    if own > chips:
        raise PlanError("a plan of more chips than there are", where="--plan", value=str(base.plan),
                        expected=f"at most {chips} chips")  # fmt: skip
    if base.plan.replicas == 1 and alone:
        return _with(base, base.plan.replace(replicas=max(int(chips // own), 1)))
    if float(base.chips) > chips and alone:
        raise PlanError("a plan of more chips than there are", where="--plan", value=str(base.plan),
                        expected=f"at most {chips} chips")  # fmt: skip
    return base


def smallest(base: Worker, chips: int) -> Worker:
    """The smallest power of two of tensor-parallel ranks that leaves as much room for caches as for weights."""
    ranks = max(int(chips / base.share), 1)
    tried = base
    for power in range(ranks.bit_length()):
        tried = _with(base, experts_split(base.plan.replace(tp=2**power)))
        held = memory.weights(tried, steps.decode(tried, sequences=1.0, context=1.0).work)
        if float(held) <= 0.5 * float(np.max(memory.capacity(tried).value)):
            break
    return tried


def _with(base: Worker, plan: Plan) -> Worker:
    return replace(base, plan=plan)
