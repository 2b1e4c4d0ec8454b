"""Operators on NeuronCores: engines side by side, and what no overlap hides.

An operator takes the longest of its engines' totals (TensorE, VectorE, ScalarE, DMA with the HBM behind it), and what
precedes the overlap: inside a compiled graph the wait for the operator before, in a kernel by itself the first tile's
load and the last tile's store. No roofline ratio, nothing fitted: what a compiler or framework loses against such a
kernel is data in ``software``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trainshed.core import BYTES, Activity, Array, Cost, Number, longest, scaled, total
from trainshed.ops.base import OpCost, Rank, Tiles, implements, together
from trainshed.ops.engines import Engines, whole
from trainshed.ops.tiles import chosen, given

#: Work of a backward pass relative to the forward pass (attention: five products instead of two).
BACKWARD_ATTENTION, BACKWARD_SCAN = 2.5, 2.0


@implements("neuroncore")
@dataclass(frozen=True, kw_only=True, eq=False)
class NeuronOps:
    """Operators of one logical NeuronCore."""

    rank: Rank
    engines: Engines
    alone: bool
    """Every operator is a program by itself (a kernel on the bench), not one of a compiled graph."""

    def __init__(self, rank: Rank, *, alone: bool = False) -> None:
        object.__setattr__(self, "rank", rank)
        object.__setattr__(self, "alone", alone)
        object.__setattr__(self, "engines", Engines(rank=rank))

    def matmul(
        self,
        *,
        what: str,
        m: Number,
        k: Number,
        n: Number,
        count: Number = 1.0,
        dtype: str,
        weights: str,
        activations: str = "bf16",
        tiles: Tiles | None = None,
        read_weights: bool = True,
    ) -> OpCost:
        """TensorE over 128-row tiles, VectorE evicting PSUM (and converting operands), DMA of operands and result."""
        e = self.engines.of("matmul")
        sizes = (BYTES[activations], BYTES[weights], BYTES[activations])
        t = chosen(e, m, k, n, sizes) if tiles is None else given(e, tiles, m, k, n, sizes)
        loaded = t.weights if read_weights else 0.0
        passed = self._passed(count * (m * k + m * n) * BYTES[activations])
        read, written = count * passed * t.read, count * passed * t.written
        vector = [e.vector(count * m * n * t.evictions, width=e.bank)]
        converted: Number = 0.0
        mixed = weights.startswith("mx") and e.product(dtype).startswith("mx")  # MX operands of any width mix
        if BYTES[weights] < BYTES[dtype] and not mixed:  # stored narrower than products run: dequantised on the way
            converted = converted + count * k * n
            vector.append(e.vector(count * k * n, width=e.bank, lanes="narrow", what="VectorE dequantise"))
        if BYTES[dtype] < BYTES[activations] and BYTES[dtype] < 2:
            converted = converted + count * m * k
            vector.append(e.quantise(count * m * k, e.product(dtype)))
        size = read + count * loaded + written
        moved = e.dma(
            ("x in", read, count * passed * t.rows[0]),
            ("w in", count * loaded, count * t.rows[1] * read_weights),
            ("y out", written, count * passed * t.rows[2]),
        )  # fmt: skip
        parts = [self._products(m, k, n, count, dtype, e), total("VectorE", vector), moved]
        activity = Activity(
            macs={e.product(dtype): count * m * k * n}, vector=count * m * n * t.evictions + converted,
            memory={
                "hbm": size, "psum": count * m * n * t.evictions * BYTES["fp32"] * 2,
                "sbuf": size + self._sbuf_operands(m, k, n, count, dtype),
            },
            written=written,
        )  # fmt: skip
        return self._kernel(what, parts, activity, first=t.first, last=t.last)

    def _passed(self, size: Number) -> Number:
        """1 where activations of ``size`` bytes go through HBM: always for a kernel by itself."""
        return 1.0 if self.alone else self.engines.spilled(size)

    def _products(
        self, m: Number, k: Number, n: Number, count: Number, dtype: str, engines: Engines | None = None
    ) -> Cost:
        """TensorE with x stationary (128 rows of it while w streams) or w stationary, whichever takes fewer cycles."""
        e = engines or self.engines
        deep = whole(k, e.depth(dtype))
        by_rows, by_columns = deep * whole(m, e.partitions), deep * whole(n, e.partitions)
        rows, columns = whole(n, e.bank), whole(m, e.bank)
        wide = by_rows * e.issue(n, rows, dtype) <= by_columns * e.issue(m, columns, dtype)
        moving = np.where(wide, by_rows * n, by_columns * m)
        instructions = np.where(wide, by_rows * rows, by_columns * columns)
        return e.tensor(dtype, count * moving, count * instructions)

    def _sbuf_operands(self, m: Number, k: Number, n: Number, count: Number, dtype: str) -> Number:
        """Bytes that TensorE reads from SBUF: one operand once, the other once per 128 rows of the first."""
        tiles = whole(m, self.engines.partitions)
        return count * (m * k + tiles * k * n) * BYTES[dtype]

    def _kernel(
        self,
        what: str,
        parts: Sequence[Cost],
        activity: Activity,
        *,
        first: Number = 0.0,
        last: Number = 0.0,
        serial: bool = True,
    ) -> OpCost:
        """Engines side by side, and what no overlap hides (nothing without work)."""
        busy = longest("engines", parts)
        present = np.where(np.asarray(busy.value) > 0, 1.0, 0.0)
        if not serial:
            return OpCost(time=busy.named(what), activity=activity, launches=0.0)
        before = self.engines.fill(first, last, present) if self.alone else self.engines.handover(present)
        time = total(what, [busy, before])
        return OpCost(time=time, activity=activity, launches=present)

    def experts(
        self,
        *,
        what: str,
        tokens: Number,
        active: Number,
        k: Number,
        n: Number,
        gated: bool,
        dtype: str,
        weights: str,
        activations: str = "bf16",
    ) -> OpCost:
        """One product per active expert, up (and gate) and down; each active expert's weights are read once."""
        rows = np.maximum(np.asarray(tokens, dtype=np.float64) / np.maximum(active, 1.0), 1.0)
        wide = 2.0 * n if gated else n
        kernels = NeuronOps(self.engines.of("experts").rank, alone=self.alone)
        up = kernels.matmul(
            what=f"{what} up", m=rows, k=k, n=wide, count=active, dtype=dtype, weights=weights, activations=activations
        )
        down = kernels.matmul(
            what=f"{what} down", m=rows, k=n, n=k, count=active, dtype=dtype, weights=weights, activations=activations
        )
        return together(what, [up, down])

    def attention(
        self,
        *,
        what: str,
        sequences: Number,
        queries: Number,
        keys: Number,
        heads: Number,
        kv_heads: Number,
        qk_dim: Number,
        v_dim: Number,
        causal: bool,
        dtype: str,
        kv: str,
        latent: Number = 0,
        paired: Number | None = None,
        direction: str = "forward",
    ) -> OpCost:
        """Flash attention, tile by tile: scores, exp, transposed probabilities, values; only Q, K, V, O in HBM.

        TensorE: both products and the transpose of the probabilities. ScalarE: exp. VectorE: the running maximum and
        the copy of the probabilities out of PSUM. Causal masks skip whole tiles above the diagonal.
        """  # fmt: skip
        e = self.engines.of("attention")
        shared, qk, v, decompress = _latent(queries, keys, qk_dim, v_dim, latent)
        pairs = _pairs(queries, keys, causal, e.bank) if paired is None else paired
        part = np.minimum(pairs / np.maximum(queries * keys, 1.0), 1.0)
        rows = queries * heads / np.maximum(np.where(shared, 1.0, kv_heads), 1.0)
        groups = sequences * np.where(shared, 1.0, kv_heads)
        elements = sequences * heads * pairs
        products = [
            self._products(rows, qk, keys, groups * part, dtype, e).named("TensorE scores"),
            self._products(rows, keys, v, groups * part, dtype, e).named("TensorE values"),
            e.transpose(dtype, elements / e.partitions, what="TensorE transpose of probabilities"),
            self._products(keys, latent, (qk_dim + v_dim) * heads, sequences * decompress, dtype, e).named(
                "TensorE keys"
            ),
        ]
        exp_vector, scalar = e.exponential(elements)
        passes = [e.vector(elements, width=e.bank, what="VectorE maximum")]
        passes.append(exp_vector or e.vector(elements, width=e.bank, what="VectorE copy of probabilities"))
        dims = (qk_dim, v_dim, latent)
        transfers = self._attention_bytes(sequences, queries, keys, heads, kv_heads, dims, dtype, kv)
        size = transfers[0][1] + transfers[1][1]
        parts = [total("TensorE", products), total("VectorE", passes), scalar, e.dma(*transfers)]
        times = BACKWARD_ATTENTION if direction == "backward" else 1.0
        if direction == "backward":
            parts = [scaled(c.what, c, times) for c in parts]
        macs = sequences * (heads * pairs * (qk + v) + decompress * keys * latent * (qk_dim + v_dim) * heads)
        activity = Activity(
            macs={e.product(dtype): macs}, vector=2 * elements, scalar=elements,
            memory={"hbm": size, "sbuf": size + 2 * elements * BYTES[dtype], "psum": 4 * elements * BYTES["fp32"]},
            written=transfers[1][1] * v_dim / (qk_dim + v_dim),
        ).scaled(times)  # fmt: skip
        tile = e.partitions * v_dim * BYTES[dtype]
        return self._kernel(what, parts, activity, first=tile, last=tile)

    def _attention_bytes(
        self,
        sequences: Number,
        queries: Number,
        keys: Number,
        heads: Number,
        kv_heads: Number,
        dims: tuple[Number, Number, Number],
        dtype: str,
        kv: str,
    ) -> list[tuple[str, Number, Number]]:
        """DMA transfers of the cache, and of queries and outputs.

        Of a cache a partition takes a run of consecutive keys of one head, so that rows are as long as the context
        allows; keys that were just made (a prompt attending itself) come in rows of a token, or are still on chip.
        """  # fmt: skip
        qk_dim, v_dim, latent = dims
        mla = np.asarray(latent) > 0
        part = self.engines.partitions
        fresh = np.asarray(queries) >= keys
        cached = sequences * keys * np.where(mla, latent, kv_heads * (qk_dim + v_dim)) * BYTES[kv]
        runs = np.where(mla, 1.0, 2.0 * kv_heads) * np.minimum(keys, part)
        rows = sequences * np.where(fresh, np.minimum(2.0 * keys, runs), runs)
        tokens = sequences * queries
        own = tokens * heads * (qk_dim + v_dim) * BYTES[dtype]
        passed = self._passed(own + np.where(fresh, cached, 0.0))
        read = np.where(fresh, passed, 1.0)
        return [
            ("keys and values", read * cached, read * rows),
            ("queries and outputs", passed * own, passed * 2.0 * tokens),
        ]  # fmt: skip

    def elementwise(
        self,
        *,
        what: str,
        elements: Number,
        reads: Number,
        writes: Number,
        vector: Number,
        transcendental: Number,
        dtype: str,
        fused: bool = False,
        row: Number | None = None,
    ) -> OpCost:
        """VectorE and ScalarE side by side with the tensors' way through SBUF (none of it when fused).

        ``row``: columns that one partition holds, one DMA descriptor moves and one instruction takes (2,048 if none).
        """
        e = self.engines
        tensors = elements * (reads + writes) * BYTES[dtype]
        passed = 0.0 if fused else self._passed(tensors)
        size = passed * tensors
        columns = 4 * e.bank if row is None else row
        parts = [
            e.vector(elements * vector, width=columns, lanes="wide"),
            e.scalar(elements * transcendental, width=columns),
            e.dma(("tensors", size, size / (columns * BYTES[dtype]))),
        ]
        activity = Activity(
            vector=elements * vector, scalar=elements * transcendental,
            memory={"hbm": size, "sbuf": size + tensors},
            written=passed * elements * writes * BYTES[dtype],
        )  # fmt: skip
        tile = np.minimum(elements, e.partitions * columns) * BYTES[dtype]
        return self._kernel(what, parts, activity, first=tile * (reads > 0), last=tile * (writes > 0), serial=not fused)

    def scan(
        self,
        *,
        what: str,
        tokens: Number,
        heads: Number,
        key_dim: Number,
        value_dim: Number,
        groups: Number,
        conv_width: Number,
        conv_channels: Number,
        chunk: Number,
        sequences: Number,
        dtype: str,
        direction: str = "forward",
    ) -> OpCost:
        """Chunked recurrence (SSD, gated delta rule): inside a chunk as attention, between chunks through the state.

        TensorE: scores of a chunk per group, then per head scores · values, the chunk's contribution to the state, and
        the state read by the chunk. VectorE: decays and masks, the state's update, the convolution.
        """
        e = self.engines
        length = np.clip(np.asarray(tokens / np.maximum(sequences, 1.0)), 1.0, chunk)
        chunks = tokens / length
        products = [
            self._products(length, key_dim, length, chunks * groups, dtype).named("TensorE scores"),
            self._products(length, length, value_dim, chunks * heads, dtype).named("TensorE inside chunks"),
            self._products(key_dim, length, value_dim, chunks * heads, dtype).named("TensorE into states"),
            self._products(length, key_dim, value_dim, chunks * heads, dtype).named("TensorE out of states"),
        ]
        state = chunks * heads * key_dim * value_dim
        masks = chunks * heads * length * length
        vector = masks + 2 * state + tokens * (conv_channels * conv_width + 2 * heads * value_dim)
        scalar = masks + tokens * conv_channels
        streams = tokens * (2 * heads * value_dim + 2 * groups * key_dim + 2 * conv_channels) * BYTES[dtype]
        kept = 2 * sequences * heads * key_dim * value_dim * BYTES["fp32"]
        passed = self._passed(streams)
        size = passed * streams + kept
        rows = size / (4 * e.bank * BYTES[dtype])
        times = BACKWARD_SCAN if direction == "backward" else 1.0
        parts = [
            total("TensorE", products), e.vector(vector, width=e.bank), e.scalar(scalar, width=e.bank),
            e.dma(("streams and states", size, rows)),
        ]  # fmt: skip
        macs = tokens * (groups * length * key_dim + heads * value_dim * (length + 2 * key_dim))
        activity = Activity(
            macs={e.product(dtype): macs},
            vector=vector,
            scalar=scalar,
            memory={"hbm": size, "sbuf": 2 * size},
            written=kept / 2 + passed * tokens * heads * value_dim * BYTES[dtype],
        )
        if direction == "backward":
            parts = [scaled(c.what, c, times) for c in parts]
        return self._kernel(what, parts, activity.scaled(times))

    def lookup(self, *, what: str, tokens: Number, width: Number, dtype: str) -> OpCost:
        """Rows of the table gathered into SBUF and written out: one descriptor per row and way."""
        size = 2 * tokens * width * BYTES[dtype]
        moved = self.engines.dma(("rows", size, 2 * tokens))
        return self._kernel(what, [moved], Activity(memory={"hbm": size, "sbuf": size}, written=size / 2))

    def copy(self, *, what: str, size: Number) -> OpCost:
        """HBM to HBM: every byte crosses the DMA engines once and the HBM twice."""
        e = self.engines
        moved = [e.dma(("bytes", size, size / (4 * e.bank * BYTES["fp32"]))), e.hbm(2 * size)]
        return self._kernel(what, moved, Activity(memory={"hbm": 2 * size}, written=size))


def _pairs(queries: Number, keys: Number, causal: bool, block: float) -> Number:
    """Query-key pairs of one head that are computed: all, or with a causal mask whole blocks up to the diagonal."""
    if not causal:
        return queries * keys
    ramp = np.minimum(queries, keys)
    diagonal = np.where(ramp > 1, ramp * np.minimum(keys, block) / 2, 0.0)
    below: Number = np.minimum(queries * keys - ramp * (ramp - 1) / 2 + diagonal, queries * keys)
    return below


def _latent(
    queries: Number, keys: Number, qk_dim: Number, v_dim: Number, latent: Number
) -> tuple[NDArray[np.bool_], Array, Array, Array]:
    """How multi-head latent attention runs: (cache shared by heads, score width, value width, keys decompressed).

    A few queries attend in the latent space; many find it cheaper to expand the keys first. A prompt attending itself
    has its keys expanded already (the model's own projection).
    """
    expand = np.where(np.asarray(queries) >= keys, 0.0, 1.0)
    in_latent = queries * 2 * latent < queries * (qk_dim + v_dim) + expand * latent * (qk_dim + v_dim)
    shared = (np.asarray(latent) > 0) & in_latent
    decompress = np.where((np.asarray(latent) > 0) & ~in_latent, expand, 0.0)
    return shared, np.where(shared, latent, qk_dim), np.where(shared, latent, v_dim), decompress
