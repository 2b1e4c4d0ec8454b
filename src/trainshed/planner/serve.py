"""The best way to serve: every plan and every number of users priced in one call, ranked, with its Pareto front.

A table of plans (rows) and user counts is flattened into one array; the same closed form that answers ``serve`` prices
it. What does not fit or misses the SLO is left out; the front holds the options of which none is better in both tokens
per second and chip (what the operator pays for) and tokens per second and user (what a user feels).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from trainshed import serving
from trainshed.core import Array, Constant, Dtypes, Experts, Plan, ResultError, UserError
from trainshed.hardware.schema import System
from trainshed.models import Model
from trainshed.planner.axes import powers_of_two
from trainshed.serving import Deployment, Outcome, Workload
from trainshed.software.schema import Engine

Aim = Literal["usd", "joules", "time", "chips"]
RANKED = 10
_MOST_USERS = 13
"""The front is looked for among powers of two of users, up to 2^13."""


@dataclass(frozen=True, kw_only=True)
class Option:
    """One plan with one number of users."""

    plan: str
    chips: int
    users: int
    ttft_s: float
    tpot_s: float
    e2e_s: float
    tokens_per_s: float
    tokens_per_s_per_chip: float
    tokens_per_s_per_user: float
    usd_per_million_tokens: float | None
    energy_per_token_j: float | None
    meets_slo: bool


@dataclass(frozen=True, kw_only=True)
class Search:
    """What a search found."""

    ranked: tuple[Option, ...]
    """The best ten, best first."""
    pareto: tuple[Option, ...]
    """The front, from most tokens per chip to most tokens per user."""
    priced: int
    """Combinations of plan and users that were priced."""


def best_serve(
    model: Model,
    system: System,
    *,
    chips: int,
    work: Workload,
    engine: Engine,
    dtypes: Dtypes | None = None,
    slo: Mapping[str, float] | None = None,
    minimise: Aim = "usd",
    price: Constant | None = None,
) -> Search:
    """Ranks plans of up to ``chips`` chips of the system's first pool for a workload.

    The ranked options have the workload's number of users, the front of a closed workload has any. ``slo``: limits in
    seconds on the means of ``ttft``, ``tpot`` and ``e2e``.
    """
    plans = list(candidates(model, system, chips, fewer=minimise == "chips"))
    if not plans:
        raise UserError("no plan for so few chips", where="--chips", value=chips, expected="at least 1")
    users = _users(work)
    table = Plan.stack([p for p in plans for _ in users])
    asked = _workload(work, np.tile(np.asarray(users), len(plans)))
    worker = serving.worker(
        model, system, table, dtypes or serving.default_dtypes(model), engine, identical=work.identical
    )
    deployment = Deployment.of(worker)
    outcome = serving.run(deployment, asked)
    found = _Priced.of(deployment, outcome, asked, price=price, slo=slo or {})
    return found.search(minimise, asked=users[0])


def candidates(model: Model, system: System, chips: int, *, fewer: bool = False) -> Iterator[Plan]:
    """Plans that divide: TP and EP inside one scale-up domain, replicas of as many chips as there are (``fewer``: of
    any power of two of replicas as well)."""
    chip = system.pools[0].chip
    lnc = int(float(chip.lnc.value)) if chip.lnc is not None else 1
    per_chip = int(float(chip.cores.value)) // lnc
    ranks, domain = chips * per_chip, min(system.ultraserver_chips, chips) * per_chip
    heads = max((getattr(op, "heads", 1) for b in model.graph.blocks for op in b.ops), default=1)
    sparse = any(isinstance(op, Experts) for b in model.graph.blocks for op in b.ops)
    for tp in powers_of_two(domain):
        for pp in powers_of_two(min(ranks // tp, 8, model.layers)):
            copies = ranks // (tp * pp)
            for dpa in (d for d in powers_of_two(tp) if tp // d <= heads):
                for ep in powers_of_two(tp) if sparse else (1,):
                    plan = serving.experts_split(Plan(tp=tp, pp=pp, ep=ep, dpa=dpa, lnc=lnc), model)
                    for replicas in powers_of_two(copies) if fewer else (copies,):
                        yield plan.replace(replicas=replicas)


def _users(work: Workload) -> list[float]:
    """The workload's own number first; a closed loop is priced for others too."""
    if work.mode != "closed" or work.concurrency is None:
        return [0.0]
    own = float(np.max(work.concurrency))
    return [own, *(float(n) for n in powers_of_two(2**_MOST_USERS) if n != own)]


def _workload(work: Workload, users: Array) -> Workload:
    return replace(work, concurrency=users) if work.mode == "closed" else work


@dataclass(frozen=True, kw_only=True, eq=False)
class _Priced:
    """Columns of figures, one entry per combination."""

    plans: Plan
    chips: Array
    users: Array
    ttft: Array
    tpot: Array
    e2e: Array
    rate: Array
    usd: Array | None
    joules: Array | None
    fits: NDArray[np.bool_]
    meets: NDArray[np.bool_]

    @classmethod
    def of(
        cls, deployment: Deployment, outcome: Outcome, work: Workload, *, price: Constant | None,
        slo: Mapping[str, float],
    ) -> _Priced:  # fmt: skip
        size = deployment.decode.plan.shape[0]

        def column(value: object) -> Array:
            return np.broadcast_to(np.asarray(value, dtype=np.float64), (size,))

        times = {
            name: column(0.0 if cost is None else cost.value)
            for name, cost in (("ttft", outcome.ttft), ("tpot", outcome.tpot), ("e2e", outcome.e2e))
        }
        for key in slo:
            if key not in times:
                raise UserError("unknown figure of an SLO", where="--slo", value=key, expected=", ".join(times))
        meets = np.ones(size, dtype=bool)
        for key, limit in slo.items():
            meets &= times[key] <= limit
        rate, chips = column(outcome.tokens_per_s), column(deployment.chips)
        usd = None if price is None else chips * float(np.max(price.value)) / 3600.0 / rate * 1e6
        joules = serving.joules_per_token(deployment, outcome)
        return cls(
            plans=deployment.decode.plan, chips=chips, rate=rate, usd=usd, **times,
            users=column(0.0 if work.concurrency is None else work.concurrency),
            joules=None if joules is None else column(joules), fits=column(outcome.room) >= 1.0, meets=meets,
        )  # fmt: skip

    def search(self, minimise: Aim, *, asked: float) -> Search:
        """The ranked ten for the number of users that was asked for, and the front."""
        if not np.any(self.fits):
            raise ResultError("no plan on these chips leaves room for one sequence beside the weights")
        order = np.lexsort((self._aim(minimise), ~self.meets))
        ranked = [int(i) for i in order if self.fits[i] and self.users[i] == asked][:RANKED]
        return Search(
            ranked=tuple(self.option(i) for i in ranked), pareto=tuple(self.option(i) for i in self.front()),
            priced=len(self.rate),
        )  # fmt: skip

    def _aim(self, minimise: Aim) -> Array:
        per_chip = self.chips / self.rate
        if minimise == "joules" and self.joules is None:
            raise UserError("no power known of this chip", where="--minimise", value=minimise, expected="usd or time")
        by_aim: dict[str, Array] = {
            "usd": per_chip, "time": self.e2e, "chips": self.chips + per_chip / np.max(per_chip) * 1e-3,
            "joules": per_chip if self.joules is None else self.joules,
        }  # fmt: skip
        if minimise not in by_aim:
            raise UserError("unknown aim", where="--minimise", value=minimise, expected=", ".join(by_aim))
        return by_aim[minimise]

    def front(self) -> list[int]:
        """Indices of the Pareto front among what fits, by falling tokens per chip."""
        per_chip = np.where(self.fits, self.rate / self.chips, -1.0)
        per_user = 1.0 / np.maximum(self.tpot, 1e-12)
        front: list[int] = []
        best = -1.0
        for i in np.lexsort((-per_user, -per_chip)):
            if self.fits[i] and per_user[i] > best:
                front.append(int(i))
                best = float(per_user[i])
        return front

    def option(self, i: int) -> Option:
        """One combination in plain numbers."""
        return Option(
            plan=str(self.plans.at(i)), chips=round(float(self.chips[i])), users=round(float(self.users[i])),
            ttft_s=float(self.ttft[i]), tpot_s=float(self.tpot[i]), e2e_s=float(self.e2e[i]),
            tokens_per_s=float(self.rate[i]), tokens_per_s_per_chip=float(self.rate[i] / self.chips[i]),
            tokens_per_s_per_user=float(1.0 / max(self.tpot[i], 1e-12)),
            usd_per_million_tokens=None if self.usd is None else float(self.usd[i]),
            energy_per_token_j=None if self.joules is None else float(self.joules[i]), meets_slo=bool(self.meets[i]),
        )  # fmt: skip
