"""What attention of a few queries on a cache asks of the engines of a NeuronCore."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from trainshed.core import BYTES, Cost, Number, formula, longest, total
from trainshed.ops.engines import whole
from trainshed.ops.neuron_attention import RUN, Attention, Plan, expanded


def decode(a: Attention) -> Plan:
    """Keys on partitions, queries as columns: nothing is turned, maxima and sums cross partitions on TensorE.

    Heads share a pass until it has 128 queries or 512 columns of scores; of more than 128 rows every 128 go by
    themselves.
    """
    e, (_, qk, v, decompress) = a.engines, a.layout
    part, bank = e.partitions, e.bank
    lots = whole(a.rows, part)
    rows = a.rows / np.maximum(lots, 1.0)
    tiles = whole(a.keys, part)
    heads = a.groups * lots
    group = np.clip(np.minimum(bank / np.maximum(tiles * rows, 1.0), part / np.maximum(rows, 1.0)), 1.0, None)
    group = np.minimum(group, np.maximum(heads, 1.0))
    passes = heads / group
    blocks = whole(tiles, np.minimum(RUN, bank / np.clip(rows, 1.0, part)))
    deep = whole(qk, e.depth(a.dtype))
    matmuls = heads * tiles
    scores = a.tensor("scores", matmuls * rows * deep, matmuls * deep)
    values = a.tensor("values", matmuls * rows * whole(v, part), matmuls * whole(v, part))
    columns, count = heads * tiles * rows, group * rows
    across = e.tensor("fp32", passes * 2 * count, passes * 2, what="TensorE maxima and sums")
    reduced = [
        a.vector("maximum", columns, passes * blocks, "psum"), a.vector("sums", columns, passes, "psum"),
        a.vector("maxima and sums across", passes * (part + 10 * count), passes * 4, "psum"),
    ]  # fmt: skip
    less = a.vector("subtraction", columns, passes * blocks, "psum")
    copies = a.scalar("copies of scores", columns, heads * blocks)
    exp = a.scalar("exponential", columns, passes * blocks)
    more = a.tensor("keys", expanded(a, decompress), expanded(a, decompress) / bank)
    parts = [
        total("TensorE", [scores, values, across, more]),
        total("VectorE", [*reduced, less]), total("ScalarE", [copies, exp]), e.dma(*a.transfers()),
    ]  # fmt: skip
    if a.alone:
        parts[0] = e.ramp(parts[0])
    if e.shared_psum:
        parts.append(total("PSUM, by turns", [less, copies]))
    one = a.one_core()
    sizes = _Pass(rows=rows, tiles=tiles, heads=group, blocks=blocks, passes=passes)
    return Plan(
        parts=parts, ends=_decode_ends(one, parts, sizes) if a.alone else [], family="attention.decode",
        tiles={"heads": group, "keys": np.minimum(a.keys, RUN * part)},
    )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class _Pass:
    """Sizes of one pass."""

    rows: Number
    tiles: Number
    """Of 128 keys."""
    heads: Number
    blocks: Number
    passes: Number


def _decode_ends(a: Attention, parts: list[Cost], one: _Pass) -> list[Cost]:
    """The first keys in; softmax of the last pass, unless values are still on their way; its values; outputs."""
    e, (_, qk, v, _) = a.engines, a.layout
    part, count = e.partitions, one.heads * one.rows
    columns, run = one.heads * one.tiles * one.rows, one.tiles / one.blocks
    scores = a.tensor("scores of a block", run * one.rows, run)
    copy, exp_scalar = a.scalar("copy", run * one.rows, 1.0), a.scalar("exponential", columns / one.blocks, 1.0)
    maxima = total("maxima", [
        copy, a.latency(3.0),
        a.vector("maximum", run * one.rows * one.heads, 1.0 + np.where(one.blocks > 1, 1.0, 0.0), "psum"),
        a.vector("maximum across", part, 1.0), a.vector("diagonal", count, 1.0),
        e.tensor("fp32", 2 * count, 2.0, what="TensorE maxima"),
    ])  # fmt: skip
    exp = total("exponentials", [
        a.vector("subtraction", columns, one.blocks, "psum"), exp_scalar,
    ])  # fmt: skip
    each = one.heads * one.tiles * whole(v, part)
    values = a.tensor("values of a pass", each * one.rows, each)
    last = a.tensor("values of a block", run * one.rows * whole(v, part), run * whole(v, part))
    lanes = np.minimum(qk, part)
    loaded = total("queries and keys of a block", [
        a.moved("queries", 0.0, lanes, None), a.moved("keys of a block", run * part * qk * BYTES[a.kv], lanes, None),
    ])  # fmt: skip
    begun = total("the first block to VectorE", [loaded, e.ramp(scores), copy])
    end = formula(
        "softmax and values of the last pass", "s",
        "max(dma + max(last, scores + maxima + max(exp, more * values) + values - dma * coming),"
        " keys + tensor + maxima + max(exp - more * values, 0), begun + vector + last_exp + values, busy) - busy",
        dma=parts[3].value, tensor=parts[0].value, vector=parts[1].value, busy=longest("", parts).value,
        coming=np.minimum(one.passes, 3.0) / np.maximum(one.passes, 1.0) / 2, more=np.where(one.passes > 1, 1.0, 0.0),
        scores=scores, maxima=maxima, exp=exp, values=values, last=last, keys=loaded, begun=begun, last_exp=exp_scalar,
    )  # fmt: skip
    lane = np.minimum(v, part)
    return [
        a.moved("first DMA", 0.0, 0.0, parts), end, a.latency(1.0),
        a.vector("reciprocal", 8 * count, 1.0, "psum"), a.vector("outputs", count, 1.0, "psum"),
        a.moved("outputs", 0.0 * lane, lane, parts),
    ]  # fmt: skip
