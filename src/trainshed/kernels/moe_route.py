"""Which experts each token goes to, and where its rows go so that those of an expert lie together.

``route`` picks the largest logits. ``dispatch`` gives every expert whole blocks of rows, and every token a row in the
block of each of its experts: its rank among the expert's tokens is a product with a triangle of ones. ``gates`` is
for a few tokens, which need no rows of their own: the list of experts that any token goes to, and each token's weight
for each expert.
"""

from __future__ import annotations

from typing import Any

import trainshed.nki as nki
import trainshed.nki.isa as nisa
import trainshed.nki.language as nl
from trainshed.kernels.attention_tiles import BANK, HIDDEN, bank, dimensions, kept, multiple, parts, result, same
from trainshed.kernels.common import PARTITIONS, Tensor, loaded, require, sbuf

#: Values that one search of VectorE finds.
EIGHT = 8
#: Bytes of each partition for the tokens that one DMA loads.
ROOM = 64 << 10


def most_blocks(tokens: int, top: int, experts: int, rows: int) -> int:
    """Blocks of ``rows`` that any routing takes at most: every expert's last block may be short."""
    pairs = tokens * top
    return pairs // rows + min(experts, pairs)


@nki.jit
def route(xT: Tensor, router: Tensor, top: int) -> Tensor:
    """The ``top`` largest of x · router, and their softmax.

    Args:
        xT: [features, tokens], features a multiple of 128.
        router: [features, experts], at most 512 experts.
        top: experts of a token, at most 8.

    Returns:
        experts uint32 [tokens, top], largest first; weights float32 [tokens, top].
    """
    name = "moe.route"
    features, tokens = dimensions(name, "xT", xT, 2)
    steps = multiple(name, "features of xT", features, PARTITIONS)
    experts = dimensions(name, "router", router, 2)[1]
    same(name, "features of router", router.shape[0], features)
    require(experts <= BANK, name, "experts of router", experts, f"at most {BANK}")
    require(0 < top <= min(EIGHT, experts), name, "top", top, f"1 to {min(EIGHT, experts)}")
    chosen, weights = result((tokens, top), nl.uint32), result((tokens, top), nl.float32)
    by_row = loaded(router.reshape((PARTITIONS, steps, experts)))
    most = max(PARTITIONS, ROOM // (steps * xT.itemsize) // PARTITIONS * PARTITIONS)
    for piece in parts(tokens, most):
        x = loaded(xT.reshape((PARTITIONS, steps, tokens))[:, :, piece])
        for part in parts(piece.stop - piece.start, PARTITIONS):
            logits = bank(part.stop - part.start, experts)
            for step in range(steps):
                nisa.nc_matmul(dst=logits, stationary=x[:, step, part], moving=by_row[:, step, :], accumulate=step > 0)
            which, share = _largest(logits, top)
            rows = slice(piece.start + part.start, piece.start + part.stop)
            nisa.dma_copy(dst=chosen[rows, :], src=which[:, :top])
            nisa.dma_copy(dst=weights[rows, :], src=share)
    return chosen, weights


def _largest(logits: Tensor, top: int) -> tuple[Tensor, Tensor]:
    """Where the 8 largest of each row are, and the softmax of the first ``top``."""
    rows, experts = logits.shape
    if experts < EIGHT:
        wide = sbuf((rows, EIGHT), nl.float32)
        nisa.memset(dst=wide, value=HIDDEN)
        nisa.tensor_copy(dst=wide[:, :experts], src=logits, engine=nisa.engine.vector)
        logits = wide
    values, which = sbuf((rows, EIGHT), nl.float32), sbuf((rows, EIGHT), nl.uint32)
    nisa.max8(dst=values, src=logits)
    nisa.nc_find_index8(dst=which, data=logits, vals=values)
    highest, total, inverse = sbuf((rows, 1), nl.float32), sbuf((rows, 1), nl.float32), sbuf((rows, 1), nl.float32)
    nisa.tensor_scalar(dst=highest, data=values[:, :1], op0=nl.multiply, operand0=-1.0)
    share = sbuf((rows, top), nl.float32)
    nisa.activation_reduce(dst=share, op=nl.exp, data=values[:, :top], bias=highest, reduce_op=nl.add, reduce_res=total)
    nisa.reciprocal(dst=inverse, data=total)
    nisa.tensor_scalar(dst=share, data=share, op0=nl.multiply, operand0=inverse)
    return which, share


@nki.jit
def dispatch(chosen: Tensor, experts: int, rows: int) -> Tensor:
    """Rows for all tokens: those of an expert in blocks of ``rows`` of its own, in the order of the tokens.

    Args:
        chosen: uint32 [tokens, top], different experts in each row; at most 32,768 tokens.
        experts: how many there are, at most 512.
        rows: of a block, a power of two, 128 at least.

    Returns:
        positions int32 [tokens, top]: the row of each token at each of its experts;
        source int32 [most blocks, rows, 1]: the token of each row, 0 where there is none;
        block_expert int32 [most blocks, 1]: whose each block is; blocks int32 [1, 1]: how many are in use.
    """
    name = "moe.dispatch"
    tokens, top = dimensions(name, "chosen", chosen, 2)
    require(tokens <= 1 << 15, name, "tokens of chosen", tokens, f"at most {1 << 15}")
    require(0 < experts <= BANK, name, "experts", experts, f"1 to {BANK}")
    require(rows >= PARTITIONS and rows & (rows - 1) == 0, name, "rows", rows, "a power of two, at least 128")
    most = most_blocks(tokens, top, experts, rows)
    at = _Dispatch(chosen, experts)
    ends, starts = _bounds(at.counts(), rows)
    positions, source = result((tokens, top), nl.int32), result((most, rows, 1), nl.int32)
    blank = sbuf((PARTITIONS, most * rows // PARTITIONS), nl.int32)
    nisa.memset(dst=blank, value=0)
    nisa.dma_copy(dst=source.reshape((PARTITIONS, most * rows // PARTITIONS)), src=blank)
    at.place(starts, positions, source.reshape((most * rows, 1)))
    block_expert, blocks = result((most, 1), nl.int32), result((1, 1), nl.int32)
    _owners(ends, block_expert)
    used = sbuf((1, 1), nl.int32)
    nisa.tensor_copy(dst=used, src=ends[:1, experts - 1 : experts], engine=nisa.engine.vector)
    nisa.dma_copy(dst=blocks, src=used)
    return positions, source, block_expert, blocks


def numbers(columns: int, dtype: Any = nl.float32) -> Tensor:
    """0, 1, 2, … in every partition."""
    made = sbuf((PARTITIONS, columns), dtype)
    nisa.iota(dst=made, pattern=[[1, columns]])
    return made


def constant(value: float, rows: int, columns: int, dtype: Any) -> Tensor:
    """A tile of one value."""
    made = sbuf((rows, columns), dtype)
    nisa.memset(dst=made, value=value)
    return made


def one_hot(which: Tensor, order: Tensor) -> Tensor:
    """[P, top] as [P, top, experts]: 1 at the expert, else 0."""
    (partitions, top), experts = which.shape, order.shape[1]
    made = sbuf((partitions, top, experts), nl.bfloat16)
    nisa.tensor_tensor(
        dst=made, data1=order[:partitions, :].expand_dim(1).broadcast(1, top),
        data2=which.expand_dim(2).broadcast(2, experts), op=nl.equal, engine=nisa.engine.vector,
    )  # fmt: skip
    return made


def summed(data: Tensor, dtype: Any) -> Tensor:
    """[P, top, experts] as [P, experts], added over the token's experts."""
    made = sbuf((data.shape[0], data.shape[2]), dtype)
    nisa.tensor_reduce(dst=made, op=nl.add, data=data.permute((0, 2, 1)), axis=2)
    return made


class _Dispatch(nl.NKIObject):
    """The tokens' experts in SBUF, and what ranks them."""

    def __init__(self, chosen: Tensor, experts: int) -> None:
        self.top = chosen.shape[1]
        self.tiles = parts(chosen.shape[0], PARTITIONS)
        which = sbuf((PARTITIONS, len(self.tiles), self.top), nl.int32)
        nisa.memset(dst=which, value=experts)  # of no token: nobody's
        for index in range(len(self.tiles)):
            part = self.tiles[index]
            nisa.dma_copy(dst=which[: part.stop - part.start, index, :], src=chosen[part, :])
        self.which = sbuf(which.shape, nl.float32)
        nisa.tensor_copy(dst=self.which, src=which, engine=nisa.engine.vector)
        self.order = numbers(experts)
        self.ones = constant(1.0, PARTITIONS, PARTITIONS, nl.bfloat16)
        self.wide_ones = constant(1.0, PARTITIONS, PARTITIONS, nl.float32)

    def _mask(self, index: int) -> tuple[Tensor, Tensor]:
        """Of a tile of tokens the experts one by one, and all together."""
        single = one_hot(self.which[:, index, :], self.order)
        return single, summed(single, nl.bfloat16)

    def counts(self) -> Tensor:
        """Tokens of each expert, in every partition."""
        total = bank(PARTITIONS, self.order.shape[1])
        for index in range(len(self.tiles)):
            mask = self._mask(index)[1]
            nisa.nc_matmul(dst=total, stationary=self.ones, moving=mask, accumulate=index > 0)
        return total

    def place(self, starts: Tensor, positions: Tensor, source: Tensor) -> None:
        """Every token's rows: the expert's first, plus how many tokens before it go there too."""
        earlier = kept(self.ones, nl.less, 0.0)
        seen = constant(0.0, PARTITIONS, starts.shape[1], nl.float32)
        nisa.tensor_copy(dst=seen[:1, :], src=starts[:1, :], engine=nisa.engine.vector)
        for index in range(len(self.tiles)):
            part = self.tiles[index]
            single, mask = self._mask(index)
            rank = bank(PARTITIONS, starts.shape[1])
            nisa.nc_matmul(dst=rank, stationary=earlier, moving=mask)
            nisa.nc_matmul(dst=rank, stationary=self.wide_ones, moving=seen, accumulate=True)
            nisa.tensor_tensor(dst=seen, data1=seen, data2=mask, op=nl.add, engine=nisa.engine.vector)
            mine = sbuf(single.shape, nl.float32)
            nisa.tensor_tensor(dst=mine, data1=single, data2=rank.expand_dim(1).broadcast(1, self.top), op=nl.multiply)
            found = sbuf((PARTITIONS, self.top), nl.int32)
            nisa.tensor_reduce(dst=found, op=nl.add, data=mine, axis=2)
            count = part.stop - part.start
            token = sbuf((PARTITIONS, 1), nl.int32)
            nisa.iota(dst=token, pattern=[[1, 1]], offset=part.start, channel_multiplier=1)
            nisa.dma_copy(dst=positions[part, :], src=found[:count, :])
            for slot in range(self.top):
                rows = source.vector_select(0, found[:count, slot : slot + 1])
                nisa.dma_copy(dst=rows, src=token[:count, :])


def _bounds(counts: Tensor, rows: int) -> tuple[Tensor, Tensor]:
    """Past each expert's last block, in blocks, and its first row; counts are rounded up to whole blocks."""
    shape = counts.shape
    whole, blocks = sbuf(shape, nl.int32), sbuf(shape, nl.float32)
    ends, starts = sbuf(shape, nl.float32), sbuf(shape, nl.float32)
    nisa.tensor_copy(dst=whole, src=counts, engine=nisa.engine.vector)
    nisa.tensor_scalar(dst=whole, data=whole, op0=nl.add, operand0=rows - 1)
    shift = rows.bit_length() - 1
    nisa.tensor_scalar(dst=whole, data=whole, op0=nl.right_shift, operand0=shift, engine=nisa.engine.vector)
    nisa.tensor_copy(dst=blocks, src=whole, engine=nisa.engine.vector)
    ones = constant(1.0, shape[0], shape[1], nl.float32)
    nisa.tensor_tensor_scan(dst=ends, data0=ones, data1=blocks, initial=0.0, op0=nl.multiply, op1=nl.add)
    nisa.tensor_tensor(dst=starts, data1=ends, data2=blocks, op=nl.subtract, engine=nisa.engine.vector)
    nisa.tensor_scalar(dst=starts, data=starts, op0=nl.multiply, operand0=float(rows), engine=nisa.engine.vector)
    return ends, starts


def _owners(ends: Tensor, block_expert: Tensor) -> None:
    """The expert of each block: as many experts end at it or before."""
    experts = ends.shape[1]
    for part in parts(block_expert.shape[0], PARTITIONS):
        block = sbuf((PARTITIONS, 1), nl.float32)
        nisa.iota(dst=block, pattern=[[1, 1]], offset=part.start, channel_multiplier=1)
        past, count, owner = sbuf(ends.shape, nl.bfloat16), sbuf(block.shape, nl.float32), sbuf(block.shape, nl.int32)
        nisa.tensor_scalar(dst=past, data=ends, op0=nl.less_equal, operand0=block, engine=nisa.engine.vector)
        nisa.tensor_reduce(dst=count, op=nl.add, data=past, axis=1)
        nisa.tensor_scalar(
            dst=owner, data=count, op0=nl.minimum, operand0=float(experts - 1), engine=nisa.engine.vector
        )
        nisa.dma_copy(dst=block_expert[part, :], src=owner[: part.stop - part.start, :])


@nki.jit
def gates(chosen: Tensor, weights: Tensor, experts: int) -> Tensor:
    """Of a few tokens the experts that are hit, and each token's weight for each expert.

    Args:
        chosen: uint32 [tokens, top], at most 128 tokens.
        weights: float32 [tokens, top].
        experts: how many there are, at most 128.

    Returns:
        gate float32 [tokens, experts]; hits int32 [experts, 1], rising, 0 after the last; count int32 [1, 1] of them.
    """
    name = "moe.gates"
    tokens, top = dimensions(name, "chosen", chosen, 2)
    require(tokens <= PARTITIONS, name, "tokens of chosen", tokens, f"at most {PARTITIONS}")
    require(0 < experts <= PARTITIONS, name, "experts", experts, f"1 to {PARTITIONS}")
    same(name, "shape of weights", tuple(weights.shape), (tokens, top))
    which, share = sbuf((tokens, top), nl.float32), loaded(weights)
    nisa.tensor_copy(dst=which, src=loaded(chosen), engine=nisa.engine.vector)
    single = one_hot(which, numbers(experts))
    mine = sbuf(single.shape, nl.float32)
    nisa.tensor_tensor(
        dst=mine, data1=single, data2=share.expand_dim(2).broadcast(2, experts), op=nl.multiply,
        engine=nisa.engine.vector,
    )  # fmt: skip
    gate, hits, count = result((tokens, experts), nl.float32), result((experts, 1), nl.int32), result((1, 1), nl.int32)
    nisa.dma_copy(dst=gate, src=summed(mine, nl.float32))
    _list_hits(summed(single, nl.bfloat16), hits, count)
    return gate, hits, count


def _list_hits(mask: Tensor, hits: Tensor, count: Tensor) -> None:
    """The experts with a token, without gaps: those that have none are sent past the end, where nothing is written."""
    tokens, experts = mask.shape
    ones = constant(1.0, PARTITIONS, PARTITIONS, nl.bfloat16)
    number, before, total = bank(experts, 1), bank(experts, 1), bank(1, 1)
    nisa.nc_matmul(dst=number, stationary=mask, moving=ones[:tokens, :1])
    hit = sbuf((experts, 1), nl.bfloat16)
    nisa.tensor_scalar(dst=hit, data=number, op0=nl.minimum, operand0=1.0)
    nisa.nc_matmul(dst=before, stationary=kept(ones, nl.less, 0.0)[:experts, :experts], moving=hit)
    nisa.nc_matmul(dst=total, stationary=ones[:experts, :1], moving=hit)
    away, place = sbuf((experts, 1), nl.float32), sbuf((experts, 1), nl.int32)
    nisa.tensor_scalar(
        dst=away, data=hit, op0=nl.multiply, operand0=-float(experts), op1=nl.add, operand1=float(experts),
        engine=nisa.engine.vector,
    )  # fmt: skip
    nisa.tensor_tensor(dst=place, data1=away, data2=before, op=nl.add)
    nisa.dma_copy(dst=hits, src=constant(0, experts, 1, nl.int32))
    own = sbuf((experts, 1), nl.int32)
    nisa.iota(dst=own, pattern=[[1, 1]], channel_multiplier=1)
    nisa.dma_copy(dst=hits.vector_select(0, place), src=own, oob_mode=nisa.oob_mode.skip)
    used = sbuf((1, 1), nl.int32)
    nisa.tensor_copy(dst=used, src=total, engine=nisa.engine.vector)
    nisa.dma_copy(dst=count, src=used)
