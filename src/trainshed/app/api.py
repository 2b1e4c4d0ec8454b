"""The Python API: what the commands do, as functions that return a ``Result``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from trainshed.app import generation, serving, training
from trainshed.app.collective import collective as _collective
from trainshed.app.collective import replay
from trainshed.app.comparison import compare as _compare
from trainshed.app.inventory import hardware_diff, hardware_list, hardware_show, models_list, models_show
from trainshed.app.machine import Machine, machine, rate, size
from trainshed.core import Cost, Result, UserError
from trainshed.core.explain import sensitivity, tree
from trainshed.hardware import Catalogue
from trainshed.models import load
from trainshed.serving.media import MediaWork
from trainshed.validate import claims as _claims
from trainshed.validate.run import run as _validate
from trainshed.validate.targets import targets as _targets

__all__ = [
    "claims", "collective", "compare", "explain", "hardware_diff", "hardware_list", "hardware_show", "models_list",
    "models_show", "plan", "replay", "serve", "train", "validation",
]  # fmt: skip

Job = Literal["train", "serve"]

_MACHINE = ("chips", "ultraservers", "price", "purchase", "grid", "set_values", "hardware")
_TRAIN = ("global_batch", "seq", "dtype", "framework")
_LOAD = ("isl", "osl", "concurrency", "rate", "batch", "offline")
_MEDIA = ("frames", "size", "steps", "fps", "seconds")
_SERVE = ("plan", "dtype", "engine", "slo")
_GENERATE = ("plan", "dtype", "engine")


def _take(options: dict[str, Any], names: Sequence[str]) -> dict[str, Any]:
    return {name: options.pop(name) for name in names if name in options}


def _spent(options: dict[str, Any], where: str, known: Sequence[str]) -> None:
    if options:
        names = ", ".join(known)
        raise UserError("no option of this job", where=where, value=sorted(options)[0], expected=f"one of {names}")


def _task(model: str, on: str | Machine, options: dict[str, Any]) -> training.Task:
    where = on if isinstance(on, Machine) else machine(on, **_take(options, _MACHINE))
    task = training.task(model, where, **_take(options, _TRAIN))
    _spent(options, "train", ("plan", *_MACHINE, *_TRAIN))
    return task


def _service(model: str, on: str | Machine, options: dict[str, Any]) -> serving.Service:
    where = on if isinstance(on, Machine) else machine(on, **_take(options, _MACHINE))
    load_options = {"isl": 4000, "osl": 500} | _take(options, _LOAD)
    said = dict(load_options)
    text = load_options.pop("rate", None)
    work = serving.workload(**load_options, rate_per_s=None if text is None else rate(str(text)))
    asked = serving.service(model, where, work, said=said, **_take(options, _SERVE))
    _spent(options, "serving of text", (*_MACHINE, *_LOAD, *_SERVE))
    return asked


def _generation(model: str, on: str | Machine, options: dict[str, Any]) -> generation.Generation:
    where = on if isinstance(on, Machine) else machine(on, **_take(options, _MACHINE))
    work = MediaWork(**_take(options, _MEDIA), tokens=options.pop("isl", None), batch=options.pop("batch", None) or 1)
    asked = generation.Generation(model=load(model), machine=where, work=work, **_take(options, _GENERATE))
    _spent(options, "generation of media", (*_MACHINE, "batch", *_MEDIA, *_GENERATE))
    return asked


def train(model: str, *, on: str | Machine, plan: str | None = None, **options: Any) -> Result:
    """One optimizer step. Options: chips, ultraservers, global_batch, seq, dtype, framework, price, purchase,
    set_values (``["chip.hbm_bandwidth=5.2TB/s"]``), hardware (paths of TOML files)."""
    return training.train(_task(model, on, options), plan)


def serve(model: str, *, on: str | Machine, **options: Any) -> Result:
    """Steady-state serving, or generation of pictures, video or sound. Options: those of a machine (see ``train``),
    isl, osl, one of concurrency, rate, batch, offline; plan, dtype, engine, slo; frames, size, steps, fps, seconds."""
    if generation.generates(model):
        return generation.serve(_generation(model, on, options))
    return serving.serve(_service(model, on, options))


def plan(job: Job, model: str, *, on: str | Machine, minimise: str | None = None, **options: Any) -> Result:
    """Search all plans of ``train`` or ``serve``: the best ten and the Pareto front."""
    if job == "train":
        return training.plan_train(_task(model, on, options), minimise or "time")
    if generation.generates(model):
        raise UserError("no search over plans of a model that decodes no text", where="plan serve", value=model,
                        expected="serve, which takes the soonest plan")  # fmt: skip
    return serving.plan_serve(_service(model, on, options), minimise or "usd")


def collective(kind: str, *, bytes: str | float, **options: Any) -> Result:
    """One collective of ``bytes`` (``"1GiB"``) among the chips of a system, or of a network of the user's own.

    Options: ``on`` (system) or ``topology`` (TOML file), ``chips``, ``ranks_per_chip``, ``algorithm``, ``model``
    (auto, closed, flow, packet), ``routing``, ``order``, ``fail`` (names of nodes and links), ``set_values``,
    ``hardware``.
    """
    amount = size(bytes, "--bytes") if isinstance(bytes, str) else float(bytes)
    return _collective(kind, bytes=amount, **options)


def compare(
    model: str, *, job: Job, on: Sequence[str], per: str = "chip", chips: int | None = None, **options: Any
) -> Result:
    """The same work on several systems; for chips without a price the break-even price against each rival."""
    shared = _take(options, [name for name in _MACHINE if name != "chips"])

    def run(where: Machine) -> Result:
        return train(model, on=where, **options) if job == "train" else serve(model, on=where, **options)

    return _compare(
        model, on, run, lambda name, count: machine(name, chips=count, **shared),
        lambda name: Catalogue(extra=shared.get("hardware", ())).system(name).ultraserver_chips,
        chips=chips, per=per, command=job,
    )  # fmt: skip


def explain(job: Job, model: str, *, on: str, **options: Any) -> Result:
    """Where a result comes from, down to sourced constants, and what 10 % more of each would gain."""
    if job == "train":
        task = _task(model, on, {k: v for k, v in options.items() if k != "plan"})
        result = training.train(task, options.get("plan"))
        chosen = result.details["plan"]
        gains = sensitivity(_cost(result), lambda values: training.root(task, chosen, values))
    elif generation.generates(model):
        made = _generation(model, on, dict(options))
        result = generation.serve(made)
        figures: Any = result.result
        gains = sensitivity(_cost(result), lambda values: generation.root(made, figures["plan"], values))
    else:
        asked = _service(model, on, dict(options))
        result = serving.serve(asked)
        figures = result.result
        gains = sensitivity(_cost(result), lambda values: serving.root(asked, figures["plan"], values))
    return Result(
        command=f"explain {job}", inputs=result.inputs, assumptions=result.assumptions, evidence=result.evidence,
        result={"tree": tree(_cost(result)), "sensitivity": gains}, cost=result.cost,
    )  # fmt: skip


def _cost(result: Result) -> Cost:
    assert result.cost is not None
    return result.cost.scalar()


def claims() -> Result:
    """The headline claims about Trainium3 and Trainium4: claimed, found by running the model, verdict."""
    return Result(command="claims", inputs={}, result=[c.to_json() for c in _claims.check()])


def validation(tables: Sequence[str] = (), *, group: str = "", rows: bool = False, progress: Any = None) -> Result:
    """Predictions beside published measurements: errors, coverage, the null model, what is asked of collectives."""
    report = _validate(tables, group, progress=progress)
    result = report.to_json(rows=rows) | {"targets": [t.to_json() for t in _targets(report.rows)]}
    return Result(
        command="validate", inputs={"tables": list(tables), "group": group}, result=result, details={"report": report}
    )
