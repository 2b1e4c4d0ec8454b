"""Predictions of training.csv: every figure of a row follows from one predicted step.

What a row does not state is filled in as its framework would: one micro-batch size, recomputation, virtual stages or
whole plan where the cell is empty is the fastest of those that fit the memory. Rows of one model, system, framework
and job are priced in one call, all their plans stacked.
"""

from __future__ import annotations

import tomllib
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainshed import training
from trainshed.core import Array, Number, Plan, UserError
from trainshed.hardware.schema import System
from trainshed.models import Model
from trainshed.software.schema import Framework
from trainshed.training.money import chip_energy
from trainshed.validate import configs
from trainshed.validate.table import Prediction, Row, skip

_FACTS = Path(__file__).with_suffix(".toml")
#: Degrees that a row's columns hold under the plan's own names.
_DEGREES = ("tp", "sp", "pp", "vpp", "dp", "cp", "ep", "etp", "zero")
_RECOMPUTE = {"none": 0, "selective": 1, "full": 2}
#: What is tried where a row does not say.
_MICRO_BATCHES = (1, 2, 4, 8)


@dataclass(frozen=True, kw_only=True)
class _Case:
    """A row with what it runs on and the plans that its cells allow."""

    row: Row
    model: Model
    system: System
    framework: Framework
    share: float
    """Part of a chip that is one rank."""
    plans: tuple[Plan, ...]

    @property
    def batch(self) -> float:
        """Sequences per step; one micro-batch each where the row does not say."""
        stated = self.row.number("global_batch")
        return stated if stated is not None else float(self.plans[0].micro_batches_needed)

    @property
    def sequence(self) -> float:
        """Tokens per sequence; the model's own longest where the row does not say."""
        stated = self.row.number("seq")
        if stated is None and self.model.max_context is None:
            raise UserError("no sequence length", where=self.row.id, value="", expected="a seq column")
        return stated if stated is not None else float(self.model.max_context or 0)

    @property
    def dtype(self) -> str:
        """What the products run in."""
        return self.row.text("dtype") or self.framework.dtype

    @property
    def key(self) -> tuple[Any, ...]:
        """What one vectorised call has in common."""
        row = self.row
        words = tuple(row.text(c) for c in ("optimizer", "attention", "job"))
        model = str(configs.config_path(row))
        return (model, self.system.name, self.framework.name, self.dtype, *words, self._capacity)

    @property
    def _capacity(self) -> float:
        stated = self.row.number("capacity_factor")
        return stated if stated is not None and self.row.text("moe_routing") == "drop" else 1.0

    def job(self, batch: Number, sequence: Number) -> training.TrainingJob:
        """The job that the key's cases share, for their batches and lengths."""
        row = self.row
        return training.TrainingJob(
            sequence=sequence, global_batch=batch, dtype=self.dtype, optimizer=row.text("optimizer") or "adamw",
            attention=row.text("attention") or "", kind=row.text("job") or "pretrain",  # type: ignore[arg-type]
            capacity_factor=self._capacity, dropout=self.framework.dropout,
        )  # fmt: skip


def predict(rows: Sequence[Row], setup: Any) -> list[Prediction]:
    """One prediction per row; rows of one measured run share the predicted step."""
    answers: dict[int, Prediction] = {}
    groups: dict[tuple[Any, ...], list[tuple[int, _Case]]] = defaultdict(list)
    for i, row in enumerate(rows):
        try:
            case = _case(row, setup)
            groups[case.key].append((i, case))
        except UserError as error:
            answers[i] = skip(f"{error.what}: {error.value}")
    for members in groups.values():
        answers |= _group([i for i, _ in members], [case for _, case in members])
    return [answers[i] for i in range(len(rows))]


def _group(places: Sequence[int], cases: Sequence[_Case]) -> dict[int, Prediction]:
    try:
        steps = list(_steps(cases))
    except UserError as error:
        return dict.fromkeys(places, skip(f"{error.what}: {error.value}"))
    return {i: _figure(case, step) for i, case, step in zip(places, cases, steps, strict=True)}


@dataclass(frozen=True, kw_only=True)
class _Step:
    """What one case's step takes."""

    seconds: Number
    memory: Number
    """Bytes per chip."""
    recompute: Number
    watts: Number | None = None
    """Per chip; only where the case asks for power."""


def _steps(cases: Sequence[_Case]) -> Iterator[_Step]:
    """The step of each case under the fastest of its plans that fit."""
    plans = Plan.stack([p for case in cases for p in case.plans])
    batch = np.array([case.batch for case in cases for _ in case.plans])
    length = np.array([case.sequence for case in cases for _ in case.plans])
    first = cases[0]
    step = training.step(first.model, first.system, plans, first.job(batch, length), first.framework)
    memory = np.broadcast_to(np.asarray(step.memory.total, dtype=np.float64), batch.shape)
    seconds = np.asarray(step.time.value, dtype=np.float64)
    seconds = np.broadcast_to(seconds, np.broadcast_shapes(seconds.shape, batch.shape))
    fits = np.broadcast_to(np.asarray(step.fits), batch.shape)
    recompute = np.broadcast_to(np.asarray(plans.recompute), batch.shape)
    watts = _watts(step, first.system, seconds) if any(c.row.metric == "power_per_node_w" for c in cases) else None
    start = 0
    for case in cases:
        here = slice(start, start := start + len(case.plans))
        chosen = _best(seconds[..., here], fits[here], memory[here])
        yield _Step(
            seconds=_pick(seconds[..., here], chosen), memory=_pick(memory[here], chosen) / first.share,
            recompute=_pick(recompute[here], chosen), watts=None if watts is None else _pick(watts[..., here], chosen),
        )  # fmt: skip


def _watts(step: training.TrainingStep, system: System, seconds: Array) -> Array | None:
    joules = chip_energy(step, system)
    return None if joules is None else np.asarray(joules.value / seconds / np.asarray(step.chips))


def _best(seconds: Array, fits: NDArray[np.bool_], memory: Array) -> NDArray[np.int64]:
    """Index of the fastest plan that fits; of the one nearest to fitting where none does."""
    if not np.any(fits):
        return np.full(seconds.shape[:-1], np.argmin(memory))
    return np.asarray(np.argmin(np.where(fits, seconds, np.inf), axis=-1))


def _pick(values: Any, chosen: NDArray[np.int64]) -> Number:
    values = np.broadcast_to(values, (*np.shape(chosen), np.shape(values)[-1]))
    picked = np.take_along_axis(values, np.expand_dims(chosen, -1), axis=-1)[..., 0]
    return float(picked) if picked.ndim == 0 else np.asarray(picked, dtype=np.float64)


def _case(row: Row, setup: Any) -> _Case:
    model = configs.load(row)
    system = setup.catalogue.system(row.text("system") or "")
    name = row.text("framework")
    software = setup.software
    framework = (
        software.framework(name, date=row.text("date") or "")
        if name
        else software.default_framework(system.chip.vendor)
    )
    chips = row.integer("chips") or 1
    lnc = row.integer("lnc") or 1
    neuron = system.chip.architecture == "neuroncore"
    cores = row.integer("cores") or chips * int(float(system.chip.cores.value))
    ranks = cores // lnc if neuron else chips
    plans = tuple(_plans(row, model, ranks, framework, lnc if neuron else 1))
    if not plans:
        raise UserError("no plan fits the stated degrees", where=row.id, value=ranks, expected="degrees that divide")
    share = lnc / float(system.chip.cores.value) if neuron else 1.0
    return _Case(row=row, model=model, system=system, framework=framework, share=share, plans=plans)


def _plans(row: Row, model: Model, ranks: int, framework: Framework, lnc: int) -> Iterator[Plan]:
    """Every plan that the row's cells allow."""
    stated = {name: row.integer(name) for name in _DEGREES}
    for tp, pp in _models_parallel(stated, model, ranks):
        cp, ep = stated["cp"] or 1, stated["ep"] or 1
        dp = stated["dp"] or max(ranks // (tp * pp * cp), 1)
        sp = stated["sp"] if stated["sp"] is not None else int(tp > 1)
        zero = stated["zero"] if stated["zero"] is not None else framework.zero
        batch = row.integer("global_batch")
        micro = row.integer("micro_batch")
        sizes = [micro] if micro else [m for m in _MICRO_BATCHES if batch is None or batch % (dp * m) == 0] or [1]
        recompute = row.text("recompute")
        redone = [_RECOMPUTE[recompute]] if recompute else list(_RECOMPUTE.values())
        for mb, again, vpp in product(sizes, redone, _virtual_stages(row, stated["vpp"], pp, model, framework)):
            yield Plan(tp=tp, sp=sp, pp=pp, vpp=vpp, dp=dp, zero=zero, ep=ep, etp=stated["etp"] or 1, cp=cp, mb=mb,
                       recompute=again, lnc=lnc)  # fmt: skip


def _models_parallel(stated: Mapping[str, int | None], model: Model, ranks: int) -> Iterator[tuple[int, int]]:
    """Degrees (tp, pp): the stated ones, else all that divide ranks, heads and layers."""
    tps = [stated["tp"]] if stated["tp"] else [1, 2, 4, 8]
    pps = [stated["pp"]] if stated["pp"] else [p for p in (1, 2, 4, 8, 16) if p <= model.layers]
    if stated["tp"] or stated["pp"]:
        tps, pps = tps if stated["tp"] else [1], pps if stated["pp"] else [1]
    for tp, pp in product(tps, pps):
        if ranks % (tp * pp) == 0:
            yield tp, pp


def _virtual_stages(row: Row, stated: int | None, pp: int, model: Model, framework: Framework) -> list[int]:
    if stated:
        return [stated]
    if pp == 1 or not framework.interleaves or row.text("schedule") in ("1f1b", "gpipe"):
        return [1]
    per_stage = -(-model.layers // pp)
    return [v for v in range(1, per_stage + 1) if per_stage % v == 0]


def _figure(case: _Case, step: _Step) -> Prediction:
    """The row's metric from the step."""
    metric, tokens, seconds = case.row.metric, case.batch * case.sequence, step.seconds
    chips = float(case.row.integer("chips") or 1)
    if metric == "time_to_train_s":
        samples = _samples(case.row.text("model") or "", case.batch)
        return skip("no published convergence") if samples is None else _value(seconds * samples / case.batch)
    if metric in ("memory_per_chip_bytes", "state_bytes", "activation_bytes"):
        return _value(step.memory) if metric == "memory_per_chip_bytes" else skip(f"no figure of the step: {metric}")
    if metric == "power_per_node_w":
        host = case.system.overhead.host
        if step.watts is None or host is None:
            return skip(f"no power known of {case.system.name}")
        return _value((step.watts + host.value) * case.system.instance_chips)
    simple = {"step_time_s": seconds, "tokens_per_s": tokens / seconds, "sequences_per_s": case.batch / seconds,
              "tokens_per_s_per_chip": tokens / seconds / chips}  # fmt: skip
    if metric in simple:
        return _value(simple[metric])
    flops = _flops_per_token(case, step.recompute if metric.startswith(("hfu", "hardware")) else 0.0)
    rate = flops * tokens / seconds / chips
    if metric.endswith("flops_per_s_per_chip"):
        return _value(rate)
    if metric in ("mfu", "hfu"):
        return _value(rate / _peak(case))
    return skip(f"unknown metric {metric}")


def _value(value: Number) -> Prediction:
    return Prediction(value=value)


def _peak(case: _Case) -> Number:
    """Peak of the row's dtype; of bf16 where the chip has no other (tables divide by that)."""
    flops = case.system.chip.flops
    wide = next(flops[d] for d in ("bf16", "fp16", "fp32") if d in flops)
    return flops.get(case.dtype, wide).value


def _flops_per_token(case: _Case, recompute: Number) -> Number:
    """Model FLOPs per token as the row's source counts them; full recomputation adds one forward pass."""
    facts = _facts()["conventions"]
    rule = facts.get(case.row.group, facts["default"])
    model, seq = case.model, case.sequence
    causal = rule["attention"] == "causal"
    forward = model.forward_flops(seq, causal=causal) / seq
    if rule["parameters"] == "all":
        embedding = sum(b.parameters for b in model.graph.blocks if b.kind == "embedding")
        forward = forward + 2.0 * embedding
    return forward * (3.0 + np.where(np.asarray(recompute) == _RECOMPUTE["full"], 1.0, 0.0))


def _samples(model: str, batch: float) -> float | None:
    """Mean samples to the quality target of the MLPerf benchmark that trains this model."""
    for entry in _facts()["convergence"].values():
        if any(model.startswith(prefix) for prefix in entry["models"]):
            return float(np.interp(batch, entry["batches"], entry["samples"]))
    return None


@cache
def _facts() -> Mapping[str, Any]:
    return tomllib.loads(_FACTS.read_text(encoding="utf-8"))
