"""Search over training plans: every plan that divides is priced, all at once, by the function that prices one.

Axes: tp (powers of two inside one scale-up domain) with and without sequence parallelism, pp (divisors of the ranks up
to the layers), vpp, cp, ep and etp (routed experts), ZeRO stage, micro-batch, recomputation, on Neuron also LNC; dp is
what is left of the ranks. Plans that do not divide, and those whose weights and optimizer states alone exceed the
memory, are dropped before pricing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from trainshed.core import BYTES, Constant, Experts, Plan, UserError
from trainshed.hardware.schema import System
from trainshed.models import Model
from trainshed.parallel import divides
from trainshed.planner.axes import IntArray, divisors, keep, pareto, powers_of_two, rows, table
from trainshed.software.schema import Framework
from trainshed.training import LEAST_BATCH, TrainingJob, step
from trainshed.training.answer import without_lnc
from trainshed.training.money import energy_per_token

Minimise = Literal["time", "usd", "joules", "chips"]
Width = Literal["wide", "narrow"]

#: Plans priced in one call: bounds the memory of the cost trees.
CHUNK = 8192


@dataclass(frozen=True, kw_only=True, eq=False)
class Ranked:
    """Plans that were priced, one array element per plan."""

    system: System
    job: TrainingJob
    tables: tuple[Plan, ...]
    """Tables of plans, one per LNC and number of chips."""
    chips: NDArray[np.float64]
    step_time_s: NDArray[np.float64]
    tokens: NDArray[np.float64]
    """Tokens per step (the default batch depends on the plan)."""
    memory_bytes: NDArray[np.float64]
    """Per rank."""
    fits: NDArray[np.bool_]
    objective: NDArray[np.float64]
    """What is minimised, per token."""
    considered: int
    """Combinations of the axes before any filter."""

    @property
    def priced(self) -> int:
        """Plans priced."""
        return int(self.step_time_s.size)

    def plan(self, index: int) -> Plan:
        """One plan by its index."""
        for t in self.tables:
            if index < t.shape[0]:
                return without_lnc(t.at(index), self.system)
            index -= t.shape[0]
        raise IndexError(index)

    def best(self, count: int = 10) -> list[int]:
        """Indices of the best plans that fit; where none fits, of those nearest to fitting."""
        if not self.fits.any():
            return [int(i) for i in np.argsort(self.memory_bytes, kind="stable")[:count]]
        order = np.argsort(np.where(self.fits, self.objective, np.inf), kind="stable")[:count]
        return [int(i) for i in order if self.fits[i]]

    def front(self) -> list[int]:
        """Pareto front of the plans that fit: the objective against memory per rank."""
        index = np.flatnonzero(self.fits)
        return [int(index[i]) for i in pareto(self.objective[index], self.memory_bytes[index])]


def best_train(
    model: Model,
    system: System,
    chips: int,
    job: TrainingJob,
    framework: Framework,
    *,
    minimise: Minimise = "time",
    price: Constant | None = None,
    width: Width = "wide",
) -> Ranked:
    """Price every plan of ``chips`` chips; all but ``time`` may leave chips unused.

    ``narrow`` keeps a few thousand plans: what an answer without a given plan searches.
    """
    if minimise == "usd" and price is None:
        raise UserError("no price is known", where=f"system {system.name}", value=minimise, expected="--price")
    counts = [chips] if minimise == "time" else [chips >> i for i in range(chips.bit_length()) if chips % (1 << i) == 0]
    tables: list[Plan] = []
    columns: list[dict[str, NDArray[np.float64]]] = []
    considered = 0
    for lnc in _lncs(system, width):
        for count in counts:
            plans, tried = candidates(model, system, count, job, framework, lnc=lnc, width=width)
            considered += tried
            for start in range(0, plans.shape[0], CHUNK):
                part = rows(plans, slice(start, start + CHUNK))
                tables.append(part)
                columns.append(_price(model, system, part, job, framework, minimise, price))
    if width == "narrow" and not any(np.any(c["fits"]) for c in columns):  # the rest of the axes may have one
        return best_train(model, system, chips, job, framework, minimise=minimise, price=price, width="wide")
    if not tables:
        raise UserError(
            "no plan divides the model, the batch and the chips", where="plan train", value=f"{chips} chips",
            expected="another number of chips or another global batch",
        )  # fmt: skip
    joined = {name: np.concatenate([c[name] for c in columns]) for name in columns[0]}
    return Ranked(
        system=system, job=job, tables=tuple(tables), considered=considered, chips=joined["chips"],
        step_time_s=joined["time"], tokens=joined["tokens"], memory_bytes=joined["memory"],
        fits=joined["fits"] > 0, objective=joined["objective"],
    )  # fmt: skip


def _lncs(system: System, width: Width) -> list[int]:
    chip = system.chip
    if chip.lnc is None:
        return [1]
    default = int(float(chip.lnc.value))
    return sorted({1, default}) if width == "wide" else [default]


def candidates(
    model: Model, system: System, chips: int, job: TrainingJob, framework: Framework, *, lnc: int, width: Width
) -> tuple[Plan, int]:
    """Plans of exactly ``chips`` chips that divide and may fit, and how many combinations were looked at."""
    ranks = chips * int(float(system.chip.cores.value)) // lnc
    axes = _axes(model, system, ranks, lnc, width)
    columns = table(axes)
    considered = columns["tp"].size
    fixed = columns["tp"] * columns["pp"] * columns["cp"]
    columns = keep(columns, (ranks % fixed == 0) & ((columns["tp"] > 1) | (columns["sp"] == axes["sp"][0])))
    columns["sp"] = np.where(columns["tp"] > 1, columns["sp"], 0)
    columns["dp"] = ranks // (columns["tp"] * columns["pp"] * columns["cp"])
    may_fit = _may_fit(model, system, columns, job, framework, lnc)
    if may_fit.any():  # else the answer is which plan comes nearest
        columns = keep(columns, may_fit)
    plans = Plan(**columns, lnc=lnc)
    if not columns["tp"].size:
        return plans, considered
    batch = job.batch(plans)
    routed = any(isinstance(o, Experts) for b in model.graph.blocks for o in b.ops)
    narrow = width == "narrow"
    mask = divides(model, plans, system.chip, global_batch=batch, sequence=job.sequence) & _sensible(
        plans, routed, narrow
    )
    if job.global_batch is None:  # a default batch is not stretched far to suit a plan
        mask &= batch <= 1.25 * np.maximum(float(LEAST_BATCH), np.asarray(plans.dp, dtype=np.float64))
    return rows(plans, np.flatnonzero(mask)), considered


def _axes(model: Model, system: System, ranks: int, lnc: int, width: Width) -> dict[str, Sequence[int]]:
    per_chip = int(float(system.chip.cores.value)) // lnc
    narrow = width == "narrow"
    inside = min(system.ultraserver_chips * per_chip, 128, ranks)
    experts = {o.experts for b in model.graph.blocks for o in b.ops if isinstance(o, Experts)}
    pp = divisors(ranks, most=model.layers)
    return {
        "tp": powers_of_two(inside),
        "pp": [p for p in pp if not narrow or p & (p - 1) == 0 or model.layers % p == 0],
        "sp": [1] if narrow else [0, 1],
        "vpp": [1, 2, 4] if narrow else [1, 2, 3, 4, 6, 8],
        "cp": [1, 2, 4] if narrow else [1, 2, 4, 8, 16],
        "ep": [e for e in divisors(min(experts), most=ranks) if e & (e - 1) == 0] if experts else [1],
        "etp": powers_of_two(8) if experts and not narrow else [1],
        "zero": [0, 1, 3] if narrow else [0, 1, 2, 3],
        "mb": [1, 2] if narrow else [1, 2, 4, 8],
        "recompute": [0, 1, 2],
    }


def _may_fit(
    model: Model, system: System, columns: dict[str, IntArray], job: TrainingJob, framework: Framework, lnc: int
) -> NDArray[np.bool_]:
    """Weights, gradients and optimizer states of an even share of the parameters, against the rank's memory."""
    dtypes = job.number_formats(framework)
    trained = 1.0 if job.trains_all else 0.0
    state = trained * (2.0 * BYTES[framework.optimizer])
    zero, dp = columns["zero"], columns["dp"] * columns["cp"]
    size = (
        dtypes.size("weights") / np.where(zero >= 3, dp, 1)
        + trained * dtypes.size("gradients") / np.where(zero >= 2, dp, 1)
        + state / np.where(zero >= 1, dp, 1)
    )
    spread = columns["tp"] * columns["pp"] * np.where(columns["ep"] > 1, columns["ep"], 1)
    capacity = float(system.chip.hbm_capacity.value) * lnc / float(system.chip.cores.value)
    return np.asarray(model.parameters / spread * size <= capacity)


def _sensible(plans: Plan, routed: bool, narrow: bool) -> NDArray[np.bool_]:
    """Leaves out plans that another of the table equals or beats for any constants.

    ``narrow`` also leaves out whole optimizer states on every rank: sharding them costs next to nothing.
    """
    names = ("zero", "pp", "dp", "cp", "mb", "tp", "ep", "etp")
    zero, pp, dp, cp, mb, tp, ep, etp = (np.asarray(getattr(plans, n)) for n in names)
    alone = dp * cp == 1
    whole = routed & (ep * etp < tp)
    return np.asarray(
        np.where(alone, zero == 0, (zero > 0) | (not narrow))  # nothing to shard over one rank
        & ((zero < 2) | (pp == 1))  # ZeRO 2 and 3 would exchange for every micro-batch of a pipeline
        & ~whole  # every rank of a TP group would hold the same experts
        & ((cp == 1) | (mb == 1))  # half the cp with half the sequences has the same work and less to exchange
    )


def _price(
    model: Model, system: System, plans: Plan, job: TrainingJob, framework: Framework, minimise: Minimise,
    price: Constant | None,
) -> dict[str, NDArray[np.float64]]:  # fmt: skip
    result = step(model, system, plans, replace(job, global_batch=job.batch(plans)), framework)
    shape = plans.shape
    tokens = np.broadcast_to(result.tokens, shape)
    seconds = np.broadcast_to(np.asarray(result.time.value, dtype=np.float64), shape)
    objective = seconds / tokens
    if minimise == "joules":
        joules = energy_per_token(result, system)
        if joules is None:
            raise UserError("no power is known", where=f"chip {system.chip.name}", value=minimise, expected="time")
        objective = np.broadcast_to(joules.value, shape)
    elif minimise in ("usd", "chips"):
        objective = objective * result.chips
        if minimise == "usd" and price is not None:
            objective = objective * float(np.max(price.value)) / 3600.0
    return {
        "chips": np.broadcast_to(result.chips, shape), "time": seconds, "tokens": tokens,
        "memory": np.broadcast_to(result.memory.total, shape), "fits": np.broadcast_to(result.fits, shape) * 1.0,
        "objective": objective,
    }  # fmt: skip
