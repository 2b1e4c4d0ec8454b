"""Pipeline stages: who holds which layers, and what one 1F1B or interleaved schedule takes in terms of its stages.

The L layers go in pp · vpp chunks of at most c = ceil(L / (pp · vpp)). Where they do not divide, the last stage holds
the fewest, then the first (they also hold head and embedding), as the published uneven plans do. A step of m
micro-batches lasts m times the slowest stage, plus filling and draining: the other stages once each, divided by vpp.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from trainshed.core import Number, Plan


@dataclass(frozen=True, kw_only=True, eq=False)
class Stages:
    """Layers of the first, a middle and the last stage."""

    layers: int
    pp: Number
    vpp: Number
    first: Number
    middle: Number
    last: Number


def split_layers(plan: Plan, layers: int, *, ends: Number = 0.0) -> Stages:
    """Layers per stage under the plan (all of them when pp is 1).

    ``ends``: what head, loss and multi-token prediction take on the last stage, in layers: layers that are missing to
    full chunks are missing there first.
    """
    pp, vpp = np.asarray(plan.pp, dtype=np.float64), np.asarray(plan.vpp, dtype=np.float64)
    chunk = np.ceil(layers / (pp * vpp))
    full = chunk * vpp
    missing = full * pp - layers
    # the other stages stay full while first and last can give
    wanted = np.maximum(np.ceil(missing / 2), np.minimum(np.ceil(ends), missing))
    from_last = np.minimum(wanted, full)
    from_first = np.minimum(missing - from_last, full)
    left = missing - from_last - from_first
    middle = np.where(pp > 2, full - left / np.maximum(pp - 2, 1.0), full)
    first = np.where(pp > 1, full - from_first, layers)
    return Stages(
        layers=layers, pp=pp, vpp=vpp, first=first, middle=np.where(pp > 2, middle, 0.0),
        last=np.where(pp > 1, full - from_last, layers),
    )  # fmt: skip


def stage_times(stages: Stages, layer: Number, embedding: Number, head: Number) -> tuple[Number, Number, Number]:
    """Time of one micro-batch on the first, a middle and the last stage (one stage: all three terms on it)."""
    alone = stages.pp == 1
    first = stages.first * layer + embedding + np.where(alone, head, 0.0)
    last = stages.last * layer + head + np.where(alone, embedding, 0.0)
    return first, stages.middle * layer, last


def in_flight(plan: Plan, micro_batches: Number) -> Number:
    """Micro-batches' worth of one stage's activations that the first stage holds at its peak (1F1B, interleaved)."""
    pp, vpp = np.asarray(plan.pp, dtype=np.float64), np.asarray(plan.vpp, dtype=np.float64)
    warm = np.where(vpp > 1, pp * (1.0 + (pp - 1.0) / (pp * vpp)), pp)
    held: Number = np.minimum(warm, np.maximum(micro_batches, 1.0) * np.ones_like(warm))
    return held
