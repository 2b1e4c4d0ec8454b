"""One pass through a model: the prefill of prompts, or one decode step of running sequences."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from trainshed.core import Attention, Constant, Cost, Experts, Matmul, Number, Op, Scan, formula, longest, total
from trainshed.core.activity import NOTHING, Activity
from trainshed.fabric import Group, collective
from trainshed.models import Model
from trainshed.ops.base import OpCost, Rank
from trainshed.parallel import BlockWork, Collective, Phase, RankWork, per_rank
from trainshed.parallel.work import activity_of, add_up
from trainshed.serving.worker import Worker


@dataclass(frozen=True, kw_only=True, eq=False)
class Step:
    """One pass: its time from start to end, and what it made one rank do."""

    time: Cost
    activity: Activity
    work: RankWork
    """What the pass consists of (reports and memory read it)."""


def prefill(worker: Worker, *, sequences: Number, tokens: Number, before: Number | None = None) -> Step:
    """``sequences`` prompts of ``tokens`` tokens in one pass, up to their first output token.

    ``before``: tokens of each prompt that a cache holds already; the others attend to them.
    """
    if _encodes(worker.model):
        return _pass(worker, "prefill", sequences, {"encoder": tokens, "tokens": 1.0}, None)
    context = tokens if before is None else tokens + before
    return _pass(worker, "prefill", sequences, {"tokens": tokens}, context)


def encode(worker: Worker, *, sequences: Number, streams: Mapping[str, Number]) -> Step:
    """One pass without a cache: an encoder's batch, or one denoising step (tokens per sequence of every stream)."""
    return _pass(worker, "encode", sequences, streams, None)


def decode(worker: Worker, *, sequences: Number, context: Number, beside: Mapping[str, Number] | None = None) -> Step:
    """One token more for ``sequences`` sequences of one replica that attend ``context`` tokens each.

    Under pipeline parallelism the batch is cut into as many parts as there are stages; a step is one part's way
    through all of them, because the others follow in its wake. ``beside``: tokens of streams that the model attends to
    and has read before (the text of a music model); what an encoder read is taken to be as long as the context.
    """
    if beside is None and _encodes(worker.model):
        beside = {"encoder": context}
    return _pass(worker, "decode", sequences / worker.degree("pp"), {"tokens": 1.0, **(beside or {})}, context)


def _encodes(model: Model) -> bool:
    """Whether prompts pass an encoder of their own (T5)."""
    return any(op.stream == "encoder" for block in model.graph.blocks for op in block.ops)


def _pass(
    worker: Worker, phase: Phase, sequences: Number, streams: Mapping[str, Number], context: Number | None
) -> Step:
    engine = worker.engine
    rank = Rank(
        chip=worker.chip, cores=worker.cores, tensor_gap=engine.fit("tensor_gap"), by_hand=engine.by_hand,
        product_share=worker.chip.fitted.get("few_rows_share") if phase == "decode" else None,
    )  # fmt: skip
    work = per_rank(
        worker.model, worker.plan, phase=phase, dtypes=worker.dtypes, rank=rank,
        streams=streams, sequences=sequences, context=context, fused=engine.fused,
        capacity_factor=_slots_per_copy(worker) if engine.routes_all and phase == "prefill" else 1.0,
        distinct=streams["tokens"] if worker.identical else None,
        reads_per_expert=float(engine.reads_per_expert) if phase == "decode" else 1.0,
    )  # fmt: skip
    blocks = [b for b in work.blocks if not b.block.train_only]
    kernels = total("kernels", [_block(b, phase, worker) for b in blocks], unit="s")
    launches = add_up(cost.launches * b.block.count for b in blocks for cost in b.forward)
    launch = engine.fit("launch" if phase == "decode" else "eager_launch")
    host_launches = formula("launches by the host", "s", "kernels * launch", kernels=launches, launch=launch)
    parts = [longest("kernels or their launches", [kernels, host_launches])]
    sent, links = _communication(blocks, worker)
    parts += sent
    # each attention-data-parallel rank has a host process of its own
    running = sequences * (worker.degree("pp") if phase == "decode" else 1.0) / worker.degree("dpa")
    parts.append(
        formula("host", "s", "step + sequences * each", step=engine.fit("step_host"), sequences=running,
                each=engine.fit("sequence_host"))
    )  # fmt: skip
    activity = NOTHING
    for b in blocks:
        activity = activity + activity_of(b.forward).scaled(b.block.count)
    activity = activity + Activity(links=links)
    if phase != "decode":
        activity = activity.scaled(1.0 / worker.degree("pp"))
    name = {"prefill": "prefill pass", "decode": "decode step"}.get(phase, "pass")
    return Step(time=total(name, parts), activity=activity, work=work)


def _slots_per_copy(worker: Worker) -> float:
    """Expert slots per routed copy where every token passes every expert."""
    routed = [op for b in worker.model.graph.blocks for op in b.ops if isinstance(op, Experts)]
    return max((op.experts / op.top_k for op in routed), default=1.0)


def _share(op: Op, phase: Phase, worker: Worker) -> tuple[str, Constant | None]:
    """What an op counts as, and the engine's share of a good kernel's rate there."""
    fit = worker.engine.fit
    if isinstance(op, Experts):
        return "experts", fit("expert_share")
    if isinstance(op, Attention | Scan) and phase == "decode":
        return "attention", fit("attention_share")
    if isinstance(op, Matmul | Attention | Scan):
        return "products", fit("decode_share" if phase == "decode" else "gemm_share")
    return "other passes", None


def _block(work: BlockWork, phase: Phase, worker: Worker) -> Cost:
    parts: dict[str, tuple[Constant | None, list[OpCost]]] = {}
    for w in work.ops:
        name, share = _share(w.op, phase, worker)
        parts.setdefault(name, (share, []))[1].append(w.forward)
    costs = []
    for name, (share, ops) in parts.items():
        kernel = total(name, [o.time for o in ops], unit="s")
        if share is not None:
            kernel = formula(name, "s", "kernel / share", kernel=kernel, share=share)
        costs.append(kernel)
    each = total(work.block.name, costs, unit="s")
    if work.block.count == 1:
        return each
    return formula(f"{work.block.count} x {work.block.name}", "s", "blocks * each", blocks=work.block.count, each=each)


def _communication(blocks: list[BlockWork], worker: Worker) -> tuple[list[Cost], dict[str, Number]]:
    costs: list[Cost] = []
    links: dict[str, Number] = {}
    known: dict[tuple[object, ...], tuple[Cost, dict[str, Number]]] = {}
    for b in blocks:
        for c in b.collectives:
            if not np.any(np.asarray(c.ranks) > 1.0):
                continue
            key = (c.kind, c.dtype, _key(c.size), _key(c.ranks), _key(c.stride))
            if key not in known:
                known[key] = _collective(c, worker)
            cost, on_links = known[key]
            costs.append(formula(f"{c.what}, {b.block.name}", "s", "times * each", times=b.block.count, each=cost))
            for level, size in on_links.items():
                links[level] = links.get(level, 0.0) + size * b.block.count
    return ([total("collectives", costs)] if costs else []), links


def _key(value: Number) -> object:
    """What makes two numbers or arrays the same."""
    array = np.asarray(value, dtype=np.float64)
    return float(array) if array.ndim == 0 else (array.shape, array.tobytes())


def _collective(c: Collective, worker: Worker) -> tuple[Cost, dict[str, Number]]:
    found = collective(
        c.kind, size=c.size, group=Group(ranks=c.ranks, stride=c.stride), levels=worker.levels,
        ranks_per_chip=worker.ranks_per_chip, dtype=c.dtype, copies=c.copies,
    )  # fmt: skip
    several = np.where(np.asarray(c.ranks) > 1.0, 1.0, 0.0)
    cost = formula(
        c.what, "s", "several * (wire + call)", several=several, wire=found.time, call=worker.engine.fit("collective")
    )
    return cost, dict(found.bytes_on_links)
