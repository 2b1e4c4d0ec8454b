"""Rows of the serving tables as what ``serving`` takes, and its outcomes as the rows' metrics."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from trainshed import serving
from trainshed.core import BYTES, Dtypes, Number, Plan, UserError
from trainshed.hardware.schema import Chip, System
from trainshed.models import Model
from trainshed.serving import Deployment, Outcome, Workload
from trainshed.software.schema import Engine
from trainshed.validate import configs
from trainshed.validate.table import Prediction, Row, skip

#: Numbers of a workload that rows of one call may differ in.
NUMBERS = ("isl", "osl", "batch", "concurrency", "rate_per_s", "requests", "context", "max_batch", "tokens_per_step")


@dataclass(frozen=True, kw_only=True)
class Case:
    """A row with what runs it."""

    row: Row
    model: Model
    system: System
    engine: Engine
    dtypes: Dtypes
    mode: str
    plans: tuple[Plan, ...]
    """One plan, or those of the prefill and the decode workers."""
    numbers: Mapping[str, float]
    """Those of ``NUMBERS`` that the row states or its source implies."""
    identical: bool = False
    equal: bool = False

    @property
    def key(self) -> tuple[Any, ...]:
        """What the rows of one vectorised call have in common."""
        stated = tuple(sorted(self.numbers))
        model = str(configs.config_path(self.row))
        lncs = tuple(p.lnc for p in self.plans)
        return (model, self.system.name, self.engine.name, str(self.dtypes), self.mode, stated, lncs, self.identical,
                self.equal)  # fmt: skip


def engine_of(row: Row, system: System, software: Any, *, date: str = "") -> Engine:
    """The engine of a row in the version that it states, else of its date (else ``date``).

    Disaggregated rows state the version of Dynamo, which is not the engine's.
    """
    name, version = row.text("framework"), row.text("framework_version") or ""
    # Neuron engines are versioned by their SDK, whatever package number stands before it
    found = re.search(r"SDK (\d+(?:\.\d+)+)", version) or re.match(r"\D*(\d+(?:\.\d+)+)", version)
    found = None if row.flag("disaggregated") else found
    date = row.text("date") or date
    number = "" if version.startswith("nightly") or found is None else found[1]
    if not name:
        name = software.default_engine(system.chip.vendor).family
    engine: Engine = software.engine(f"{name} on {system.chip.vendor}", number, date=date)
    return engine


def dtypes_of(row: Row, model: Model, engine: Engine, chip: Chip) -> Dtypes:
    """The types of a row. A four-bit type of an MoE model is that of its experts; the rest stays at 8 or 16 bit."""
    weights = row.text("dtype_weights") or "bf16"
    product = row.text("dtype_activations") or ""
    if weights == "mxfp4" and not product and "mxfp8" in chip.flops:
        product = "mxfp8"  # block-scaled weights meet block-scaled activations where the chip multiplies them
    wide = "fp16" if weights == "fp16" else "bf16"
    narrow = BYTES[weights] < BYTES["bf16"]
    kv = row.text("dtype_kv") or ("fp8" if narrow and engine.narrows_cache else wide)
    product = product if product and BYTES[product] < BYTES["bf16"] else wide
    # ModelOpt's NVFP4 checkpoints keep attention and shared weights at 8 bit
    rest = "fp8" if weights == "nvfp4" else wide
    experts_only = BYTES[weights] < BYTES["fp8"] and model.active_parameters < model.parameters
    if experts_only:
        return Dtypes(weights=rest, experts=weights, activations=wide, kv=kv, matmul=rest, experts_matmul=product)
    return Dtypes(weights=weights, activations=wide, kv=kv, matmul=product)


def plan_of(row: Row, model: Model, *, lnc: int = 0) -> Plan | None:
    """The plan of the row's columns; None where it states none."""
    if row.integer("tp") is None:
        return None
    stated = {name: row.integer(name) for name in ("tp", "pp", "ep", "cp")}
    degrees = {name: value for name, value in stated.items() if value}
    return serving.experts_split(
        Plan(**degrees, dpa=row.integer("dp_attention") or 1, replicas=row.integer("replicas") or 1, lnc=lnc),
        model,
    )


def pool_plans(row: Row, model: Model) -> tuple[Plan, Plan] | None:
    """Plans of the prefill and the decode workers of a disaggregated row."""
    texts = row.text("prefill_plan"), row.text("decode_plan")
    if texts[0] is None or texts[1] is None:
        return None
    first, second = (serving.experts_split(Plan.parse(text, where=row.id), model) for text in texts if text)
    return first, second


def plans_of(row: Row, model: Model) -> tuple[Plan, ...]:
    """The plan of the row, or those of its two pools; empty where it states none."""
    pools = pool_plans(row, model) if row.flag("disaggregated") else None
    if pools is not None:
        return pools
    plan = plan_of(row, model)
    return () if plan is None else (plan,)


def numbers_of(row: Row, implied: Mapping[str, float]) -> dict[str, float]:
    """The workload's numbers: what the row states, else what its source implies."""
    found = dict(implied)
    for name in NUMBERS:
        value = row.number(name) if name in row.cells else None
        if value is not None:
            found[name] = value
    return found


Figure = Callable[[Case, Deployment, Outcome, int, int], Prediction]
"""A row's metric: its case, the outcome of its call, its place among so many rows of that call."""


def priced(rows: Sequence[Row], case_of: Callable[[Row], Case], figure: Figure) -> list[Prediction]:
    """Predictions of rows, those of one key in one call; a user's error skips its rows."""
    answers: dict[int, Prediction] = {}
    groups: dict[tuple[Any, ...], list[tuple[int, Case]]] = defaultdict(list)
    for i, row in enumerate(rows):
        try:
            case = case_of(row)
            groups[case.key].append((i, case))
        except UserError as error:
            answers[i] = skip(f"{error.what}: {error.value}")
    for members in groups.values():
        cases = [case for _, case in members]
        try:
            deployment, outcome = outcome_of(cases)
        except UserError as error:
            answers |= {i: skip(f"{error.what}: {error.value}") for i, _ in members}
            continue
        for place, (i, case) in enumerate(members):
            answers[i] = figure(case, deployment, outcome, place, len(cases))
    return [answers[i] for i in range(len(rows))]


def outcome_of(cases: list[Case]) -> tuple[Deployment, Outcome]:
    """One vectorised call for cases of one key."""
    first = cases[0]

    def make(place: int) -> serving.Worker:
        plan = Plan.stack([case.plans[place] for case in cases])
        return serving.worker(first.model, first.system, plan, first.dtypes, first.engine, identical=first.identical)

    columns = {name: np.array([case.numbers[name] for case in cases]) for name in first.numbers}
    work = Workload(mode=first.mode, identical=first.identical, equal=first.equal, **columns)  # type: ignore[arg-type]
    deployment = Deployment.of(make(0)) if len(first.plans) == 1 else Deployment(prefill=make(0), decode=make(1))
    return deployment, serving.run(deployment, work)


def at(value: Number, index: int, size: int) -> Number:
    """One row's entry of an array whose last axis is the rows (constants may lie on an axis before it)."""
    array = np.asarray(value, dtype=np.float64)
    if array.ndim == 0:
        return float(array)
    picked = np.broadcast_to(array, (*array.shape[:-1], size))[..., index]
    return float(picked) if picked.ndim == 0 else np.asarray(picked, dtype=np.float64)


def missing(metric: str) -> Prediction:
    """A figure that the row's mode does not have."""
    return skip(f"{metric} is no figure of this mode")


def known(row: Row) -> None:
    """Refuses rows that need what nobody published."""
    if row.text("speculation") not in (None, "none"):
        raise UserError(
            "speculative decoding without an acceptance rate", where=row.id, value=row.text("speculation"),
            expected="none",
        )  # fmt: skip
