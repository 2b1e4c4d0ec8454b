"""Flash attention over a prompt: queries in tiles of 128 rows, keys in chunks of 1,024 columns.

TensorE makes the scores of a chunk, VectorE scales them out of PSUM and finds their maximum, exp sums as it goes, and
TensorE turns the probabilities (they leave PSUM on VectorE and ScalarE in turn) and multiplies them with the values.
Up to four chunks share one maximum, so that the products with values add up in PSUM over a section of 4,096 keys;
from section to section the sums are rescaled. What is masked is hidden by one more product added to the scores, and
tiles above the diagonal are left out. While exp works on one tile, TensorE has the scores of the next.
"""

from __future__ import annotations

from typing import Any

import trainshed.nki as nki
import trainshed.nki.isa as nisa
import trainshed.nki.language as nl
from trainshed.kernels.attention_plan import CHUNK, GROUP, RESIDENT, Block, on_scalar, schedule
from trainshed.kernels.attention_tiles import (
    BANK,
    above_diagonal,
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


@nki.jit
def prefill(qT: Tensor, kT: Tensor, v: Tensor, scale: float | None = None, causal: bool = True,
            with_lse: bool = False) -> Tensor:  # fmt: skip
    """``softmax(scale · q · kᵀ) · v`` of every head.

    Args:
        qT: [heads, d, queries], d at most 128. Sequences of a batch are more heads.
        kT: [kv_heads, d, keys]; head h has the keys and values of ``h * kv_heads // heads``.
        v: [kv_heads, 128, keys / 128, d]: key ``t * 128 + p`` at [p, t], so that a partition finds long rows.
        scale: 1/√d unless given.
        causal: the last query attends to all keys, the one before to all but the last, and so on.
        with_lse: return the logarithm of the sum of exp as well, which the backward pass takes.

    Queries and keys are multiples of 128. Several cores share the heads.

    Returns:
        o [heads, 128, queries / 128, d], rows as those of v; with ``with_lse`` also float32
        [heads, 128, queries / 128].
    """
    heads, dim, queries = dimensions("attention.prefill", "qT", qT, 3)
    _check(qT, kT, v, causal)
    keys, tiles = kT.shape[2], queries // PARTITIONS
    out = result((heads, PARTITIONS, tiles, dim), qT.dtype)
    lse: Tensor = result((heads, PARTITIONS, tiles), nl.float32) if with_lse else None
    own = own_rows(heads)
    if own.start < own.stop:
        at = _Prefill(qT[own], kT, v, out[own], softmax_scale(scale, dim), causal)
        at.share = heads // kT.shape[0]
        at.first = own.start
        _run(at, schedule(own.stop - own.start, queries, keys, causal))
        if with_lse:
            for head in range(own.start, own.stop):
                nisa.dma_copy(dst=lse[head], src=at.logarithms(head - own.start))
    return (out, lse) if with_lse else out


def _run(at: Any, order: tuple[tuple[str, Block, int], ...]) -> None:
    """Every step in its turn; transposes and products of the same turn take turns on TensorE."""
    for place in range(len(order)):
        step, block, chunk = order[place]
        if step == "scores":
            at.scores(block, chunk)
        elif step == "exponentials":
            at.exponentials(block, chunk)
        elif step == "turn":
            beside = order[place + 1]
            at.turn(block, chunk, beside if _together(order[place], beside) else None)
        else:
            if not _together(order[place - 1], order[place]):
                at.values(block, chunk)
            if chunk == len(block.keys) - 1:
                at.finish(block)


def _together(one: tuple[str, Block, int], two: tuple[str, Block, int]) -> bool:
    """Whether a step turns probabilities, and the next multiplies those of an earlier chunk."""
    return one[0] == "turn" and two[0] == "values" and one[1:] != two[1:]


def _check(qT: Tensor, kT: Tensor, v: Tensor, causal: bool) -> None:
    """Whether the shapes of queries, keys and values agree."""
    name = "attention.prefill"
    heads, dim, queries = qT.shape
    kv_heads, depth, keys = dimensions(name, "kT", kT, 3)
    require(dim <= PARTITIONS, name, "d of qT", dim, f"at most {PARTITIONS}")
    multiple(name, "heads of qT", heads, kv_heads)
    multiple(name, "queries of qT", queries, PARTITIONS)
    tiles = multiple(name, "keys of kT", keys, PARTITIONS)
    same(name, "d of kT", depth, dim)
    same(name, "shape of v", tuple(v.shape), (kv_heads, PARTITIONS, tiles, dim))
    require(not causal or keys >= queries, name, "keys of kT", keys, f"at least the {queries} queries: causal")


class _Prefill(nl.NKIObject):
    """Where the kernel is: the tiles in SBUF and PSUM, and the sums of the query tiles under way."""

    def __init__(self, qT: Tensor, kT: Tensor, v: Tensor, out: Tensor, scale: float, causal: bool) -> None:
        self.qT = qT
        self.kT = kT
        self.v = v
        self.out = out
        self.scale = scale
        self.share = 1
        """Heads that share keys."""
        self.first = 0
        """The first head of this core."""
        self.keep = kT.shape[2] <= RESIDENT
        self.generation = int(nisa.get_nc_version())
        if self.generation < 4:
            ready_for_exp()
        self.ones: Tensor = identity(nl.bfloat16) if causal else None
        self.mask: Tensor = above_diagonal(nl.bfloat16) if causal else None
        self.copies = 0
        self.tiles: dict[tuple[Any, ...], Any] = {}
        """By what and where: query groups, chunks of keys and values, results; scores, probabilities, statistics."""

    # --- what is loaded -----------------------------------------------------------------------------------

    def _queries(self, block: Block) -> Tensor:
        """The block's columns of qT."""
        group = block.query // GROUP
        columns = parts(self.qT.shape[2], GROUP * PARTITIONS)[group]
        if ("q", block.head) not in self.tiles or self.tiles["q", block.head][0] != group:
            self.tiles["q", block.head] = group, loaded(self.qT[block.head, :, columns])
        start = block.query % GROUP * PARTITIONS
        return self.tiles["q", block.head][1][:, start : start + PARTITIONS]

    def _chunk(self, what: str, block: Block, chunk: int) -> Tensor:
        """A whole chunk of keys or values: held as long as the kernel needs it, else read again for each group."""
        index, head = block.keys[chunk].start // CHUNK, (self.first + block.head) // self.share
        key = (what, head, index) if self.keep else (what, head, index, block.head, block.query // GROUP)
        if key not in self.tiles:
            columns = parts(self.kT.shape[2], CHUNK)[index]
            if what == "k":
                self.tiles[key] = loaded(self.kT[head, :, columns])
            else:
                rows = slice(columns.start // PARTITIONS, columns.stop // PARTITIONS)
                self.tiles[key] = loaded(self.v[head, :, rows, :])
        return self.tiles[key]

    def _column(self, what: str, block: Block) -> Tensor:
        """A query tile's float32 per row, beside those of its head's other tiles."""
        if (what, block.head) not in self.tiles:
            self.tiles[what, block.head] = sbuf((PARTITIONS, self.qT.shape[2] // PARTITIONS), nl.float32)
        return self.tiles[what, block.head][:, block.query : block.query + 1]

    # --- the steps ----------------------------------------------------------------------------------------

    def scores(self, block: Block, chunk: int) -> None:
        """q · kᵀ of a chunk in PSUM, then scaled in SBUF, and the running maximum."""
        keys, queries = self._chunk("k", block, chunk), self._queries(block)
        width = block.keys[chunk].stop - block.keys[chunk].start
        product = bank(PARTITIONS, width)
        for part in parts(width, BANK):
            nisa.nc_matmul(dst=product[:, part], stationary=queries, moving=keys[:, part])
        last = chunk == len(block.keys) - 1
        if last and block.diagonal:
            hidden = product[:, width - PARTITIONS : width]
            nisa.nc_matmul(dst=hidden, stationary=self.ones, moving=self.mask, accumulate=True)
        scaled = sbuf((PARTITIONS, width), nl.float32)
        if chunk == 0:
            self.tiles["most", block.key] = (
                self._column("m", block) if block.first else sbuf((PARTITIONS, 1), nl.float32)
            )
        most = self.tiles["most", block.key]
        nisa.tensor_scalar_reduce(
            dst=scaled, data=product, op0=nl.multiply, operand0=self.scale, reduce_op=nl.maximum, reduce_res=most,
            reduce_cmd=nisa.reduce_cmd.load_reduce if chunk else nisa.reduce_cmd.reset_reduce,
            reduce_init=most if chunk else None, reduce_res_negate=last and self.generation < 4,
        )  # fmt: skip
        self.tiles["s", block.key, chunk] = scaled
        if last and not block.first:
            self.tiles["higher", block.key] = self._higher(block, most)

    def exponentials(self, block: Block, chunk: int) -> None:
        """Probabilities of a chunk and their running sum; of a later section also how much earlier sums shrink."""
        if chunk == 0:
            most = self.tiles["most", block.key]
            self.tiles["total", block.key] = self._column("l", block) if block.first else sbuf(most.shape, nl.float32)
            if not block.first:
                before, after = self._column("m", block), self.tiles.pop(("higher", block.key))
                shrink = sbuf(most.shape, nl.float32)
                self._exp(shrink, before, after, None, first=True)
                nisa.tensor_copy(dst=before, src=after, engine=nisa.engine.vector)
                self.tiles["shrink", block.key] = shrink
                self.tiles["most", block.key] = after
        scores = self.tiles.pop(("s", block.key, chunk))
        made = sbuf(scores.shape, self.v.dtype)
        self._exp(made, scores, self.tiles["most", block.key], self.tiles["total", block.key], first=chunk == 0)
        self.tiles["p", block.key, chunk] = made

    def _higher(self, block: Block, most: Tensor) -> Tensor:
        """The maximum of this section and those before; both negated where exp is ScalarE's."""
        higher = sbuf((PARTITIONS, 1), nl.float32)
        op = nl.minimum if self.generation < 4 else nl.maximum
        nisa.tensor_tensor(dst=higher, data1=self._column("m", block), data2=most, op=op)
        return higher

    def _exp(self, dst: Tensor, data: Tensor, most: Tensor, total: Tensor | None, first: bool) -> None:
        """exp(data - maximum), and in ``total`` the sum since the ``first``; without it data are maxima themselves.

        VectorE of NeuronCore-v4 subtracts the maximum, ScalarE adds the negated one; so the maxima of earlier
        sections, as data, are negated too.
        """
        if self.generation == 4:
            again = total is not None and not first
            nisa.exponential(
                dst=dst, src=data, max_value=most, reduce_res=total, reduce_init=total if again else 0.0,
                reduce_cmd=nisa.reduce_cmd.load_reduce if again else nisa.reduce_cmd.reset_reduce,
            )  # fmt: skip
            return
        nisa.activation(
            dst=dst, op=nl.exp, data=data, scale=-1.0 if total is None else 1.0, bias=most, reduce_op=nl.add,
            reduce_res=total, reduce_cmd=nisa.reduce_cmd.reset_reduce if first else nisa.reduce_cmd.reduce,
        )  # fmt: skip

    def turn(self, block: Block, chunk: int, beside: tuple[str, Block, int] | None) -> None:
        """The probabilities of a chunk with keys on partitions, and the values ``beside`` them, of an earlier chunk.

        A transpose follows a product, so that on NeuronCore-v4 they run side by side.
        """
        made = self.tiles.pop(("p", block.key, chunk))
        columns = parts(made.shape[1], PARTITIONS)
        turned = bank(PARTITIONS, made.shape[1], made.dtype)
        count = 0 if beside is None else self.tiles["t", beside[1].key, beside[2]].shape[1] // PARTITIONS
        for index in range(max(len(columns), count)):
            if index < len(columns):
                nisa.nc_transpose(dst=turned[:, columns[index]], data=made[:, columns[index]])
            if index < count and beside is not None:
                self._product(beside[1], beside[2], index)
        if beside is not None:
            self.tiles.pop(("t", beside[1].key, beside[2]))
        held = sbuf(made.shape, made.dtype)
        copied(held, turned, scalar=on_scalar(self.generation, self.copies))
        self.copies += 1
        self.tiles["t", block.key, chunk] = held

    def values(self, block: Block, chunk: int) -> None:
        """The chunk's probabilities times values, added up in PSUM over the section."""
        turned = self.tiles["t", block.key, chunk]
        for index in range(turned.shape[1] // PARTITIONS):
            self._product(block, chunk, index)
        self.tiles.pop(("t", block.key, chunk))

    def _product(self, block: Block, chunk: int, index: int) -> None:
        """The product of the chunk's ``index``-th 128 keys."""
        if chunk + index == 0:
            self.tiles["o", block.key] = bank(PARTITIONS, self.qT.shape[1])
        turned, held = self.tiles["t", block.key, chunk], self._chunk("v", block, chunk)
        nisa.nc_matmul(
            dst=self.tiles["o", block.key], stationary=turned[:, index * PARTITIONS : (index + 1) * PARTITIONS],
            moving=held[:, index, :], accumulate=chunk + index > 0,
        )  # fmt: skip

    def finish(self, block: Block) -> None:
        """A section's products join the sums; after the last they are divided, and a full group is stored."""
        sums = self.tiles.pop(("o", block.key))
        total = self._column("l", block)
        if not (block.first and block.last):
            sums = self._joined(block, sums, total)
        if not block.last:
            return
        inverse = sbuf((PARTITIONS, 1), nl.float32)
        nisa.reciprocal(dst=inverse, data=total)
        group = parts(self.out.shape[2], GROUP)[block.query // GROUP]
        place = block.query - group.start
        if place == 0:
            self.tiles["out", block.head] = sbuf((PARTITIONS, group.stop - group.start, sums.shape[1]), self.out.dtype)
        ready = self.tiles["out", block.head]
        nisa.tensor_scalar(dst=ready[:, place, :], data=sums, op0=nl.multiply, operand0=inverse)
        if block.query == group.stop - 1:
            nisa.dma_copy(dst=self.out[block.head, :, group, :], src=ready)

    def _joined(self, block: Block, sums: Tensor, total: Tensor) -> Tensor:
        """The sums of a tile over the sections so far, in SBUF."""
        key = "sums", block.head, block.query
        if block.first:
            self.tiles[key] = sbuf(sums.shape, nl.float32)
            nisa.tensor_copy(dst=self.tiles[key], src=sums, engine=nisa.engine.vector)
            return self.tiles[key]
        held = self.tiles[key]
        shrink = self.tiles["shrink", block.key]
        more = self.tiles["total", block.key]
        nisa.scalar_tensor_tensor(dst=held, data=held, op0=nl.multiply, operand0=shrink, op1=nl.add, operand1=sums)
        nisa.scalar_tensor_tensor(dst=total, data=total, op0=nl.multiply, operand0=shrink, op1=nl.add, operand1=more)
        return self.tiles.pop(key) if block.last else held

    def logarithms(self, head: int) -> Tensor:
        """maximum + log(sum) of every query of a head."""
        most, total = self.tiles["m", head], self.tiles["l", head]
        found = sbuf(total.shape, nl.float32)
        nisa.activation(dst=found, op=nl.log, data=total)
        op = nl.subtract if self.generation < 4 else nl.add
        nisa.tensor_tensor(dst=found, data1=found, data2=most, op=op)
        return found
