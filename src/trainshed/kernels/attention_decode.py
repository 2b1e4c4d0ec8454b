"""Attention of one or a few new tokens over a long cache of keys and values: as fast as the cache can be read.

Of a block of 8,192 keys each partition takes a run of 64, so that keys and values come in rows of many KiB. Keys are
the stationary operand and the few queries move: scores have keys on partitions, so that exp works on all lanes and
its result multiplies the values without being turned. What goes across partitions, maxima and sums, TensorE carries.
Heads with short contexts share a pass, so that an instruction finds several hundred columns.
"""

from __future__ import annotations

from typing import Any

import trainshed.nki as nki
import trainshed.nki.isa as nisa
import trainshed.nki.language as nl
from trainshed.kernels.attention_plan import LONGEST, sizes
from trainshed.kernels.attention_tiles import (
    HIDDEN,
    bank,
    copied,
    dimensions,
    identity,
    multiple,
    parts,
    ready_for_exp,
    result,
    same,
    softmax_scale,
)
from trainshed.kernels.common import PARTITIONS, Tensor, loaded, own_rows, require, sbuf

#: [128, heads, tiles, rows] with the tiles last, over which rows are reduced.
BY_ROW = (0, 1, 3, 2)


@nki.jit
def decode(qT: Tensor, kT: Tensor, v: Tensor, scale: float | None = None, tokens: int = 1, k_scale: float = 1.0,
           v_scale: float = 1.0) -> Tensor:  # fmt: skip
    """``softmax(scale · q · kᵀ) · v`` for the newest tokens of every sequence.

    Args:
        qT: [d, sequences, kv_heads, rows], d at most 128; rows (at most 128) are the query heads that share a head of
            keys, of each its ``tokens``.
        kT: [sequences, kv_heads, d, keys], bfloat16 or an FP8; keys are a multiple of 128.
        v: [sequences, kv_heads, keys, d], of either too.
        scale: 1/√d unless given.
        tokens: how many of the newest keys are the queries' own: of n tokens the i-th does not see the last n - 1 - i.
        k_scale, v_scale: what stored keys and values are multiplied with.

    Several cores share the heads of all sequences.

    Returns:
        oT, as qT.
    """
    dim, sequences, kv_heads, rows = dimensions("attention.decode", "qT", qT, 4)
    _check(qT, kT, v, tokens)
    out = result(qT.shape, qT.dtype)
    own = own_rows(sequences * kv_heads)
    if own.start < own.stop:
        at = _Decode(qT, kT, v, softmax_scale(scale, dim) * k_scale, tokens)
        passes = parts(own.stop - own.start, at.sizes.pairs)
        ready = sbuf((dim, sequences * kv_heads, rows), qT.dtype)
        for index in range(len(passes) + 2):
            if 1 <= index <= len(passes):
                at.maxima(_after(own.start, passes[index - 1]))
            if index >= 2:
                at.sums(_after(own.start, passes[index - 2]))
            if index < len(passes):
                at.scores(_after(own.start, passes[index]))
            if 1 <= index <= len(passes):
                at.weights(_after(own.start, passes[index - 1]))
            if index >= 2:
                at.values(_after(own.start, passes[index - 2]), ready, v_scale)
        nisa.dma_copy(dst=out.reshape((dim, sequences * kv_heads, rows))[:, own, :], src=ready[:, own, :])
    return out


def _after(first: int, part: slice) -> slice:
    """The part, counted from ``first`` on."""
    return slice(first + part.start, first + part.stop)


def _check(qT: Tensor, kT: Tensor, v: Tensor, tokens: int) -> None:
    """Whether the shapes of queries and cache agree."""
    name = "attention.decode"
    dim, sequences, kv_heads, rows = qT.shape
    keys = dimensions(name, "kT", kT, 4)[3]
    require(dim <= PARTITIONS, name, "d of qT", dim, f"at most {PARTITIONS}")
    require(rows <= PARTITIONS, name, "rows of qT", rows, f"at most {PARTITIONS}")
    tiles = multiple(name, "keys of kT", keys, PARTITIONS)
    require(tiles * rows <= LONGEST, name, "keys of kT / 128 * rows of qT", tiles * rows, f"at most {LONGEST}")
    same(name, "shape of kT", tuple(kT.shape), (sequences, kv_heads, dim, keys))
    same(name, "shape of v", tuple(v.shape), (sequences, kv_heads, keys, dim))
    require(tokens > 0 and rows % tokens == 0, name, "tokens", tokens, f"a divisor of the {rows} rows")
    require(tokens <= keys, name, "tokens", tokens, f"at most the {keys} keys")


class _Decode(nl.NKIObject):
    """Where the kernel is: scores and weights of the passes under way."""

    def __init__(self, qT: Tensor, kT: Tensor, v: Tensor, scale: float, tokens: int) -> None:
        self.kT = kT
        self.v = v
        self.scale = scale
        self.tokens = tokens
        self.dim = qT.shape[0]
        self.rows = qT.shape[3]
        ready_for_exp()
        self.q = loaded(qT)
        self.sizes = sizes(self.rows, kT.shape[3])
        self.blocks = parts(kT.shape[3] // PARTITIONS, self.sizes.tiles)
        self.ones = sbuf((PARTITIONS, PARTITIONS), nl.float32)
        nisa.memset(dst=self.ones, value=1.0)
        self.eye = identity(nl.float32)
        if tokens > 1:
            self.spikes = _spikes()
            self.before = _before(self.rows, tokens)
        self.tiles: dict[tuple[str, int], Any] = {}
        """By what and the first head of a pass: scores, weights, sums of their partitions."""

    def scores(self, pairs: slice) -> None:
        """kᵀ · q of a pass, [128 keys, heads, tiles, rows] in SBUF, and the maximum of each partition."""
        heads, total = pairs.stop - pairs.start, self.kT.shape[3] // PARTITIONS
        scores = sbuf((PARTITIONS, heads, total, self.rows), nl.float32)
        maxima = sbuf((PARTITIONS, len(self.blocks), heads, self.rows), nl.float32)
        for index in range(len(self.blocks)):
            block = self.blocks[index]
            for pair in range(pairs.start, pairs.stop):
                copied(scores[:, pair - pairs.start, block, :], self._products(pair, block), scalar=True)
            nisa.tensor_reduce(
                dst=maxima[:, index, :, :], op=nl.maximum, data=scores[:, :, block, :].permute(BY_ROW), axis=3
            )
        most = maxima[:, 0, :, :]
        if len(self.blocks) > 1:
            most = sbuf((PARTITIONS, heads, self.rows), nl.float32)
            nisa.tensor_reduce(dst=most, op=nl.maximum, data=maxima.permute((0, 2, 3, 1)), axis=3)
        self.tiles["scores", pairs.start] = scores
        self.tiles["most", pairs.start] = most

    def _products(self, pair: int, block: slice) -> Tensor:
        """kᵀ · q of one block of one head, [128 keys, tiles · rows] in PSUM."""
        sequence, head = divmod(pair, self.kT.shape[1])
        count = block.stop - block.start
        keys = loaded(self.kT[sequence, head, :, block.start * PARTITIONS : block.stop * PARTITIONS])
        runs = keys.reshape((self.dim, PARTITIONS, count))
        product = bank(PARTITIONS, count * self.rows)
        for step in range(count):
            column = product[:, step * self.rows : (step + 1) * self.rows]
            nisa.nc_matmul(dst=column, stationary=runs[:, :, step], moving=self.q[:, sequence, head, :])
        if self.tokens > 1 and block.stop == self.blocks[-1].stop:
            self._hide(product, count)
        return product

    def _loaded_values(self, sequence: int, head: int, block: slice) -> Tensor:
        """A block of values, of which each partition holds as many in a row as the block has tiles."""
        rows = self.v[sequence, head, block.start * PARTITIONS : block.stop * PARTITIONS, :]
        return loaded(rows.reshape((PARTITIONS, block.stop - block.start, self.dim)))

    def _hide(self, product: Tensor, count: int) -> None:
        """The newest keys from the tokens before them."""
        for token in range(1, self.tokens):
            lane, step = divmod(count * PARTITIONS - self.tokens + token, count)
            nisa.nc_matmul(
                dst=product[:, step * self.rows : (step + 1) * self.rows], accumulate=True,
                stationary=self.spikes[:, PARTITIONS - lane : 2 * PARTITIONS - lane], moving=self.before[:, token, :],
            )  # fmt: skip

    def maxima(self, pairs: slice) -> None:
        """The maximum of each row over all partitions, on a diagonal: turned and reduced."""
        most = self.tiles.pop(("most", pairs.start))
        count = most.shape[1] * self.rows
        turned = bank(count, PARTITIONS)
        nisa.nc_transpose(dst=turned, data=most.reshape((PARTITIONS, count)), engine=nisa.engine.tensor)
        column = sbuf((count, 1), nl.float32)
        nisa.tensor_reduce(dst=column, op=nl.maximum, data=turned, axis=1)
        diagonal = sbuf((count, count), nl.float32)
        nisa.tensor_scalar(dst=diagonal, data=self.eye[:count, :count], op0=nl.multiply, operand0=column)
        self.tiles["diagonal", pairs.start] = diagonal

    def weights(self, pairs: slice) -> None:
        """exp(scale · (scores - maximum)) of a pass."""
        scores = self.tiles.pop(("scores", pairs.start))
        diagonal = self.tiles.pop(("diagonal", pairs.start))
        heads, total, count = scores.shape[1], scores.shape[2], diagonal.shape[1]
        highest = bank(PARTITIONS, count)  # in every partition
        nisa.nc_matmul(dst=highest, stationary=self.ones[:count, :], moving=diagonal)
        by_tile = highest.reshape((PARTITIONS, heads, 1, self.rows)).broadcast(2, total)
        weights = sbuf(scores.shape, self.q.dtype)
        for block in self.blocks:
            part = scores[:, :, block, :]
            nisa.tensor_tensor(
                dst=part, data1=part, data2=by_tile[:, :, block, :], op=nl.subtract, engine=nisa.engine.vector
            )
            nisa.activation(dst=weights[:, :, block, :], op=nl.exp, data=part, scale=self.scale)
        self.tiles["weights", pairs.start] = weights

    def sums(self, pairs: slice) -> None:
        """The sum of each partition of a pass, while TensorE makes the scores of the next but one."""
        weights = self.tiles["weights", pairs.start]
        sums = sbuf((PARTITIONS, weights.shape[1], self.rows), nl.float32)
        nisa.tensor_reduce(dst=sums, op=nl.add, data=weights.permute(BY_ROW), axis=3)
        self.tiles["sums", pairs.start] = sums

    def values(self, pairs: slice, out: Tensor, v_scale: float) -> None:
        """vᵀ · weights of a pass over the sum of the weights, to its heads of ``out``."""
        weights = self.tiles.pop(("weights", pairs.start))
        sums = self.tiles.pop(("sums", pairs.start))
        count = weights.shape[1] * self.rows
        product = bank(self.dim, count)
        for pair in range(pairs.start, pairs.stop):
            sequence, head = divmod(pair, self.kT.shape[1])
            place = pair - pairs.start
            column = product[:, place * self.rows : (place + 1) * self.rows]
            for block in self.blocks:
                held = self._loaded_values(sequence, head, block)
                for step in range(held.shape[1]):
                    at = block.start + step
                    nisa.nc_matmul(
                        dst=column, stationary=held[:, step, :], moving=weights[:, place, at, :], accumulate=at > 0
                    )
        total = bank(self.dim, count)
        nisa.nc_matmul(dst=total, stationary=self.ones[:, : self.dim], moving=sums.reshape((PARTITIONS, count)))
        inverse = sbuf((self.dim, count), nl.float32)
        nisa.reciprocal(dst=inverse, data=total)
        nisa.scalar_tensor_tensor(
            dst=out[:, pairs, :], data=product, op0=nl.multiply, operand0=v_scale, op1=nl.multiply, operand1=inverse
        )


def _spikes() -> Tensor:
    """A row of zeros with ``HIDDEN`` in the middle."""
    spikes = sbuf((1, 2 * PARTITIONS), nl.bfloat16)
    nisa.memset(dst=spikes, value=0.0)
    nisa.memset(dst=spikes[:, PARTITIONS : PARTITIONS + 1], value=HIDDEN)
    return spikes


def _before(rows: int, tokens: int) -> Tensor:
    """For each token ones at the rows of those before it."""
    before = sbuf((1, tokens, rows), nl.bfloat16)
    nisa.memset(dst=before, value=0.0)
    by_token = before.reshape((1, tokens, rows // tokens, tokens))
    for token in range(1, tokens):
        nisa.memset(dst=by_token[:, token, :, :token], value=1.0)
    return before
