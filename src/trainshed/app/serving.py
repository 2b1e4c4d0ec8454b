"""``serve`` and ``plan serve``: options to steady-state figures, with evidence."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np

from trainshed.app.emissions import with_carbon
from trainshed.app.machine import Machine, objectives
from trainshed.core import Assumption, Dtypes, Evidence, Number, Result, ResultError, UserError, plain
from trainshed.models import Model, load
from trainshed.planner.serve import Aim, best_serve
from trainshed.serving import Workload, answer, default_dtypes, deploy, run
from trainshed.software.schema import Engine
from trainshed.validate.evidence import evidence_for, together
from trainshed.validate.labels import DTYPE_CLASS

OBJECTIVES = ("usd", "joules", "time", "chips")
CONCURRENCY = 64


@dataclass(frozen=True, kw_only=True)
class Service:
    """What is served, on what, for which requests."""

    model: Model
    machine: Machine
    work: Workload
    engine: Engine
    dtypes: Dtypes | None
    slo: Mapping[str, float]
    said: Mapping[str, Any]
    plan: str = ""


def workload(
    *, isl: int, osl: int, concurrency: int | None = None, rate_per_s: float | None = None, batch: int | None = None,
    offline: bool = False,
) -> Workload:  # fmt: skip
    """The one mode that the options name; ``CONCURRENCY`` users if none does."""
    named = {
        "closed": concurrency is not None, "open": rate_per_s is not None, "static": batch is not None,
        "offline": offline,
    }  # fmt: skip
    modes = [mode for mode, on in named.items() if on] or ["closed"]
    if len(modes) > 1:
        raise UserError("more than one kind of load", where="serve", value=", ".join(modes),
                        expected="one of --concurrency, --rate, --batch, --offline")  # fmt: skip
    if modes == ["closed"]:
        concurrency = CONCURRENCY if concurrency is None else concurrency
    return Workload(
        mode=cast(Any, modes[0]), isl=float(isl), osl=float(osl), rate_per_s=rate_per_s,
        concurrency=None if concurrency is None else float(concurrency), batch=None if batch is None else float(batch),
    )  # fmt: skip


def service(
    model: str, machine: Machine, work: Workload, *, plan: str | None = None, dtype: str | None = None,
    engine: str | None = None, slo: str | None = None, said: Mapping[str, Any] | None = None,
) -> Service:  # fmt: skip
    """Resolve the options of a serving run; without ``dtype`` the checkpoint's own number formats."""
    software, vendor = machine.software, machine.system.chip.vendor
    return Service(
        model=load(model), machine=machine, work=work, plan=plan or "", slo=objectives(slo),
        dtypes=Dtypes.parse(dtype) if dtype else None,
        engine=software.engine(engine) if engine else software.default_engine(vendor),
        said={
            "model": model, **machine.said, **(said or {}), "plan": plan, "dtype": dtype, "engine": engine, "slo": slo,
        },
    )  # fmt: skip


def serve(asked: Service) -> Result:
    """Steady-state figures of the plan given, else of the smallest one with room, as many replicas as fit."""
    result = answer(
        asked.model, asked.machine.system, asked.work, engine=asked.engine, chips=asked.machine.chips, plan=asked.plan,
        dtypes=asked.dtypes, price=asked.machine.price, slo=asked.slo, inputs=asked.said,
        prefill_engine=_prefill_engine(asked),
    )  # fmt: skip
    result = with_carbon(result, asked.machine.grid)
    return replace(
        result, assumptions=(*asked.machine.assumptions, *result.assumptions), evidence=_evidence(asked, result)
    )


def _prefill_engine(asked: Service) -> Engine | None:
    """In a rack of two makers' chips each pool runs its own maker's default engine."""
    vendors = {pool.chip.vendor for pool in asked.machine.system.pools}
    other = vendors - {asked.machine.system.chip.vendor}
    return asked.machine.software.default_engine(other.pop()) if other else None


def _evidence(asked: Service, result: Result) -> Evidence:
    figures: Any = result.result
    stored = asked.dtypes or default_dtypes(asked.model)
    moe = asked.model.active_parameters < asked.model.parameters
    chip = asked.machine.system.chip.name
    wanted = (
        ("tokens_per_s", "run", figures["tokens_per_s"]), ("ttft_s", "prefill", figures["ttft_s"]["mean"]),
        ("tpot_s", "decode", figures["tpot_s"]["mean"]),
    )  # fmt: skip
    each = {
        metric: evidence_for(
            chip=chip, job="serving", phase=phase, moe=moe, metric=metric, value=value,
            dtype_class=DTYPE_CLASS[stored.of("experts" if moe else "weights")], catalogue=asked.machine.catalogue,
        )
        for metric, phase, value in wanted
        if value is not None
    }  # fmt: skip
    return together("tpot_s" if "tpot_s" in each else "tokens_per_s", each)


def root(asked: Service, plan: str, values: Mapping[str, Number]) -> Number:
    """First token and one more with constants replaced: what a sensitivity evaluates."""
    machine = asked.machine.replaced(values)
    vendor, named = machine.system.chip.vendor, asked.said["engine"]
    engine = machine.software.engine(named) if named else machine.software.default_engine(vendor)
    deployment = deploy(
        asked.model, machine.system, plan=plan, dtypes=asked.dtypes or default_dtypes(asked.model), engine=engine,
        prefill_engine=_prefill_engine(replace(asked, machine=machine)), chips=machine.chips,
        identical=asked.work.identical,
    )  # fmt: skip
    outcome = run(deployment, asked.work)
    parts = [np.asarray(c.value) for c in (outcome.ttft, outcome.tpot) if c is not None]
    return np.asarray(sum(parts), dtype=np.float64)


def plan_serve(asked: Service, minimise: str = "usd") -> Result:
    """Price every plan for every number of users; the best ten and the front of tokens/s/chip against tokens/s/user."""
    if minimise not in OBJECTIVES:
        raise UserError("unknown objective", where="--minimise", value=minimise, expected=", ".join(OBJECTIVES))
    machine = asked.machine
    found = best_serve(
        asked.model, machine.system, chips=machine.chips, work=asked.work, engine=asked.engine, dtypes=asked.dtypes,
        slo=asked.slo, minimise=cast(Aim, minimise), price=machine.price,
    )  # fmt: skip
    result = {
        "best": plain(found.ranked), "pareto": plain(found.pareto), "plans_priced": found.priced, "minimise": minimise,
    }  # fmt: skip
    best = found.ranked[0] if found.ranked else None
    if best is None:
        raise ResultError(f"no plan of {machine.chips} chips of {machine.system.name} serves {asked.model.name} so")
    top = Result(
        command="serve", inputs={}, result={
            "tokens_per_s": best.tokens_per_s, "ttft_s": {"mean": best.ttft_s}, "tpot_s": {"mean": best.tpot_s},
        },
    )  # fmt: skip
    return Result(
        command="plan serve", inputs={**asked.said, "minimise": minimise}, result=result,
        assumptions=(*machine.assumptions, *_assumed(asked)), evidence=_evidence(asked, top), details={"search": found},
    )  # fmt: skip


def _assumed(asked: Service) -> tuple[Assumption, ...]:
    """What a search rests on that the user did not say."""
    stored = asked.dtypes or default_dtypes(asked.model)
    return (
        Assumption(what="engine", value=asked.engine.name, status="given", source=asked.engine.source),
        Assumption(what="dtypes", value=str(stored), status="given" if asked.dtypes else "published",
                   source="--dtype" if asked.dtypes else f"checkpoint of {asked.model.name}"),
        Assumption(what="plans", value="tp, pp, ep and dpa in powers of two, inside one scale-up domain",
                   source="what engines accept"),
    )  # fmt: skip
