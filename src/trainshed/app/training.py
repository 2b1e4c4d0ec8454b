"""``train`` and ``plan train``: options to a priced step, with evidence."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np

from trainshed.app.emissions import with_carbon
from trainshed.app.machine import Machine
from trainshed.core import Assumption, Cost, Dtypes, Evidence, Number, Plan, PlanError, Result, UserError
from trainshed.models import Model, load
from trainshed.planner.train import Minimise, Ranked, best_train
from trainshed.software.schema import Framework
from trainshed.training import TrainingJob, step
from trainshed.training.answer import answer, chips_of, filled_in
from trainshed.validate.evidence import evidence_for
from trainshed.validate.labels import DTYPE_CLASS

#: What is minimised, and the unit it is printed in.
OBJECTIVES = {
    "time": "seconds per token", "usd": "USD per token", "joules": "joules per token",
    "chips": "chip-seconds per token",
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Task:
    """What is trained, on what."""

    model: Model
    machine: Machine
    job: TrainingJob
    framework: Framework
    said: Mapping[str, Any]


def task(
    model: str,
    machine: Machine,
    *,
    global_batch: int | None = None,
    seq: int = 8192,
    dtype: str = "bf16",
    framework: str | None = None,
) -> Task:
    """Resolve the options of a training run."""
    software, vendor = machine.software, machine.system.chip.vendor
    named = dtype if "=" not in dtype else Dtypes.parse(dtype).of("matmul")
    job = TrainingJob(
        sequence=seq, global_batch=global_batch, dtype=named, dtypes=Dtypes.parse(dtype) if "=" in dtype else None
    )
    said = {
        "model": model, **machine.said, "seq": seq, "dtype": dtype, "global_batch": global_batch,
        "framework": framework,
    }  # fmt: skip
    return Task(
        model=load(model), machine=machine, job=job, said=said,
        framework=software.framework(framework) if framework else software.default_framework(vendor),
    )  # fmt: skip


def train(work: Task, plan: str | None = None) -> Result:
    """One optimizer step: of the plan given, else of the best one found."""
    machine, searched, model = work.machine, 0, work.model
    if plan is None:
        ranked = best_train(
            model, machine.system, machine.chips, work.job, work.framework, width="narrow", price=machine.price
        )
        searched = ranked.priced
        chosen = ranked.plan(ranked.best(1)[0])
    else:
        chosen = complete(plan, machine)
    result = answer(
        model, machine.system, chosen, work.job, work.framework, price=machine.price, searched=searched,
        purchase=machine.options["purchase"] or "", inputs={**work.said, "plan": plan},
    )  # fmt: skip
    reasons = () if result.result["memory_fits"] else (_too_large(result.result),)  # type: ignore[call-overload]
    result = with_carbon(result, machine.grid)
    return replace(
        result, assumptions=(*machine.assumptions, *result.assumptions),
        evidence=_evidence(work, result.result), details={**result.details, "plan": chosen, "reasons": reasons},
    )  # fmt: skip


def complete(text: str, machine: Machine) -> Plan:
    """The plan with ``dp`` filled in from the chips where it is left out."""
    plan = filled_in(Plan.parse(text), machine.system)
    if re.search(r"\bdp\d", text):
        taken = chips_of(plan, machine.system)
        if machine.options["chips"] is None and machine.options["ultraservers"] is None:
            return plan
        if taken != machine.chips:
            raise PlanError(
                f"the plan takes {taken:,} chips, not {machine.chips:,}", where="--plan", value=text,
                expected="degrees whose product is the ranks of --chips, or no dp",
            )  # fmt: skip
        return plan
    ranks = machine.chips * int(float(machine.system.chip.cores.value)) // plan.lnc
    fixed = int(plan.ranks)
    if ranks % fixed:
        raise PlanError(
            f"tp × cp × pp = {fixed} does not divide the {ranks:,} ranks of {machine.chips:,} chips", where="--plan",
            value=text, expected="a product that divides them",
        )  # fmt: skip
    return plan.replace(dp=ranks // fixed)


def _too_large(result: Any) -> str:
    need, have = result["memory_per_chip_bytes"] / 1e9, result["memory_capacity_per_chip_bytes"] / 1e9
    return f"Does not fit: needs {need:,.1f} GB per chip, has {have:,.1f} GB."


def _evidence(work: Task, result: Any) -> Evidence:
    return evidence_for(
        chip=work.machine.system.chip.name, job="training", phase="step",
        moe=work.model.active_parameters < work.model.parameters, dtype_class=DTYPE_CLASS[work.job.dtype],
        metric="step_time_s", value=result["step_time_s"], catalogue=work.machine.catalogue,
    )  # fmt: skip


def root(work: Task, plan: Plan, values: Mapping[str, Number]) -> Number:
    """The step time of a plan with constants replaced: what a sensitivity evaluates."""
    machine = work.machine.replaced(values)
    vendor = machine.system.chip.vendor
    named = work.said["framework"]
    framework = machine.software.framework(named) if named else machine.software.default_framework(vendor)
    priced: Cost = step(work.model, machine.system, plan, work.job, framework).time
    return priced.value


def plan_train(work: Task, minimise: str = "time") -> Result:
    """Price every plan; the best ten and the Pareto front of the objective against memory."""
    if minimise not in OBJECTIVES:
        raise UserError("unknown objective", where="--minimise", value=minimise, expected=", ".join(OBJECTIVES))
    machine = work.machine
    ranked = best_train(
        work.model, machine.system, machine.chips, work.job, work.framework, minimise=cast(Minimise, minimise),
        price=machine.price,
    )  # fmt: skip
    best = _lines(ranked, ranked.best(10))
    result = {
        "best": best, "pareto": _lines(ranked, ranked.front()), "plans_priced": ranked.priced,
        "plans_that_fit": int(np.sum(ranked.fits)), "combinations": ranked.considered, "minimise": minimise,
        "objective_unit": OBJECTIVES[minimise],
    }  # fmt: skip
    reasons = () if ranked.fits.any() else ("No plan fits; the nearest ones are shown.",)
    assumed = Assumption(what="framework", value=work.framework.name, status="given", source=work.framework.source)
    return Result(
        command="plan train", inputs={**work.said, "minimise": minimise}, result=result,
        assumptions=(*machine.assumptions, assumed), evidence=_evidence(work, best[0]),
        details={"ranked": ranked, "reasons": reasons},
    )  # fmt: skip


def _lines(ranked: Ranked, indices: Sequence[int]) -> list[dict[str, Any]]:
    lines = []
    for i in indices:
        plan, seconds, chips = ranked.plan(i), float(ranked.step_time_s[i]), float(ranked.chips[i])
        tokens = float(ranked.tokens[i])
        lines.append(
            {
                "plan": str(plan), "step_time_s": seconds, "tokens_per_s": tokens / seconds,
                "tokens_per_s_per_chip": tokens / seconds / chips, "chips": round(chips),
                "memory_per_rank_bytes": float(ranked.memory_bytes[i]), "memory_fits": bool(ranked.fits[i]),
                "objective": float(ranked.objective[i]),
            }
        )  # fmt: skip
    return lines
