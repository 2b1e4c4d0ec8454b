"""Runs of the workload model that claims are tried with: the best plan of a system for a job, each found once."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np

from trainshed import models, serving, training
from trainshed.core import BYTES, Dtypes, Evidence, UserError
from trainshed.hardware import Chip, System
from trainshed.ops.base import Rank, device
from trainshed.planner.serve import Option, Search, best_serve
from trainshed.planner.train import best_train
from trainshed.serving import Workload
from trainshed.serving.media import MediaWork, media
from trainshed.training.money import energy_per_token
from trainshed.validate.evidence import evidence_for
from trainshed.validate.labels import DTYPE_CLASS
from trainshed.validate.setup import Setup

T = TypeVar("T")

#: Tokens of a request where a claim does not say: a chat turn over some context.
ISL, OSL = 1024.0, 1024.0
#: Chips that are compared per chip; TP inside them stays in the scale-up domain of every system.
CHIPS = 16
SEQUENCE = 8192.0
#: Engines tried per vendor, "" being the usual one (of AWS: compiled by XLA, or hand-written kernels).
ENGINES: Mapping[str, Mapping[str, str]] = {"AWS": {"compiled": "", "NKI megakernels": "nki-megakernel"}}


@dataclass(frozen=True, kw_only=True)
class Trained:
    """The fastest training step found."""

    chips: int
    tokens_per_s: float
    mfu: float
    joules_per_token: float | None
    """Chips, hosts and switches."""
    plan: str

    @property
    def per_chip(self) -> float:
        """Tokens per second and chip."""
        return self.tokens_per_s / self.chips


@dataclass(frozen=True, kw_only=True)
class Way:
    """One way to serve: the vendor's usual engine or a named one, products as the checkpoint has them or in 8 bits."""

    label: str
    engine: str
    narrow: bool


class Lab:
    """Answers of the workload model on one setup."""

    def __init__(self, setup: Setup) -> None:
        self.setup = setup
        self._known: dict[Hashable, Any] = {}

    def system(self, name: str) -> System:
        """A system of the catalogue."""
        return self.setup.catalogue.system(name)

    def price(self, name: str) -> float | None:
        """USD per chip-hour, None where nobody prints one."""
        price = self.setup.catalogue.price(name)
        return None if price is None else float(price.value)

    def train(self, model: str, system: str, chips: int, dtype: str, framework: str = "") -> Trained:
        """The fastest plan that fits; the dtype is that of the matrix products."""
        key = ("train", model, system, chips, dtype, framework)
        if key not in self._known:
            self._known[key] = self._train(model, self.system(system), chips, dtype, framework)
        found: Trained = self._known[key]
        return found

    def _train(self, name: str, system: System, chips: int, dtype: str, framework: str) -> Trained:
        model, software = models.load(name), self.setup.software
        runs = software.framework(framework) if framework else software.default_framework(system.chip.vendor)
        job = training.TrainingJob(sequence=SEQUENCE, dtype=dtype)
        ranked = best_train(model, system, chips, job, runs, width="narrow")
        if not ranked.fits.any():
            raise UserError("no plan fits", where=f"{chips} chips of {system.name}", value=name, expected="more chips")
        step = training.step(model, system, ranked.plan(ranked.best(1)[0]), job, runs)
        joules = energy_per_token(step, system)
        return Trained(
            chips=chips, tokens_per_s=float(step.tokens_per_s), mfu=float(step.mfu), plan=str(step.plan),
            joules_per_token=None if joules is None else float(joules.value),
        )  # fmt: skip

    def ways(self, system: str) -> tuple[Way, ...]:
        """How a model may be served there: engines of the chip's vendor, products as published or in 8 bits."""
        engines = ENGINES.get(self.system(system).chip.vendor, {"": ""})
        return tuple(
            Way(label=f"{label}{', ' if label else ''}{products}", engine=engine, narrow=narrow)
            for label, engine in engines.items()
            for products, narrow in (("dtypes as published", False), ("8-bit products", True))
        )

    def serve(self, model: str, system: str, way: Way, chips: int = CHIPS) -> Search:
        """All plans with all numbers of users (their front), and the plans that answer one user soonest."""
        key = ("serve", model, system, way, chips)
        if key not in self._known:
            place, what, software = self.system(system), models.load(model), self.setup.software
            stored = serving.default_dtypes(what)
            dtypes = _narrowed(stored, place.chip) if way.narrow else stored
            self._known[key] = best_serve(
                what, place, chips=chips, minimise="time", dtypes=dtypes,
                work=Workload(mode="closed", isl=ISL, osl=OSL, concurrency=1.0),
                engine=software.engine(way.engine) if way.engine else software.default_engine(place.chip.vendor),
            )  # fmt: skip
        found: Search = self._known[key]
        return found

    def fastest(self, model: str, system: str, way: Way, chips: int = CHIPS) -> Option:
        """What answers a single user soonest."""
        return self.serve(model, system, way, chips).ranked[0]

    def most(self, model: str, system: str, tpot_s: float, way: Way, chips: int = CHIPS) -> Option | None:
        """Most tokens per chip at no more than ``tpot_s`` per token and user; None where nothing is that fast."""
        kept = [o for o in self.serve(model, system, way, chips).pareto if o.tpot_s <= tpot_s]
        return max(kept, key=lambda o: o.tokens_per_s_per_chip, default=None)

    def best(
        self, model: str, system: str, tpot_s: float, chips: int = CHIPS, *, narrow: bool = False
    ) -> Option | None:
        """The same by whichever way is best (``narrow``: of those with 8-bit products)."""
        ways = [way for way in self.ways(system) if way.narrow or not narrow]
        found = [self.most(model, system, tpot_s, way, chips) for way in ways]
        return max((o for o in found if o), key=lambda o: o.tokens_per_s_per_chip, default=None)

    def prefill_s(self, model: str, system: str, dtype: str, chips: int = CHIPS) -> float:
        """Seconds of the fastest prefill of one long prompt with products in ``dtype``."""
        place = self.system(system)
        found = best_serve(
            models.load(model), place, chips=chips, minimise="time",
            work=Workload(mode="prefill", isl=SEQUENCE, batch=1.0), dtypes=Dtypes(weights=dtype, matmul=dtype),
            engine=self.setup.software.default_engine(place.chip.vendor),
        )  # fmt: skip
        return min(o.ttft_s for o in found.ranked)

    def generate(self, model: str, system: str, rate: str, chips: int = 8) -> float:
        """Most of ``rate`` (frames or seconds of sound per second) per chip, over TP and batch sizes that fit."""
        found = [
            made[rate] / made["chips"]
            for tp in (1, 2, 4, 8)
            for batch in (1, 4, 16, 64)
            if (made := self._media(model, system, f"tp{tp}", batch, chips)) is not None
        ]
        if not found:
            raise UserError("no plan fits", where=system, value=model, expected="more memory")
        return float(max(found))

    def _media(self, model: str, system: str, plan: str, batch: int, chips: int) -> dict[str, Any] | None:
        try:
            out = media(
                models.load(model), self.system(system), MediaWork(batch=batch), chips=chips, plan=plan,
                software=self.setup.software,
            ).result  # fmt: skip
        except UserError:
            return None
        assert isinstance(out, dict)
        return out

    def mixed(self, model: str, system: str, chips: int) -> dict[str, Any]:
        """Serving with prefill and decode in pools of different chips (or one pool)."""
        place, software = self.system(system), self.setup.software
        engines = [software.default_engine(p.chip.vendor) for p in place.pools]
        work = Workload(mode="closed", isl=4 * ISL, osl=OSL, concurrency=4.0 * chips)
        out = serving.answer(
            models.load(model), place, work, engine=engines[-1], prefill_engine=engines[0], chips=chips
        ).result
        assert isinstance(out, dict)
        return out

    def utilisation(self, system: str, dtype: str, size: float = 8192.0) -> float:
        """Share of peak of one large matrix product on one logical core."""
        chip = self.system(system).chip
        rank = Rank(chip=chip, cores=1 if chip.lnc is None else int(float(chip.lnc.value)))
        cost = device(rank).matmul(what="product", m=size, k=size, n=size, dtype=dtype, weights=dtype)
        ideal = 2.0 * size**3 / (float(chip.flops[dtype].value) * rank.share)
        return ideal / float(np.max(cost.time.value))

    def evidence(self, system: str, job: str, phase: str, *, model: str, dtype: str, metric: str) -> Evidence:
        """How far off such answers were on measurements."""
        what = models.load(model)
        return evidence_for(
            chip=self.system(system).chip.name, job=job, phase=phase, metric=metric, value=None,
            moe=what.active_parameters < what.parameters, dtype_class=DTYPE_CLASS[dtype],
            catalogue=self.setup.catalogue,
        )  # fmt: skip


def _narrowed(stored: Dtypes, chip: Chip) -> Dtypes:
    """Weights, cache and products in 8 bits; what the checkpoint keeps narrower stays so."""
    width = eight_bit(chip)
    experts = stored.of("experts")
    return replace(
        stored, weights=width, kv="fp8", matmul=width, experts=experts if BYTES[experts] < 1 else width,
    )  # fmt: skip


def eight_bit(chip: Chip) -> str:
    """The 8-bit dtype that a chip multiplies in."""
    return "mxfp8" if "mxfp8" in chip.flops else "fp8"
