"""The answer of ``train``: the result's figures, what they rest on, and the tree that explains them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from trainshed import economy
from trainshed.core import Assumption, Constant, Experts, Number, Plan, PlanError, Result
from trainshed.hardware.schema import System
from trainshed.models import Model
from trainshed.parallel import check
from trainshed.software.schema import Framework
from trainshed.training.job import TrainingJob
from trainshed.training.money import dollars_per_token, energy_per_token, power, power_parts
from trainshed.training.step import TrainingStep, rank_of, step

_PLACEMENT = "tp innermost, then cp, then dp (ep inside), pp outermost: Megatron-LM's default order"
_MFU = "six FLOPs per parameter and token plus attention with the causal half; recomputation not counted"


def answer(
    model: Model,
    system: System,
    plan: Plan,
    job: TrainingJob,
    framework: Framework,
    *,
    chips: int | None = None,
    price: Constant | None = None,
    purchase: str = "",
    inputs: Mapping[str, Any] | None = None,
    searched: int = 0,
) -> Result:
    """What one optimizer step of a scalar plan takes. ``searched``: plans that were compared to find this one."""
    plan = filled_in(plan, system, model)
    chips = chips_of(plan, system) if chips is None else chips
    batch = float(np.asarray(job.batch(plan)))
    wrong = check(model, plan, system, chips, global_batch=batch, sequence=job.sequence)
    if wrong:
        raise PlanError("; ".join(wrong), where="--plan", value=str(plan), expected="a plan that divides")
    priced = step(model, system, plan, job, framework)
    return Result(
        command="train", inputs=inputs or {}, result=figures(priced, system, price), cost=priced.time.at(()),
        assumptions=assumptions(priced, model, system, job, framework, price, purchase, searched),
        details={"step": priced, "model": model, "system": system, "job": job, "framework": framework},
    )  # fmt: skip


def filled_in(plan: Plan, system: System, model: Model | None = None) -> Plan:
    """The plan with the chip's default rank size and, of a model with routed experts, Megatron's default etp.

    A plan that says nothing of experts splits them over its TP ranks, as it splits every other product.
    """
    plan = plan if plan.lnc else plan.replace(lnc=rank_of(system, plan).cores)
    routed = model is not None and any(isinstance(op, Experts) for b in model.graph.blocks for op in b.ops)
    return plan.replace(etp=plan.tp) if routed and plan.ep == plan.etp == 1 else plan


def without_lnc(plan: Plan, system: System) -> Plan:
    """The plan as people write it: no rank size on chips whose ranks are whole."""
    return plan if system.chip.lnc is not None else plan.replace(lnc=0)


def chips_of(plan: Plan, system: System) -> int:
    """Chips that the plan's ranks take, rounded up to whole chips."""
    return int(np.ceil(float(plan.ranks) * rank_of(system, plan).share))


def figures(priced: TrainingStep, system: System, price: Constant | None) -> dict[str, Any]:
    """The ``result`` object of the command's JSON."""
    seconds, tokens = _f(priced.time.value), _f(priced.tokens)
    chips = _f(priced.chips)
    per_chip = 1.0 / rank_of(system, priced.plan).share
    memory = {name: _f(size) * per_chip for name, size in priced.memory.by_class().items()}
    joules, watts = energy_per_token(priced, system), power(priced, system)
    dollars = dollars_per_token(priced, price)
    return {
        "step_time_s": seconds, "tokens_per_s": tokens / seconds, "tokens_per_s_per_chip": tokens / seconds / chips,
        "mfu": _f(priced.mfu), "memory_per_chip_bytes": sum(memory.values()),
        "memory_fits": bool(np.all(priced.fits)), "memory_breakdown_bytes": memory,
        "time_breakdown_s": {name: _f(cost.value) for name, cost in priced.terms.items()},
        "power_w": None if watts is None else _f(watts.value), "power_breakdown_w": _power(priced, system),
        "energy_per_token_j": None if joules is None else _f(joules.value),
        "usd_per_million_tokens": None if dollars is None else _f(dollars.value) * 1e6,
        "chips": round(chips), "ultraservers": chips / system.ultraserver_chips,
        "plan": str(without_lnc(priced.plan, system)),
        "global_batch": _f(priced.batch), "memory_capacity_per_chip_bytes": _f(priced.capacity) * per_chip,
    }  # fmt: skip


def _power(priced: TrainingStep, system: System) -> dict[str, float | None]:
    """Watts of the chips, of what stands beside them, and of both at the building's meter."""
    found = power_parts(priced, system)
    return {
        name: None if joules is None else _f(joules.value) / _f(priced.time.value) for name, joules in found.items()
    }


def assumptions(
    priced: TrainingStep, model: Model, system: System, job: TrainingJob, framework: Framework,
    price: Constant | None, purchase: str, searched: int,
) -> tuple[Assumption, ...]:  # fmt: skip
    """What the answer rests on that the user did not say."""
    dtypes = job.number_formats(framework)
    said = [
        Assumption(what="framework", value=framework.name, status="given", source=framework.source),
        Assumption(what="dtypes", value=str(dtypes), source="--dtype; states in the framework's formats"),
        Assumption(what="placement of ranks", value=_PLACEMENT, status="published", source="Megatron-LM"),
        Assumption(what="mfu", value=_MFU, status="derived", source="arXiv:2205.05198, section 5"),
        Assumption(what="optimizer", value=job.optimizer, source="the usual choice"),
    ]
    if job.global_batch is None:
        said.append(
            Assumption(what="global batch", value=_f(priced.batch), unit="sequences",
                       source="the larger of 1,024 and one sequence per data-parallel rank, in whole micro-batches")
        )  # fmt: skip
    if searched:
        said.append(
            Assumption(
                what="plan",
                value=str(without_lnc(priced.plan, system)),
                status="derived",
                source=f"best of {searched} plans priced",
            )
        )
    if job.kind == "lora":
        said.append(
            Assumption(what="adapters", value=job.adapter_share, unit="1",
                       source="trained parameters per frozen one; their own products are left out")
        )  # fmt: skip
    if price is not None:
        said.append(
            Assumption(what=f"price ({purchase})" if purchase else "price", value=_f(price.value), unit=price.unit,
                       status=price.status, source=price.source)
        )  # fmt: skip
    said += [
        Assumption(what=f"{field} of {system.chip.name}", value=f"inherited from {origin}", source="announced chip")
        for field, origin in system.chip.inherited.items()
    ]
    said += [*economy.basis(system.chip, system), *model.assumptions]
    return tuple(said)


def _f(value: Number) -> float:
    return float(np.asarray(value).flat[0])
