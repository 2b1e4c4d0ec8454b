"""Predictions of serving.csv: rows of one model, system, engine, mode and set of dtypes are priced in one call."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from trainshed import serving
from trainshed.core import Cost, Number
from trainshed.serving import Deployment, Outcome
from trainshed.validate import configs
from trainshed.validate.table import Prediction, Row, skip
from trainshed.validate.tables import serving_rows as rows_
from trainshed.validate.tables.serving_plans import choose
from trainshed.validate.tables.serving_rows import Case

_FACTS = Path(__file__).with_suffix(".toml")


def predict(rows: Sequence[Row], setup: Any) -> list[Prediction]:
    """One prediction per row."""
    return rows_.priced(rows, lambda row: _case(row, setup), _figure)


def _case(row: Row, setup: Any) -> Case:
    rows_.known(row)
    model = configs.load(row)
    system = setup.catalogue.system(row.text("system") or "")
    engine = rows_.engine_of(row, system, setup.software, date=_facts()["dates"].get(row.group, ""))
    mode = row.text("mode") or ""
    if mode == "offline" and row.metric == "batch_latency_s":
        mode = "static"
    numbers, dtypes = _numbers(row, mode), rows_.dtypes_of(row, model, engine, system.chip)
    plans = rows_.plans_of(row, model)
    if not plans:
        found = choose(
            model, system, engine, dtypes, chips=row.integer("chips") or 1, mode=mode, numbers=numbers,
            most_tpot_s=_limit(row),
        )  # fmt: skip
        plans, mode, numbers = (found.plan,), found.mode, dict(found.numbers)
    return Case(
        row=row, model=model, system=system, engine=engine, dtypes=dtypes, mode=mode, plans=plans, numbers=numbers,
        identical=row.text("prompts") == "identical", equal=row.group in _facts()["equal_lengths"]["groups"],
    )  # fmt: skip


def _limit(row: Row) -> float | None:
    """The most that a token may take in the benchmark that the row is of."""
    limits = _facts()["most_tpot_s"].get(row.group, {})
    limit = limits.get(row.text("model") or "", limits.get("others"))
    return None if limit is None else float(limit)


def _numbers(row: Row, mode: str) -> dict[str, float]:
    facts = _facts()
    implied = {"isl": float(facts["input_tokens"][row.group])} if row.group in facts["input_tokens"] else {}
    if row.group.startswith("mlperf_"):
        implied |= facts["mlperf_tokens"].get(row.text("model"), {})
    found = rows_.numbers_of(row, implied)
    if mode == "static" and "batch" not in found and "requests" in found:
        found["batch"] = found["requests"]
    if row.group in facts["requests_per_user"] and "concurrency" in found:
        found.setdefault("requests", facts["requests_per_user"][row.group] * found["concurrency"])
    if row.group in facts["running_batch"]["groups"]:
        found.pop("max_batch", None)
    if row.group in facts["cached_part"] and "isl" in found:
        found["cached"] = facts["cached_part"][row.group] * found["isl"]
    if mode in ("static", "prefill", "decode"):
        found.pop("requests", None)
    if mode == "prefill":
        found.pop("osl", None)
    return found


def _figure(case: Case, deployment: Deployment, outcome: Outcome, place: int, size: int) -> Prediction:
    """The row's metric from the outcome."""
    row = case.row
    if row.statistic in ("p90", "p99") and case.mode in ("closed", "open", "offline"):
        return skip("a closed form knows means only")
    if row.metric in ("power_per_chip_w", "energy_per_output_token_j"):
        return _power(case, deployment, outcome, place, size)
    value = _value(case, outcome)
    if value is None:
        return rows_.missing(row.metric)
    picked = rows_.at(value, place, size)
    if not np.all(np.isfinite(picked)):
        return skip("no steady state")
    return Prediction(value=picked)


def _power(case: Case, deployment: Deployment, outcome: Outcome, place: int, size: int) -> Prediction:
    """Power of the chips alone: what the drivers' counters read."""
    watts = serving.power(deployment, outcome).chips
    if watts is None:
        return skip(f"no idle power known of {deployment.decode.chip.name}")
    each = watts.value / deployment.chips
    if case.row.metric == "energy_per_output_token_j":
        each = watts.value / _tokens(case, outcome)
    return Prediction(value=rows_.at(each, place, size))


def _tokens(case: Case, outcome: Outcome) -> Number:
    """Output tokens per second as the row's source counts them."""
    if case.row.group in _facts()["running_batch"]["groups"] and outcome.tpot is not None:
        return case.numbers["concurrency"] / outcome.tpot.value
    return outcome.tokens_per_s


def _value(case: Case, outcome: Outcome) -> Number | None:
    row, metric = case.row, case.row.metric
    times = {"ttft_s": outcome.ttft, "tpot_s": outcome.tpot, "e2e_s": outcome.e2e, "batch_latency_s": outcome.e2e}
    if metric in times:
        cost: Cost | None = times[metric]
        return None if cost is None else cost.value
    chips = row.number("chips") or 1.0
    tokens = _tokens(case, outcome)
    osl, isl = case.numbers.get("osl", 1.0), case.numbers.get("isl", 0.0)
    rates = {
        "output_tokens_per_s": tokens, "output_tokens_per_s_per_chip": tokens / chips,
        "total_tokens_per_s": tokens * (isl + osl) / osl, "requests_per_s": outcome.requests_per_s,
        "prefill_tokens_per_s": outcome.requests_per_s * isl,
    }  # fmt: skip
    return rates.get(metric)


@cache
def _facts() -> Mapping[str, Any]:
    return tomllib.loads(_FACTS.read_text(encoding="utf-8"))
