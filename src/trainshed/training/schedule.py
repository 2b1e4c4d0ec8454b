"""Which pipeline stage bounds the step, and what the others add while the pipeline fills and drains."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from trainshed.core import Cost, Number, Plan, scaled, total
from trainshed.parallel import RankWork, Stages, split_layers, stage_times
from trainshed.parallel.work import add_up
from trainshed.training.blocks import BlockTimes

_FIRST = ("embedding", "extra")


@dataclass(frozen=True, kw_only=True, eq=False)
class Schedule:
    """How often each block runs per micro-batch on the slowest stage, and on all others together."""

    micro_batches: Number
    vpp: Number
    layers: int
    stages: Stages
    slowest: dict[str, Number]
    """Block → copies on the slowest stage."""
    others: dict[str, Number]
    """Block → copies on all other stages."""

    def sum_slowest(self, what: str, blocks: Sequence[BlockTimes], part: Callable[[BlockTimes], Cost]) -> Cost:
        """A part of every micro-batch on the slowest stage, over the step."""
        return total(what, [
            scaled(f"{b.work.block.name} × layers × micro-batches", part(b),
                   self.slowest[b.work.block.name] * self.micro_batches)
            for b in blocks
        ], unit="s")  # fmt: skip

    def bubble(self, blocks: Sequence[BlockTimes]) -> Cost:
        """One micro-batch through every other stage, shortened by the virtual stages."""
        return total("pipeline bubble", [
            scaled(f"{b.work.block.name} on other stages", b.all, self.others[b.work.block.name] / self.vpp)
            for b in blocks
        ], unit="s")  # fmt: skip


def choose_stage(plan: Plan, work: RankWork, blocks: Sequence[BlockTimes], micro_batches: Number) -> Schedule:
    """Compare the first, a middle and the last stage; the slowest one sets the pace."""
    layers = work.layers

    def value(chosen: Callable[[BlockTimes], bool]) -> Number:
        return add_up(b.all.value * b.work.block.count for b in blocks if chosen(b))

    body = value(is_layer) / max(layers, 1)
    stages = split_layers(plan, layers, ends=value(_is_last) / np.maximum(body, 1e-30))
    times = stage_times(stages, body, value(is_first), value(_is_last))
    slowest = np.argmax(np.stack(np.broadcast_arrays(*times)), axis=0)
    alone = stages.pp == 1
    held = np.choose(slowest, np.broadcast_arrays(stages.first, stages.middle, stages.last, slowest)[:3])
    has_first = ((slowest == 0) | alone) * 1.0
    has_last = ((slowest == 2) | alone) * 1.0
    on, off = {}, {}
    for b in blocks:
        count = b.work.block.count
        here = count * (held / max(layers, 1) if is_layer(b) else has_first if is_first(b) else has_last)
        on[b.work.block.name], off[b.work.block.name] = here, count - here
    return Schedule(micro_batches=micro_batches, vpp=stages.vpp, layers=layers, stages=stages, slowest=on, others=off)


def is_layer(b: BlockTimes) -> bool:
    """A layer that serving has too (multi-token prediction counts with the head)."""
    return b.work.block.kind == "layer" and not b.work.block.train_only


def is_first(b: BlockTimes) -> bool:
    """A block of the first stage besides layers."""
    return b.work.block.kind in _FIRST


def _is_last(b: BlockTimes) -> bool:
    return not is_layer(b) and not is_first(b)
