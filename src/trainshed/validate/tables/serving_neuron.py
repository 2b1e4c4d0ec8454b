"""Predictions of serving_neuron.csv: static batches and single phases of compiled graphs, one user at a time.

``tpot_s.p50`` of a static batch is the step in the largest bucket (context = isl + osl padded), because most positions
run in it; throughput is the mean over all positions. Ranks are logical cores of size ``lnc``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from trainshed.core import Dtypes, Number, UserError
from trainshed.models import Model
from trainshed.serving import Deployment, Outcome, lengths, steps
from trainshed.validate import configs
from trainshed.validate.table import Prediction, Row
from trainshed.validate.tables import serving_rows as rows_
from trainshed.validate.tables.serving_rows import Case

#: Prompt and context of decode rows whose source says "short" or nothing: one small bucket.
SHORT = 128.0


def predict(rows: Sequence[Row], setup: Any) -> list[Prediction]:
    """One prediction per row."""
    return rows_.priced(rows, lambda row: _case(row, setup), _figure)


def _figure(case: Case, deployment: Deployment, outcome: Outcome, place: int, size: int) -> Prediction:
    value = _value(case, deployment, outcome)
    return rows_.missing(case.row.metric) if value is None else Prediction(value=rows_.at(value, place, size))


def _case(row: Row, setup: Any) -> Case:
    rows_.known(row)
    model = configs.load(row)
    system = setup.catalogue.system(row.text("system") or "")
    engine = rows_.engine_of(row, system, setup.software)
    plan = rows_.plan_of(row, model, lnc=row.integer("lnc") or 1)
    if plan is None:
        raise UserError("no plan stated", where=row.id, value=row.group, expected="tp")
    mode = row.text("mode") or ""
    return Case(
        row=row, model=model, system=system, engine=engine, dtypes=_dtypes(row, model), mode=mode, plans=(plan,),
        numbers=_numbers(row, mode),
    )  # fmt: skip


def _dtypes(row: Row, model: Model) -> Dtypes:
    """Neuron multiplies in the activations' type; bf16 where the row does not say."""
    weights = row.text("dtype_weights") or (model.dtypes.weights if model.dtypes else "bf16")
    wide = row.text("dtype_activations") or "bf16"
    return Dtypes(weights=weights, activations=wide, kv=row.text("dtype_kv") or wide, matmul=wide)


def _numbers(row: Row, mode: str) -> dict[str, float]:
    found = rows_.numbers_of(row, {})
    wanted = {
        "static": ("isl", "osl", "batch"), "closed": ("isl", "osl", "concurrency", "max_batch"),
        "prefill": ("isl", "batch"), "decode": ("batch", "context"),
    }  # fmt: skip
    if mode not in wanted:
        raise UserError("unknown mode", where=row.id, value=mode, expected=", ".join(wanted))
    if mode == "decode":
        found.setdefault("context", found.get("isl", SHORT))
    found.setdefault("batch", 1.0)
    missing = [name for name in wanted[mode] if name not in found and name != "max_batch"]
    if missing:
        raise UserError("not stated", where=row.id, value=", ".join(missing), expected="the lengths of the run")
    return {name: found[name] for name in wanted[mode] if name in found}


def _value(case: Case, deployment: Deployment, outcome: Outcome) -> Number | None:
    row, metric = case.row, case.row.metric
    if metric == "tpot_s" and case.mode == "static" and row.statistic != "mean":
        return _largest(case, deployment, outcome)
    times = {"ttft_s": outcome.ttft, "tpot_s": outcome.tpot, "e2e_s": outcome.e2e, "batch_latency_s": outcome.e2e}
    if metric in times:
        cost = times[metric]
        return None if cost is None else cost.value
    isl, osl = case.numbers.get("isl", 0.0), case.numbers.get("osl", 1.0)
    rates = {
        "output_tokens_per_s": outcome.tokens_per_s, "requests_per_s": outcome.requests_per_s,
        "total_tokens_per_s": outcome.tokens_per_s * (isl + osl) / osl,
        "prefill_tokens_per_s": outcome.requests_per_s * isl,
    }  # fmt: skip
    return rates.get(metric)


def _largest(case: Case, deployment: Deployment, outcome: Outcome) -> Number:
    """The step in the largest bucket of a static batch."""
    total = case.numbers["isl"] + case.numbers["osl"]
    context = case.row.number("context") or float(np.max(lengths.bucket(case.engine, total, total)))
    waves = outcome.running / deployment.decode.replicas
    step = steps.decode(deployment.decode, sequences=waves, context=context)
    return step.time.value
