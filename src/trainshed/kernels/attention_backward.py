"""Backward pass of flash attention: dq, dk and dv from the logarithms of the sums that the forward pass saved.

Scores are made anew, keys in blocks of 512, queries in tiles of 128 rows. With queries on partitions exp gives the
probabilities and VectorE their gradients as TensorE wants them for dv and dk; only the gradients of the scores are
turned, for dq. dv and dk add up in PSUM over the queries, dq in SBUF over the blocks of keys. TensorE has the most to
do; it makes the scores of one tile while ScalarE and VectorE are at the one before.
"""

from __future__ import annotations

from typing import Any

import trainshed.nki as nki
import trainshed.nki.isa as nisa
import trainshed.nki.language as nl
from trainshed.kernels.attention_plan import GROUP, PIECE, RESIDENT, SUMS, Unit, units
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
def backward(qT: Tensor, q: Tensor, kT: Tensor, k: Tensor, vT: Tensor, doT: Tensor, do: Tensor, o: Tensor, lse: Tensor,
             scale: float | None = None, causal: bool = True) -> Tensor:  # fmt: skip
    """Gradients of :func:`trainshed.kernels.attention_prefill.prefill`.

    Args:
        qT, doT: queries and the output's gradient, [heads, d, queries], d at most 128.
        q, do, o: these and the output with tokens on partitions, [heads, 128, queries / 128, d]: token ``t * 128 + p``
            at [p, t].
        kT, vT: [kv_heads, d, keys].
        k: [kv_heads, 128, keys / 128, d].
        lse: float32 [heads, 128, queries / 128], as the forward pass returns it.
        scale, causal: as in the forward pass.

    Queries and keys are multiples of 128; sums of d float32 per query, and where heads share keys two per key, fit
    into 128 KiB of each partition. Several cores share the heads of keys.

    Returns:
        dq as q, dk and dv as k.
    """
    _check(qT, q, kT, k, vT, doT, do, o, lse, causal)
    heads, dim, queries = qT.shape
    dq, dk, dv = result(q.shape, q.dtype), result(k.shape, k.dtype), result(k.shape, k.dtype)
    own = own_rows(kT.shape[0])
    if own.start < own.stop:
        share = heads // kT.shape[0]
        mine = slice(own.start * share, own.stop * share)
        operands = {"qT": qT[mine], "q": q[mine], "doT": doT[mine], "do": do[mine], "o": o[mine], "lse": lse[mine]}
        operands["kT"] = kT[own]
        operands["k"] = k[own]
        operands["vT"] = vT[own]
        at = _Backward(operands, (dq[mine], dk[own], dv[own]), softmax_scale(scale, dim), causal)
        _run(at, units(mine.stop - mine.start, queries, kT.shape[2], causal))
    return dq, dk, dv


def _run(at: Any, work: tuple[Unit, ...]) -> None:
    """Scores of each unit, beside what the unit before and the one before that are at."""
    for turn in range(len(work) + 2):
        if turn < len(work):
            at.scores(work[turn])
        if 1 <= turn <= len(work):
            at.keys_and_values(work[turn - 1])
        if turn >= 2:
            at.queries(work[turn - 2])


def _check(qT: Tensor, q: Tensor, kT: Tensor, k: Tensor, vT: Tensor, doT: Tensor, do: Tensor, o: Tensor, lse: Tensor,
           causal: bool) -> None:  # fmt: skip
    """Whether all shapes agree."""
    name = "attention.backward"
    heads, dim, queries = dimensions(name, "qT", qT, 3)
    kv_heads, depth, keys = dimensions(name, "kT", kT, 3)
    require(dim <= PARTITIONS, name, "d of qT", dim, f"at most {PARTITIONS}")
    share = multiple(name, "heads of qT", heads, kv_heads)
    query_tiles = multiple(name, "queries of qT", queries, PARTITIONS)
    key_tiles = multiple(name, "keys of kT", keys, PARTITIONS)
    same(name, "d of kT", depth, dim)
    rows = (heads, PARTITIONS, query_tiles, dim)
    same(name, "shape of doT", tuple(doT.shape), tuple(qT.shape))
    same(name, "shape of q", tuple(q.shape), rows)
    same(name, "shape of do", tuple(do.shape), rows)
    same(name, "shape of o", tuple(o.shape), rows)
    same(name, "shape of lse", tuple(lse.shape), rows[:3])
    same(name, "shape of vT", tuple(vT.shape), tuple(kT.shape))
    same(name, "shape of k", tuple(k.shape), (kv_heads, PARTITIONS, key_tiles, dim))
    require(not causal or keys >= queries, name, "keys of kT", keys, f"at least the {queries} queries: causal")
    sums = dim * 4 * (query_tiles + 2 * key_tiles * (share > 1))
    require(sums <= SUMS, name, "bytes per partition of sums over queries and keys", sums, f"at most {SUMS}")


class _Backward(nl.NKIObject):
    """Where the kernel is: tiles in SBUF and PSUM, and the sums under way."""

    def __init__(self, operands: dict[str, Tensor], results: tuple[Tensor, ...], scale: float, causal: bool) -> None:
        self.operands = operands
        queries = operands["q"]
        keys = operands["k"]
        self.share = queries.shape[0] // keys.shape[0]
        self.keep = queries.shape[2] * PARTITIONS <= RESIDENT
        self.scale = scale
        ready_for_exp()
        self.dim = queries.shape[3]
        self.dtype = queries.dtype
        self.ones: Tensor = identity(nl.bfloat16) if causal else None
        self.mask: Tensor = above_diagonal(nl.bfloat16) if causal else None
        self.results = results
        self.tiles: dict[Any, Any] = {}
        """By name: operands with where they lie, sums, results that are not stored yet."""

    # --- operands -----------------------------------------------------------------------------------------

    def _piece(self, name: str, head: int, start: int, until: int) -> Tensor:
        """The piece of an operand with token ``start`` in it; it stays while head and ``until`` do."""
        index = start // PIECE
        where = (head, until)
        tensor = self.operands[name]
        if self.tiles.get((name, index), (None,))[0] != where:
            if name.endswith("T"):
                view = tensor[head, :, parts(tensor.shape[2], PIECE)[index]]
            else:
                view = tensor[head, :, parts(tensor.shape[2], GROUP)[index], :]
            self.tiles[name, index] = where, loaded(view)
        return self.tiles[name, index][1]

    def _until(self, unit: Unit) -> int:
        """What the pieces of queries stay for: all blocks of keys, or one."""
        return 0 if self.keep else unit.block

    def _query(self, name: str, unit: Unit) -> Tensor:
        """A tile of 128 queries, as columns or as rows."""
        piece = self._piece(name, unit.head, unit.query * PARTITIONS, self._until(unit))
        place = unit.query % GROUP
        return piece[:, place * PARTITIONS : (place + 1) * PARTITIONS] if name.endswith("T") else piece[:, place, :]

    def _keys(self, name: str, unit: Unit) -> Tensor:
        """The block's keys, as columns or as rows."""
        piece = self._piece(name, unit.head // self.share, unit.block * BANK, unit.head)
        start = unit.block * BANK % PIECE
        if name.endswith("T"):
            return piece[:, start : start + unit.width]
        return piece[:, start // PARTITIONS : (start + unit.width) // PARTITIONS, :]

    def _logarithms(self, unit: Unit) -> Tensor:
        """-lse of the tile's queries."""
        name = "lse", unit.head
        if name not in self.tiles:
            held = loaded(self.operands["lse"][unit.head])
            self.tiles[name] = sbuf(held.shape, nl.float32)
            nisa.tensor_scalar(dst=self.tiles[name], data=held, op0=nl.multiply, operand0=-1.0)
        return self.tiles[name][:, unit.query : unit.query + 1]

    def _delta(self, unit: Unit) -> Tensor:
        """Σ do · o of the tile's queries, found for a whole piece with its first block of keys."""
        group = unit.query // GROUP
        name = "delta", unit.head, group
        if name not in self.tiles:
            start = unit.query * PARTITIONS
            o = self._piece("o", unit.head, start, self._until(unit))
            do = self._piece("do", unit.head, start, self._until(unit))
            products = sbuf(o.shape, nl.float32)
            nisa.tensor_tensor(dst=products, data1=o, data2=do, op=nl.multiply)
            self.tiles[name] = sbuf(o.shape[:2], nl.float32)
            nisa.tensor_reduce(dst=self.tiles[name], op=nl.add, data=products, axis=2)
        place = unit.query % GROUP
        return self.tiles[name][:, place : place + 1]

    # --- the steps ----------------------------------------------------------------------------------------

    def scores(self, unit: Unit) -> None:
        """Probabilities from q · kᵀ, and the gradients of the scores from do · vᵀ."""
        product = bank(PARTITIONS, unit.width)
        nisa.nc_matmul(dst=product, stationary=self._query("qT", unit), moving=self._keys("kT", unit))
        if unit.diagonal:
            hidden = product[:, unit.width - PARTITIONS : unit.width]
            nisa.nc_matmul(dst=hidden, stationary=self.ones, moving=self.mask, accumulate=True)
        gradients = bank(PARTITIONS, unit.width)
        nisa.nc_matmul(dst=gradients, stationary=self._query("doT", unit), moving=self._keys("vT", unit))
        weights = sbuf((PARTITIONS, unit.width), self.dtype)
        nisa.activation(dst=weights, op=nl.exp, data=product, scale=self.scale, bias=self._logarithms(unit))
        changes = sbuf((PARTITIONS, unit.width), self.dtype)
        nisa.scalar_tensor_tensor(
            dst=changes, data=gradients, op0=nl.subtract, operand0=self._delta(unit), op1=nl.multiply, operand1=weights
        )
        self.tiles["weights", unit] = weights, changes

    def keys_and_values(self, unit: Unit) -> None:
        """The tile's part of dv and dk, and the gradients of its scores turned."""
        weights, changes = self.tiles.pop(("weights", unit))
        turned = bank(PARTITIONS, unit.width, changes.dtype)
        self._added("dv", unit, weights, self._query("do", unit), (turned, changes))
        held = sbuf(changes.shape, changes.dtype)
        copied(held, turned, scalar=True)
        self.tiles["turned", unit] = held
        self._added("dk", unit, changes, self._query("q", unit))
        if unit.closes:
            self._closed("dv", unit, 1.0, 2)
            self._closed("dk", unit, self.scale, 1)

    def _added(self, name: str, unit: Unit, rows: Tensor, moving: Tensor,
               turned: tuple[Tensor, Tensor] | None = None) -> None:  # fmt: skip
        """rowsᵀ · moving of each 128 keys, added up in PSUM over the block's queries.

        Between them the second tile of ``turned`` is turned into the first, which NeuronCore-v4 does side by side.
        """
        if (name, "started") not in self.tiles:
            self.tiles[name, "started"] = 0
            self.tiles[name] = bank(PARTITIONS, BANK // PARTITIONS * self.dim).reshape((PARTITIONS, -1, self.dim))
        columns = parts(unit.width, PARTITIONS)
        for index in range(len(columns)):
            nisa.nc_matmul(
                dst=self.tiles[name][:, index, :], stationary=rows[:, columns[index]], moving=moving,
                accumulate=index < self.tiles[name, "started"],
            )  # fmt: skip
            if turned is not None:
                nisa.nc_transpose(dst=turned[0][:, columns[index]], data=turned[1][:, columns[index]])
        self.tiles[name, "started"] = max(self.tiles[name, "started"], len(columns))

    def _closed(self, name: str, unit: Unit, factor: float, place: int) -> None:
        """A block's dk or dv out of PSUM, to the sum over the heads that share it, and stored with its whole piece."""
        count = self.tiles.pop((name, "started"))
        product = self.tiles.pop(name)[:, :count, :]
        kv_head, member = divmod(unit.head, self.share)
        first, last = member == 0, member == self.share - 1
        start = unit.block * BANK // PARTITIONS
        held = None
        if not (first and last):
            shape = PARTITIONS, self.operands["k"].shape[2], self.dim
            if first and unit.block == 0:
                self.tiles[name, "sum"] = sbuf(shape, nl.float32)
            held = self.tiles[name, "sum"][:, start : start + count, :]
        self._stored(name, self.results[place][kv_head], start, held, product, (factor, first, last))

    def queries(self, unit: Unit) -> None:
        """The tile's dq of this block, added to that of the blocks before."""
        turned, keys = self.tiles.pop(("turned", unit)), self._keys("k", unit)
        product = bank(PARTITIONS, self.dim)
        columns = parts(unit.width, PARTITIONS)
        for index in range(len(columns)):
            nisa.nc_matmul(
                dst=product, stationary=turned[:, columns[index]], moving=keys[:, index, :], accumulate=index > 0
            )
        held = None
        if not (unit.first and unit.last):
            if unit.first:
                self.tiles["sum", unit.query] = sbuf((PARTITIONS, 1, self.dim), nl.float32)
            held = self.tiles["sum", unit.query]
        self._stored("dq", self.results[0][unit.head], unit.query, held, product.reshape((PARTITIONS, 1, self.dim)),
                     (self.scale, unit.first, unit.last))  # fmt: skip

    def _stored(self, name: str, target: Tensor, start: int, held: Tensor, product: Tensor,
                how: tuple[float, bool, bool]) -> None:  # fmt: skip
        """``held += factor * product``; the last time into the result, which goes out by groups of tiles."""
        factor, first, last = how
        dst = held
        if last:
            group = parts(target.shape[1], GROUP)[start // GROUP]
            if start == group.start:
                self.tiles[name, "out"] = sbuf((PARTITIONS, group.stop - group.start, self.dim), target.dtype)
            place = start - group.start
            dst = self.tiles[name, "out"][:, place : place + product.shape[1], :]
        if first:
            nisa.tensor_scalar(dst=dst, data=product, op0=nl.multiply, operand0=factor)
        else:
            nisa.scalar_tensor_tensor(
                dst=dst, data=product, op0=nl.multiply, operand0=factor, op1=nl.add, operand1=held
            )
        if last and start + product.shape[1] == group.stop:
            nisa.dma_copy(dst=target[:, group, :], src=self.tiles[name, "out"])
