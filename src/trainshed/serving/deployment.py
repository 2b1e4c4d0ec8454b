"""Which workers serve: one kind that does both phases, or pools that prefill and decode apart."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from trainshed.core import Cost, Experts, Number, Plan, PlanError, UserError, formula, unknown_name
from trainshed.hardware.schema import Level, System
from trainshed.models import Model
from trainshed.models.figures import layer_kv_bytes
from trainshed.serving.worker import Worker


@dataclass(frozen=True, kw_only=True, eq=False)
class Deployment:
    """A worker that decodes and one that prefills; the same object where one replica does both."""

    decode: Worker
    prefill: Worker

    @classmethod
    def of(cls, worker: Worker) -> Deployment:
        """Replicas that do both phases."""
        return cls(decode=worker, prefill=worker)

    @property
    def system(self) -> System:
        """The system that both run on."""
        return self.decode.system

    @property
    def shared(self) -> bool:
        """True where both phases run on the same replicas."""
        return self.prefill is self.decode

    @property
    def workers(self) -> tuple[Worker, ...]:
        """The distinct workers."""
        return (self.decode,) if self.shared else (self.prefill, self.decode)

    @property
    def chips(self) -> Number:
        """Chips of all workers."""
        return sum((w.chips for w in self.workers), np.zeros(()))

    @property
    def plan(self) -> str:
        """The plan in the grammar."""
        if self.shared:
            return str(self.decode.plan)
        return f"prefill: {self.prefill.plan}; decode: {self.decode.plan}"


def parse_plan(text: str, *, where: str = "--plan") -> dict[str, Plan]:
    """``tp8 x2`` as ``{"": Plan}``; ``prefill: tp8 x2; decode: tp16 dpa16`` as one plan per phase."""
    if ":" not in text:
        return {"": Plan.parse(text, where=where)}
    plans: dict[str, Plan] = {}
    for part in filter(None, (p.strip() for p in text.split(";"))):
        phase, colon, rest = part.partition(":")
        phase = phase.strip()
        if phase not in ("prefill", "decode"):
            raise unknown_name("phase of a plan", phase, ("prefill", "decode"), where=where)
        if not colon or phase in plans:
            raise PlanError("phase given twice or without a plan", where=where, value=text, expected="one plan each")
        plans[phase] = Plan.parse(rest, where=where)
    if set(plans) != {"prefill", "decode"}:
        raise PlanError("a pool has no plan", where=where, value=text, expected="prefill: …; decode: …")
    return plans


def experts_split(plan: Plan, model: Model) -> Plan:
    """The plan with experts' width split over the ranks that expert parallelism leaves (serving keeps no copies)."""
    if not any(isinstance(op, Experts) for b in model.graph.blocks for op in b.ops):
        return plan
    tp, ep = np.asarray(plan.tp) * np.asarray(plan.cp) * np.asarray(plan.dp), np.asarray(plan.ep)
    etp = np.maximum(tp // ep, 1)
    return plan.replace(etp=int(etp) if not etp.shape else etp)


def transfer(deployment: Deployment, tokens: Number) -> Cost:
    """Moving the KV cache of one prompt from the chips that prefilled it to those that decode it."""
    source, target = deployment.prefill, deployment.decode
    size: Number = 0.0
    for block in source.model.graph.blocks:
        if block.kind == "layer":
            size = size + block.count * layer_kv_bytes(block, tokens, target.dtypes.of("kv"))
    level = _joining(source.levels, float(np.max(deployment.chips)))
    senders = np.minimum(source.ranks * source.share, target.ranks * target.share)
    return formula(
        "KV cache to the decode pool", "s", "size / (senders * bandwidth * efficiency) + latency + hop + host",
        host=target.engine.fit("handover"), size=size,
        senders=senders, bandwidth=level.bandwidth, efficiency=level.fitted["efficiency"],
        latency=level.latency, hop=level.fitted["hop"],
    )  # fmt: skip


def _joining(levels: tuple[Level, ...], chips: float) -> Level:
    """The innermost level that takes in all chips of the deployment."""
    return next((level for level in levels if level.chips >= chips), levels[-1])


def check(worker: Worker) -> list[str]:
    """Why a scalar plan cannot run: what does not divide. Empty where it can."""
    plan, reasons = worker.plan, []
    if plan.tp % plan.dpa:
        reasons.append(f"dpa{plan.dpa} does not divide tp{plan.tp}")
    inside = plan.tp * plan.cp * plan.dp
    if inside % plan.ep:
        reasons.append(f"ep{plan.ep} does not divide the {inside} ranks of a replica")
    if plan.pp > worker.model.layers:
        reasons.append(f"pp{plan.pp} is more than the {worker.model.layers} layers")
    return reasons


def checked(worker: Worker, *, where: str = "--plan") -> Worker:
    """The worker, or a sentence about what in its plan does not divide."""
    if reasons := check(worker):
        raise PlanError("a plan that does not divide", where=where, value=str(worker.plan), expected=reasons[0])
    if worker.model.vocab <= 0:
        raise UserError("not a language model", where="model", value=worker.model.name, expected="a decoder")
    return worker
