"""What is filled in when the user does not say: the plan, the pools, the dtypes."""

from __future__ import annotations

from collections.abc import Sequence
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
    """The deployment of a plan's text; what it leaves out (replicas, pools, the whole plan) is filled in.

    Of two engines each pool runs the one made for its chips.
    """
    said, split = bool(plan.strip()), len(system.pools) > 1
    plans = parse_plan(plan) if said else ({"prefill": Plan(), "decode": Plan()} if split else {"": Plan()})
    first, second = pools(system) if split else (system.pools[0], system.pools[0])
    engines = (engine, *((prefill_engine,) if prefill_engine else ()))
    there = chips if chips is not None else sum(p.chips for p in system.pools)

    def make(phase: str, pool: Pool) -> Worker:
        runs, wanted = engine_for(pool, engines), experts_split(plans[phase], model)
        base = worker(model, system, wanted, dtypes, runs, pool=pool.name, identical=identical)
        size = max(there * pool.chips // sum(p.chips for p in system.pools), 1) if split else there
        base = base if said else smallest(base, size)
        return checked(_filled(base, size, fill=phase == "" or not said))

    if "" in plans:
        return Deployment.of(make("", system.pools[0]))
    both = Deployment(prefill=make("prefill", first), decode=make("decode", second))
    if float(np.max(both.chips)) > there:
        raise PlanError("a plan of more chips than there are", where="--plan", value=plan,
                        expected=f"at most {there} chips")  # fmt: skip
    return both


def engine_for(pool: Pool, engines: Sequence[Engine]) -> Engine:
    """The engine made for a pool's chips; the first one where none says so."""
    vendor = pool.chip.vendor.lower()
    return next((e for e in engines if vendor in (v.lower() for v in e.default_for)), engines[0])


def _filled(base: Worker, chips: int, *, fill: bool) -> Worker:
    """Replicas that fill the chips, where the plan leaves them open."""
    own = float(base.ranks * base.share)
    if float(base.chips) > chips:
        raise PlanError("a plan of more chips than there are", where="--plan", value=str(base.plan),
                        expected=f"at most {chips} chips")  # fmt: skip
    if base.plan.replicas == 1 and fill:
        return _with(base, base.plan.replace(replicas=max(int(chips // own), 1)))
    return base


def smallest(base: Worker, chips: int) -> Worker:
    """The smallest power of two of tensor-parallel ranks that leaves as much room for caches as for weights."""
    ranks = max(int(chips / base.share), 1)
    tried = base
    for power in range(ranks.bit_length()):
        tried = _with(base, experts_split(base.plan.replace(tp=2**power), base.model))
        held = memory.weights(tried, steps.decode(tried, sequences=1.0, context=1.0).work)
        if float(held) <= 0.5 * float(np.max(memory.capacity(tried, held).value)):
            break
    return tried


def _with(base: Worker, plan: Plan) -> Worker:
    return replace(base, plan=plan)
