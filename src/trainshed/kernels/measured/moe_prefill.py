"""Experts of a MoE layer at prefill: tokens grouped by expert in blocks, fp8 weights, one NeuronCore.

As ``moe``, a plain kernel of our own, written from the columns of the rows alone. A block is up to 128 tokens of one
expert; its tokens are gathered, its output is stored as a block, and each token then adds up its ``topk`` rows.

| argument | shape | what |
|---|---|---|
| ``x`` | [tokens, hidden] bf16 | activations |
| ``blobs`` | [experts, 128, row] uint8 | as in ``moe`` |
| ``experts`` | [1, blocks] int32 | the expert of each block |
| ``members`` | [rows, blocks] int32 | the token of each row of a block; any where the block is not full |
| ``gates`` | [rows, blocks] float32 | how much of the expert's output the row's token takes |
| ``places`` | [tokens, topk] int32 | block * rows + row, of each of a token's rows |

Returns [tokens, hidden] bf16.
"""

from __future__ import annotations

import numpy as np

import trainshed.nki as nki
import trainshed.nki.isa as nisa
import trainshed.nki.language as nl
from trainshed.kernels.measured.launch import Array
from trainshed.kernels.measured.moe import Blob, gated, loaded, turned
from trainshed.kernels.measured.shapes import MOVING, PARTITIONS, Tensor, multiple, part, require, same


def grouped(chosen: Array, experts: int) -> tuple[Array, Array, Array]:
    """``experts``, ``members`` and ``places`` of the experts [tokens, topk] that tokens have chosen.

    Blocks have the fewest rows (16, 32, 64 or 128) that hold the tokens of the fullest expert, at most 128.
    """
    tokens, topk = chosen.shape
    fullest = int(np.bincount(chosen.reshape(-1), minlength=experts).max())
    rows = next(size for size in (16, 32, 64, PARTITIONS) if size >= min(fullest, PARTITIONS))
    numbers: list[int] = []
    columns: list[Array] = []
    places = np.zeros(tokens * topk, np.int32)
    order = np.argsort(chosen.reshape(-1), kind="stable")
    ends = np.searchsorted(chosen.reshape(-1)[order], np.arange(experts + 1))
    for expert in range(experts):
        mine = order[ends[expert] : ends[expert + 1]]
        for first in range(0, len(mine), rows):
            some = mine[first : first + rows]
            places[some] = len(numbers) * rows + np.arange(len(some))
            columns.append(np.pad(some // topk, (0, rows - len(some))))
            numbers.append(expert)
    return (
        np.array([numbers], np.int32),
        np.ascontiguousarray(np.array(columns, np.int32).T),
        places.reshape(tokens, topk),
    )


@nki.jit
def prefill(x: Tensor, blobs: Tensor, experts: Tensor, members: Tensor, gates: Tensor, places: Tensor) -> Tensor:
    """Every block, then every 128 tokens."""
    tokens, hidden = x.shape
    rows, blocks = members.shape
    require(rows <= PARTITIONS, "moe.prefill", "rows of a block", rows, f"at most {PARTITIONS}")
    same("moe.prefill", "shape of experts", tuple(experts.shape), (1, blocks))
    same("moe.prefill", "shape of gates", tuple(gates.shape), (rows, blocks))
    same("moe.prefill", "tokens of places", places.shape[0], tokens)
    blob = Blob.of("moe.prefill", hidden, blobs.shape[2])
    waiting = nl.ndarray((blocks * rows, hidden), dtype=x.dtype, buffer=nl.private_hbm)
    numbers, which, shares = (_here(of) for of in (experts, members, gates))
    for block in nl.affine_range(blocks):
        weights = loaded(blobs, numbers[0:1, block : block + 1])
        mine = nl.ndarray((rows, hidden), dtype=x.dtype, buffer=nl.sbuf)
        nisa.dma_copy(dst=mine, src=_gathered(x, which[:, block : block + 1]))
        inner = gated(blob, weights, turned(mine, blob.chunks))
        out = _down(blob, weights, inner, shares[:, block : block + 1])
        nisa.dma_copy(dst=waiting[part(block, rows), :], src=out)
    return _combined(waiting, places)


def _here(of: Tensor) -> Tensor:
    tile = nl.ndarray(of.shape, dtype=of.dtype, buffer=nl.sbuf)
    nisa.dma_copy(dst=tile, src=of)
    return tile


def _gathered(of: Tensor, rows: Tensor) -> Tensor:
    """The rows of a tensor in HBM whose numbers are in a column in SBUF."""
    count, width = rows.shape[0], of.shape[1]
    return of.ap(pattern=[[width, count], [1, width]], vector_offset=rows, indirect_dim=0)


def _down(blob: Blob, weights: Tensor, inner: Tensor, share: Tensor) -> Tensor:
    """share * inner.T @ (scale * down) in bf16 [rows, hidden]; banks of PSUM leave by VectorE and ScalarE in turn."""
    rows, half = inner.shape[1], blob.chunks // 2
    wide = _widened_down(blob, weights)
    out = nl.ndarray((rows, blob.hidden), dtype=nl.bfloat16, buffer=nl.sbuf)
    columns = out.ap(pattern=[[blob.hidden, rows], [1, blob.chunks], [blob.chunks, PARTITIONS]])
    together = min(half, MOVING // PARTITIONS)
    for turn, first in enumerate(range(0, blob.chunks, together)):
        side, some = first // half * blob.wide, slice(first % half, first % half + together)
        bank = nl.ndarray((rows, together, PARTITIONS), dtype=nl.float32, buffer=nl.psum)
        sides = slice(side, side + blob.wide)
        nisa.nc_matmul(
            dst=bank, stationary=inner[sides, :], moving=wide[sides, some, :],
            tile_position=(side, 0), tile_size=(blob.wide, PARTITIONS),
        )  # fmt: skip
        target = columns[:, first : first + together, :]
        if turn % 2:
            nisa.activation(dst=target, op=nl.copy, data=bank, scale=share)
        else:
            nisa.tensor_scalar(dst=target, data=bank, op0=nl.multiply, operand0=share)
    return out


def _widened_down(blob: Blob, weights: Tensor) -> Tensor:
    """Down in bf16 with its scales, [128, chunks / 2, 128]: a scale for each column, on GpSimdE."""
    half, row = blob.chunks // 2, weights.shape[1]
    each = multiple("moe.prefill", "partitions", PARTITIONS, blob.chunks)
    pattern = [[row // 4, PARTITIONS], [0, half], [1, blob.chunks], [0, each]]
    scales = weights.view(nl.float32).ap(pattern=pattern, offset=blob.scales // 4 + 3)
    wide = nl.ndarray((PARTITIONS, half, PARTITIONS), dtype=nl.bfloat16, buffer=nl.sbuf)
    split = (PARTITIONS, half, blob.chunks, each)
    source = weights.view(nl.float8_e4m3)[:, blob.down : blob.scales].reshape(split)
    nisa.tensor_tensor(dst=wide.reshape(split), data1=source, data2=scales, op=nl.multiply, engine=nisa.engine.gpsimd)
    return wide


def _combined(waiting: Tensor, places: Tensor) -> Tensor:
    """The sum of each token's rows, 128 tokens at a time."""
    (tokens, topk), hidden = places.shape, waiting.shape[1]
    result = nl.ndarray((tokens, hidden), dtype=waiting.dtype, buffer=nl.shared_hbm)
    for first in range(0, tokens, PARTITIONS):
        some = slice(first, min(first + PARTITIONS, tokens))
        numbers = _here(places[some, :])
        total: Tensor = None
        for k in range(topk):
            rows = nl.ndarray((some.stop - first, hidden), dtype=waiting.dtype, buffer=nl.sbuf)
            nisa.dma_copy(dst=rows, src=_gathered(waiting, numbers[:, k : k + 1]))
            if total is not None:
                nisa.tensor_tensor(dst=rows, data1=rows, data2=total, op=nl.add)
            total = rows
        nisa.dma_copy(dst=result[some, :], src=total)
    return result
