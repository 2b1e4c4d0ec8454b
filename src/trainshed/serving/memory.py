"""What a replica holds in HBM: weights, and how many sequences' caches fit beside them."""

from __future__ import annotations

import numpy as np

from trainshed.core import BYTES, Attention, Block, Cost, Number, Scan, formula
from trainshed.models.figures import layer_kv_bytes, weight_dtype
from trainshed.parallel import RankWork
from trainshed.parallel.layout import Layout
from trainshed.serving.worker import Worker


def weights(worker: Worker, work: RankWork) -> Number:
    """Bytes of weights per rank (of the average pipeline stage)."""
    size: Number = 0.0
    for b in work.blocks:
        if b.block.train_only:
            continue
        for w in b.ops:
            size = size + b.block.count * w.parameters * BYTES[weight_dtype(w.op, worker.dtypes)]
    return size / worker.degree("pp")


def _kv_share(block: Block, layout: Layout) -> Number:
    """Part of a layer's cache that one rank keeps: KV heads are whole, and copied once ranks outnumber them."""
    for op in block.ops:
        if isinstance(op, Attention) and op.cached:
            return np.ones(()) if op.latent else layout.heads(op)[1] / op.kv_heads
        if isinstance(op, Scan):
            return layout.scan_heads(op)[0] / op.heads
    return np.zeros(())


def cache(worker: Worker, context: Number) -> Number:
    """Cache bytes per rank and running sequence of ``context`` tokens (attention data parallelism splits the batch)."""
    layout = Layout(plan=worker.plan, phase="decode", streams={"tokens": 1.0}, sequences=1.0)
    size: Number = 0.0
    for block in worker.model.graph.blocks:
        if block.kind == "layer":
            each = layer_kv_bytes(block, context, worker.dtypes.of("kv"))
            size = size + block.count * each * _kv_share(block, layout)
    return size / worker.degree("pp") / worker.degree("dpa")


def capacity(worker: Worker, held: Number = 0.0) -> Cost:
    """Bytes of HBM per rank that the engine may fill; ``held``: those of the weights."""
    kept = held if worker.engine.fraction_of == "free" else 0.0 * held
    return formula(
        "usable HBM per rank", "B", "kept + max(part * hbm - kept, 0) * fraction", kept=kept, part=worker.share,
        hbm=worker.chip.hbm_capacity, fraction=worker.engine.fit("memory_fraction"),
    )  # fmt: skip


def room(worker: Worker, work: RankWork, *, isl: Number, osl: Number) -> Number:
    """Sequences of one replica whose caches fit beside the weights; below 1 where not even one does."""
    kept = isl + osl if worker.engine.reserves == "whole" else isl + osl / 2.0
    held = weights(worker, work)
    free = capacity(worker, held).value - held
    return np.floor(free / np.maximum(cache(worker, kept), 1.0))
