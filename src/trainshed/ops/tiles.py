"""Blocks of a matmul kernel on a NeuronCore, and the choice that a good kernel makes.

The kernel keeps the result of a block of rows in PSUM or SBUF, walks the contraction in blocks of ``k``, and streams
the weights past it in blocks of ``n`` columns. Its HBM traffic, its DMA row lengths and its VectorE work follow from
the blocks alone.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from trainshed.core import BYTES, Number
from trainshed.ops.base import Tiles
from trainshed.ops.engines import Engines, whole


@dataclass(frozen=True, kw_only=True)
class Traffic:
    """What the blocks of one product mean: bytes and DMA rows of each operand, and how often results are evicted."""

    read: Number
    """Bytes of x read, all reads counted."""
    weights: Number
    """Bytes of w read, all reads counted."""
    written: Number
    rows: tuple[Number, Number, Number]
    """DMA descriptors of x, w and y: one per row of one partition."""
    evictions: Number
    """Times every element of y leaves PSUM: once per block of k."""
    first: Number
    """Bytes that must arrive before the first matmul."""
    last: Number
    """Bytes that leave after the last one."""
    block: tuple[Number, Number, Number]
    """Rows, columns and contraction of a block of the result."""


def given(engines: Engines, tiles: Tiles, m: Number, k: Number, n: Number, sizes: tuple[float, ...]) -> Traffic:
    """The traffic of a kernel with given blocks; ``sizes`` are bytes per element of x, w and y."""
    x, w, y = sizes
    part = engines.partitions
    blocks_m, blocks_n, blocks_k = whole(m, tiles.m), whole(n, tiles.n), whole(k, tiles.k)
    reads = blocks_n if tiles.x_reads is None else tiles.x_reads
    return Traffic(
        read=reads * m * k * x, weights=tiles.w_reads * k * n * w, written=m * n * y,
        rows=(reads * blocks_m * k, tiles.w_reads * blocks_n * k, blocks_n * m), evictions=blocks_k,
        first=part * (np.minimum(tiles.m, m) * x + np.minimum(tiles.n, n) * w),
        last=part * np.minimum(tiles.n, n) * y,
        block=(np.minimum(tiles.m, m), np.minimum(tiles.n, n), np.minimum(tiles.k, k)),
    )  # fmt: skip


def chosen(engines: Engines, m: Number, k: Number, n: Number, sizes: tuple[float, ...]) -> Traffic:
    """The traffic of a good kernel: results stay on chip while their block lasts, operands that fit are read once.

    Half of SBUF holds a block of one operand, a quarter each of the others; eight PSUM banks hold the results of a
    block over the whole contraction, so that every element leaves PSUM once. Weights are laid out beforehand
    so that a partition finds runs of 4 KiB, activations come in runs of 2,048 columns.
    """
    x, w, y = sizes
    part, bank = engines.partitions, engines.bank
    sbuf = float(engines.core.sbuf.value)
    area = sbuf / 2 / 4
    side = np.floor(np.sqrt(area) / part) * part
    block_n = np.maximum(side, area / (np.maximum(whole(m, part), 1.0) * part))
    block_m = np.maximum(side, area / (np.maximum(whole(n, bank), 1.0) * bank))
    reads = np.where(m * k * x <= sbuf / 4, 1.0, whole(n, block_n))
    weight_reads = np.where(k * n * w <= sbuf / 4, np.sign(m), whole(m, block_m))
    wide = 4 * bank
    run = wide * BYTES["bf16"]
    weight_rows = weight_reads * part * whole(k * n * w, part * run)
    rows = (reads * m * whole(k, wide), weight_rows, m * whole(n, wide))
    return Traffic(
        read=reads * m * k * x, weights=weight_reads * k * n * w, written=m * n * y, rows=rows,
        evictions=1.0,
        first=part * (np.minimum(m, part) * x + np.minimum(n, bank) * w),
        last=np.minimum(m, part) * np.minimum(n, bank) * y,
        block=(np.minimum(m, part * float(engines.core.psum_banks.value)), np.minimum(n, bank), k),
    )  # fmt: skip
