"""SwiGLU experts: only those that tokens go to, each with rows of its own, or for a few tokens with all of them.

How many blocks there are and whose each is, the kernel reads into registers: loops have as many trips as the routing
asks for. Rows of a block are gathered token by token, turned by TensorE, and go through the expert as through any
MLP. ``combine`` gathers what came back and adds it up by the tokens' weights.
"""

from __future__ import annotations

import trainshed.nki as nki
import trainshed.nki.isa as nisa
import trainshed.nki.language as nl
from trainshed.kernels.attention_tiles import BANK, bank, copied, dimensions, multiple, parts, result, same
from trainshed.kernels.common import PARTITIONS, Tensor, loaded, require, sbuf
from trainshed.kernels.mlp_swiglu import Store, block_rows, check_weights, layers
from trainshed.kernels.moe_route import constant, dispatch, gates, route

#: 16-bit columns of a PSUM bank.
TURNED = 2 * BANK


def expert_rows(tokens: int, experts: int, top: int, features: int, hidden: int) -> int:
    """Rows of a block: 256, at which TensorE works as long as the weights take to come, or 128 where a mean expert
    has fewer or 256 have no room beside their hidden features.
    """  # fmt: skip
    mean = tokens * top / experts
    fits = block_rows(2 * PARTITIONS, features, hidden, 2) == 2 * PARTITIONS
    return 2 * PARTITIONS if mean >= PARTITIONS and fits else PARTITIONS


@nki.jit
def experts(x: Tensor, gate_up: Tensor, down: Tensor, source: Tensor, block_expert: Tensor, blocks: Tensor) -> Tensor:
    """The MLP of every block of rows by the block's expert.

    Args:
        x: [tokens, features], 16 bits.
        gate_up, down: as :func:`trainshed.kernels.mlp_swiglu.swiglu`, an axis of experts before.
        source, block_expert, blocks: as :func:`trainshed.kernels.moe_route.dispatch` gives them; a block has at most
            512 rows.

    Returns:
        y [most blocks, rows, features]; blocks that are not in use are not written.
    """
    name = "moe.experts"
    features = dimensions(name, "x", x, 2)[1]
    most, rows, _ = dimensions(name, "source", source, 3)
    hidden = _check_experts(name, features, gate_up, down)
    tiles = multiple(name, "rows of source", rows, PARTITIONS)
    room = block_rows(BANK, features, hidden, x.itemsize)
    require(rows <= room, name, "rows of source", rows, f"at most {room}: their hidden features in SBUF")
    same(name, "shape of block_expert", tuple(block_expert.shape), (most, 1))
    same(name, "shape of blocks", tuple(blocks.shape), (1, 1))
    y = result((most, rows, features), x.dtype)
    order = source.reshape((most, tiles, PARTITIONS))
    used, owner = nisa.register_alloc(), nisa.register_alloc()
    nisa.register_load(used, blocks)
    for block in nl.dynamic_range(used):
        nisa.register_load(owner, block_expert[block])
        tokens = loaded(order[block].permute((1, 0)))
        layers(_turned(x, tokens), gate_up[owner], down[owner], Store(y[block], 0))
    return y


def _check_experts(name: str, features: int, gate_up: Tensor, down: Tensor) -> int:
    """The hidden features, once the shapes of all experts' weights agree."""
    dimensions(name, "down", down, 3)
    hidden = check_weights(name, features, tuple(gate_up.shape[1:]), tuple(down.shape[1:]))
    same(name, "experts of gate_up", gate_up.shape[0], down.shape[0])
    return hidden


def _turned(x: Tensor, tokens: Tensor) -> Tensor:
    """Rows of x as [128, features / 128, rows]: partition p has features p · features / 128 and following."""
    steps, rows = x.shape[1] // PARTITIONS, tokens.shape[1] * PARTITIONS
    made = sbuf((PARTITIONS, steps, rows), x.dtype)
    for index in range(tokens.shape[1]):
        gathered = sbuf((PARTITIONS, x.shape[1]), x.dtype)
        nisa.dma_copy(dst=gathered, src=x.vector_select(0, tokens[:, index : index + 1]))
        runs = gathered.reshape((PARTITIONS, PARTITIONS, steps))
        for group in parts(steps, TURNED // PARTITIONS):
            count = group.stop - group.start
            product = bank(PARTITIONS, count * PARTITIONS, x.dtype).reshape((PARTITIONS, count, PARTITIONS))
            for step in range(count):
                nisa.nc_transpose(dst=product[:, step, :], data=runs[:, :, group.start + step])
            columns = slice(index * PARTITIONS, (index + 1) * PARTITIONS)
            copied(made[:, group, columns], product, scalar=group.start * PARTITIONS // TURNED % 2 > 0)
    return made


@nki.jit
def combine(y: Tensor, positions: Tensor, weights: Tensor) -> Tensor:
    """Each token's rows, added up by its weights.

    Args:
        y: [most blocks, rows, features] of :func:`experts`.
        positions: int32 [tokens, top], rows counted over all blocks.
        weights: float32 [tokens, top].

    Returns:
        [tokens, features].
    """
    name = "moe.combine"
    most, rows, features = dimensions(name, "y", y, 3)
    tokens, top = dimensions(name, "positions", positions, 2)
    same(name, "shape of weights", tuple(weights.shape), (tokens, top))
    out, flat = result((tokens, features), y.dtype), y.reshape((most * rows, features))
    for part in parts(tokens, PARTITIONS):
        place, share = loaded(positions[part, :]), loaded(weights[part, :])
        shape = part.stop - part.start, features
        total = sbuf(shape, nl.float32)
        ready = sbuf(shape, y.dtype)
        for slot in range(top):
            mine, column = sbuf(shape, y.dtype), slice(slot, slot + 1)
            nisa.dma_copy(dst=mine, src=flat.vector_select(0, place[:, column]))
            dst = ready if slot == top - 1 else total
            if slot == 0:
                nisa.activation(dst=dst, op=nl.copy, data=mine, scale=share[:, column])
            else:
                nisa.scalar_tensor_tensor(
                    dst=dst, data=mine, op0=nl.multiply, operand0=share[:, column], op1=nl.add, operand1=total
                )
        nisa.dma_copy(dst=out[part, :], src=ready)
    return out


@nki.jit
def routed(x: Tensor, gate_up: Tensor, down: Tensor, source: Tensor, block_expert: Tensor, blocks: Tensor,
           positions: Tensor, weights: Tensor) -> Tensor:  # fmt: skip
    """:func:`experts`, then :func:`combine`: a prompt's layer once its routing is known."""
    return combine(experts(x, gate_up, down, source, block_expert, blocks), positions, weights)


@nki.jit
def layer(xT: Tensor, x: Tensor, router: Tensor, gate_up: Tensor, down: Tensor, top: int, rows: int) -> Tensor:
    """The whole layer of a prompt: :func:`route`, :func:`dispatch`, :func:`experts`, :func:`combine`.

    Args:
        xT, x: the tokens in both layouts, [features, tokens] for the router and [tokens, features] to gather from.
        router, top: as of ``route``; gate_up, down: as of ``experts``.
        rows: of a block, see :func:`expert_rows`.
    """
    same("moe.layer", "shape of x", tuple(x.shape), tuple(xT.shape[::-1]))
    chosen, weights = route(xT, router, top)
    positions, source, block_expert, blocks = dispatch(chosen, router.shape[1], rows)
    return routed(x, gate_up, down, source, block_expert, blocks, positions, weights)


@nki.jit
def few(xT: Tensor, gate_up: Tensor, down: Tensor, gate: Tensor, hits: Tensor, count: Tensor) -> Tensor:
    """A few tokens through every expert that is hit: each one's weights are read once, and nothing is gathered.

    Args:
        xT: [features, tokens], at most 128 tokens.
        gate_up, down: as of :func:`experts`.
        gate, hits, count: as :func:`trainshed.kernels.moe_route.gates` gives them.

    Returns:
        [tokens, features].
    """
    name = "moe.few"
    features, tokens = dimensions(name, "xT", xT, 2)
    number = down.shape[0]
    _check_experts(name, features, gate_up, down)
    require(tokens <= PARTITIONS, name, "tokens of xT", tokens, f"at most {PARTITIONS}")
    same(name, "shape of gate", tuple(gate.shape), (tokens, number))
    same(name, "shape of hits", tuple(hits.shape), (number, 1))
    same(name, "shape of count", tuple(count.shape), (1, 1))
    x = loaded(xT.reshape((PARTITIONS, features // PARTITIONS, tokens)))
    shares, total = loaded(gate), constant(0.0, tokens, features, nl.float32)
    used, owner = nisa.register_alloc(), nisa.register_alloc()
    nisa.register_load(used, count)
    for index in nl.dynamic_range(used):
        nisa.register_load(owner, hits[index])
        layers(x, gate_up[owner], down[owner], _Sum(total, shares[:, nl.ds(owner, 1)]))
    out, ready = result((tokens, features), xT.dtype), sbuf((tokens, features), xT.dtype)
    nisa.tensor_copy(dst=ready, src=total, engine=nisa.engine.vector)
    nisa.dma_copy(dst=out, src=ready)
    return out


class _Sum(nl.NKIObject):
    """Adds pieces of a result, by their tokens' weights."""

    def __init__(self, total: Tensor, share: Tensor) -> None:
        self.total = total
        self.share = share

    def take(self, rows: slice, columns: slice, product: Tensor) -> None:
        """One piece."""
        held = self.total[rows, columns]
        nisa.scalar_tensor_tensor(
            dst=held, data=product, op0=nl.multiply, operand0=self.share, op1=nl.add, operand1=held
        )


@nki.jit
def layer_few(xT: Tensor, router: Tensor, gate_up: Tensor, down: Tensor, top: int) -> Tensor:
    """The whole layer of a few tokens: :func:`route`, :func:`gates`, :func:`few`."""
    chosen, weights = route(xT, router, top)
    gate, hits, count = gates(chosen, weights, router.shape[1])
    return few(xT, gate_up, down, gate, hits, count)
