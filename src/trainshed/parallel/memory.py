"""Bytes of one rank by class: weights, gradients, optimizer, activations, workspace.

State bytes follow arXiv:1910.02054 (ZeRO), activations arXiv:2205.05198. The rank is the first pipeline stage, which
holds the most micro-batches in flight, or the last where head and logits make that one larger.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np

from trainshed.core import BYTES, Dtypes, Number, Recompute
from trainshed.parallel.placement import spans
from trainshed.parallel.stages import in_flight, split_layers
from trainshed.parallel.work import BlockWork, RankWork, add_up


@dataclass(frozen=True, kw_only=True, eq=False)
class Memory:
    """Bytes per rank."""

    weights: Number
    gradients: Number
    optimizer: Number
    activations: Number
    workspace: Number

    @property
    def total(self) -> Number:
        """All classes together."""
        return self.weights + self.gradients + self.optimizer + self.activations + self.workspace

    def by_class(self) -> dict[str, Number]:
        """The classes by name."""
        return {f.name: getattr(self, f.name) for f in fields(self)}


@dataclass(frozen=True, kw_only=True, eq=False)
class Held:
    """Parameters of one rank: shared by all data-parallel ranks (dense), and routed experts."""

    dense: Number
    experts: Number


def held(work: RankWork) -> Held:
    """Parameters of the stage that holds the most."""
    stages = split_layers(work.plan, work.layers)
    layers = max(work.layers, 1)

    def count(blocks: tuple[BlockWork, ...], kind: str) -> Number:
        total: Number = 0.0
        for b in blocks:
            total = total + b.block.count * (b.dense_parameters if kind == "dense" else b.expert_parameters)
        return total

    def largest(kind: str) -> Number:
        body = count(work.kind("layer"), kind) / layers
        first = count(work.kind("embedding") + work.kind("extra"), kind)
        last = count(work.kind("head") + work.train_only, kind)
        alone = stages.pp == 1
        early: Number = np.maximum(body * stages.first + first + np.where(alone, last, 0.0), body * stages.middle)
        most: Number = np.maximum(early, body * stages.last + last + np.where(alone, first, 0.0))
        return most

    return Held(dense=largest("dense"), experts=largest("experts"))


def activation_bytes(work: RankWork, micro_batches: Number) -> Number:
    """Activations at the peak of the step, by the plan's recomputation."""
    plan = work.plan
    recompute = np.asarray(plan.recompute)
    stages = split_layers(plan, work.layers)
    layers = max(work.layers, 1)

    def mean(kept: dict[str, Number]) -> Number:
        total: Number = 0.0
        for b in work.kind("layer"):
            total = total + b.block.count * kept[b.block.name]
        return total / layers

    everything = {b.block.name: add_up(w.saved for w in b.ops) for b in work.blocks}
    selective = {b.block.name: add_up(w.saved_selective for w in b.ops) for b in work.blocks}
    inputs = {b.block.name: b.inputs for b in work.blocks}
    one = mean(everything)
    layer = np.where(
        recompute == Recompute.FULL, mean(inputs), np.where(recompute == Recompute.SELECTIVE, mean(selective), one)
    )
    ends_first = add_up(everything[b.block.name] * b.block.count for b in work.kind("embedding") + work.kind("extra"))
    ends_last = add_up(everything[b.block.name] * b.block.count for b in work.kind("head") + work.train_only)
    alone = stages.pp == 1
    # full recomputation rebuilds one layer at a time
    rebuilt = np.where(recompute == Recompute.FULL, one, 0.0)
    first = (stages.first * layer + ends_first) * in_flight(plan, micro_batches) + rebuilt
    last = stages.last * layer + ends_last + rebuilt
    return np.where(alone, stages.first * layer + ends_first + ends_last + rebuilt, np.maximum(first, last))


def training_memory(
    work: RankWork, dtypes: Dtypes, *, micro_batches: Number, master_weights: bool = True, trainable: float = 1.0,
    moments: float = 2.0, workspace: Number = 0.0,
) -> Memory:  # fmt: skip
    """Bytes per rank in training.

    ``trainable``: part of the parameters that has gradients and optimizer states (LoRA: the adapters). ``moments``:
    tensors of optimizer state per parameter besides the master weights (Adam: 2). ZeRO 1 shards the optimizer over
    the data-parallel ranks, 2 the gradients too, 3 also the weights; its workspace is two gathered layers, the present
    and the next.
    """
    plan, groups, own = work.plan, spans(work.plan), held(work)
    zero = np.asarray(plan.zero)
    dense_ranks, expert_ranks = groups["dp"].ranks, groups["expert_dp"].ranks

    def sharded(stage: int, size: Number) -> Number:
        split = zero >= stage
        dense = own.dense / np.where(split, dense_ranks, 1.0)
        return (dense + own.experts / np.where(split, expert_ranks, 1.0)) * size

    weight = dtypes.size("weights")
    master = 4.0 if master_weights and weight < BYTES["fp32"] else 0.0
    gathered = np.where(zero >= 3, 2.0 * largest_block(work) * weight, 0.0)
    return Memory(
        weights=sharded(3, weight),
        gradients=sharded(2, dtypes.size("gradients")) * trainable,
        optimizer=sharded(1, dtypes.size("optimizer") * moments + master) * trainable,
        activations=activation_bytes(work, micro_batches),
        workspace=workspace + gathered,
    )


def largest_block(work: RankWork) -> Number:
    """Parameters of the largest block per rank: what ZeRO-3 gathers at a time."""
    largest: Number = 0.0
    for b in work.kind("layer"):
        largest = np.maximum(largest, b.dense_parameters + b.expert_parameters)
    return largest
