"""The answer of ``serve``: the result's figures, what they rest on, and the tree that explains them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from trainshed import economy
from trainshed.core import Assumption, Constant, Cost, Dtypes, Number, Result, UserError, total
from trainshed.hardware.schema import System
from trainshed.models import Model
from trainshed.serving import memory
from trainshed.serving.defaults import default_dtypes, deploy
from trainshed.serving.deployment import Deployment
from trainshed.serving.money import power
from trainshed.serving.outcome import Outcome
from trainshed.serving.run import run
from trainshed.serving.workload import Workload
from trainshed.software.schema import Engine


def answer(
    model: Model,
    system: System,
    work: Workload,
    *,
    engine: Engine,
    chips: int | None = None,
    plan: str = "",
    dtypes: Dtypes | None = None,
    prefill_engine: Engine | None = None,
    price: Constant | None = None,
    slo: Mapping[str, float] | None = None,
    inputs: Mapping[str, Any] | None = None,
) -> Result:
    """What a scalar workload takes. ``chips`` where the plan leaves replicas open; ``slo``: limits by figure in s."""
    stored = dtypes or default_dtypes(model)
    deployment = deploy(
        model, system, plan=plan, dtypes=stored, engine=engine, prefill_engine=prefill_engine, chips=chips,
        identical=work.identical,
    )  # fmt: skip
    outcome = run(deployment, work)
    _must_fit(deployment, outcome)
    figures = result(deployment, outcome, work, price=price, slo=slo or {})
    return Result(
        command="serve", inputs=inputs or {}, result=figures, cost=headline(outcome),
        assumptions=assumptions(deployment, work, stored, outcome, plan=plan, dtypes=dtypes),
        details={"deployment": deployment, "outcome": outcome, "workload": work},
    )  # fmt: skip


def headline(outcome: Outcome) -> Cost:
    """The first token and one more: the tree that ``explain`` prints."""
    parts = [c for c in (outcome.ttft, outcome.tpot) if c is not None]
    cost = total("first token and one more", parts, unit="s")
    return cost.scalar()


def _must_fit(deployment: Deployment, outcome: Outcome) -> None:
    if float(np.min(outcome.room)) < 1.0:
        held = memory.weights(deployment.decode, _step_work(outcome))
        raise UserError(
            "the model does not fit with one sequence", where="--plan", value=deployment.plan,
            expected=f"more ranks or narrower weights ({float(held) / 1e9:.1f} GB of weights per rank, "
            f"{float(np.max(memory.capacity(deployment.decode, held).value)) / 1e9:.1f} GB usable)",
        )  # fmt: skip


def _step_work(outcome: Outcome) -> Any:
    step = outcome.decode or outcome.prefill
    assert step is not None
    return step.work


def scalar(value: Number | Cost | None) -> float | None:
    """The first element as a float."""
    if value is None:
        return None
    return float(np.asarray(value.value if isinstance(value, Cost) else value).flat[0])


def result(
    deployment: Deployment, outcome: Outcome, work: Workload, *, price: Constant | None, slo: Mapping[str, float]
) -> dict[str, Any]:
    """The ``result`` object of the command's JSON."""
    chips = float(np.max(deployment.chips))
    rate = scalar(outcome.tokens_per_s) or 0.0
    per_hour = None if price is None else float(np.max(price.value)) * chips
    figures: dict[str, Any] = {
        name: {"mean": scalar(cost), "p50": None, "p90": None, "p99": None}
        for name, cost in (("ttft_s", outcome.ttft), ("tpot_s", outcome.tpot), ("e2e_s", outcome.e2e))
    }
    figures |= {
        "tokens_per_s": rate, "tokens_per_s_per_chip": rate / chips, "requests_per_s": scalar(outcome.requests_per_s),
        "concurrency": scalar(work.concurrency if work.concurrency is not None else outcome.running),
        "sequences_running": scalar(outcome.running), "sequences_that_fit": scalar(outcome.room),
    }  # fmt: skip
    figures |= _memory(deployment, outcome)
    figures |= _power(deployment, outcome, rate)
    figures |= {
        "usd_per_million_tokens": None if per_hour is None else per_hour / 3600.0 / rate * 1e6,
        "chips": round(chips), "plan": deployment.plan,
        "slo_attainment": attainment(outcome, slo) if slo else None,
    }  # fmt: skip
    return figures


def _power(deployment: Deployment, outcome: Outcome, rate: float) -> dict[str, Any]:
    """Watts of chips, hosts and switches, and what follows; null where no power is known."""
    found = power(deployment, outcome)
    watts = scalar(found.machines)
    return {
        "power_w": watts,
        "power_breakdown_w": {
            "chips": scalar(found.chips), "hosts_and_switches": scalar(found.beside), "facility": scalar(found.facility)
        },
        "energy_per_token_j": None if watts is None else watts / rate,
        "tokens_per_s_per_mw": None if watts is None else rate / (watts / 1e6),
    }  # fmt: skip


def _memory(deployment: Deployment, outcome: Outcome) -> dict[str, Any]:
    decoder = deployment.decode
    held = scalar(memory.weights(decoder, _step_work(outcome))) or 0.0
    per_rank = scalar(memory.cache(decoder, outcome.context)) or 0.0
    each = (scalar(outcome.running) or 0.0) / float(np.max(decoder.replicas))
    cached = per_rank * each
    return {
        "memory_per_chip_bytes": (held + cached) * decoder.ranks_per_chip,
        "memory_breakdown_bytes": {
            "weights": held * decoder.ranks_per_chip, "kv_cache": cached * decoder.ranks_per_chip
        },
        "kv_cache_bytes": cached * float(np.max(decoder.ranks * decoder.replicas)),
    }  # fmt: skip


def attainment(outcome: Outcome, slo: Mapping[str, float]) -> dict[str, bool | None]:
    """Whether each mean keeps its limit (a share of requests would need percentiles)."""
    means = {"ttft": scalar(outcome.ttft), "tpot": scalar(outcome.tpot), "e2e": scalar(outcome.e2e)}
    for key in slo:
        if key not in means:
            raise UserError("unknown figure of an SLO", where="--slo", value=key, expected=", ".join(means))
    kept: dict[str, bool | None] = {}
    for key, limit in slo.items():
        mean = means[key]
        kept[key] = None if mean is None else mean <= limit
    return kept


def assumptions(
    deployment: Deployment, work: Workload, stored: Dtypes, outcome: Outcome, *, plan: str, dtypes: Dtypes | None
) -> tuple[Assumption, ...]:
    """What the answer rests on that the user did not say."""
    decoder = deployment.decode
    said = [
        *(
            Assumption(what=f"engine on {w.chip.name}", value=w.engine.name, status="given", source=w.engine.source)
            for w in deployment.workers
        ),
        Assumption(what="dtypes", value=str(decoder.dtypes), status="given" if dtypes else "published",
                   source="--dtype" if dtypes else f"checkpoint of {decoder.model.name}"),
        Assumption(what="percentiles", value=None, source="a closed form knows means only; p50, p90 and p99 are null"),
    ]  # fmt: skip
    if not plan.strip():
        said.append(Assumption(what="plan", value=deployment.plan, source="smallest tensor parallelism with room"))
    if not deployment.shared:
        pair = f"prefill on {deployment.prefill.chip.name}, decode on {decoder.chip.name}"
        said.append(Assumption(what="pools", value=pair, source="prefill where there is most compute per byte"))
    if work.mode in ("closed", "offline", "open"):
        limit = work.max_batch if work.max_batch is not None else decoder.engine.fit("max_batch").value
        said.append(Assumption(what="sequences per replica at most", value=scalar(limit), unit="count",
                               source=decoder.engine.fit("max_batch").source))  # fmt: skip
    for chip in {w.chip.name: w.chip for w in deployment.workers}.values():
        said += [Assumption(what=f"{key} of {chip.name}: undisclosed", value=f"inherited from {origin}",
                            source="announced chip") for key, origin in chip.inherited.items()]  # fmt: skip
        said += economy.basis(chip, deployment.system)
    return (*said, *decoder.model.assumptions)
