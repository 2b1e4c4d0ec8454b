"""Operators on NeuronCores: engines side by side, and what no overlap hides.

An operator takes the longest of its engines' totals (TensorE, VectorE, ScalarE, DMA with the HBM behind it), and what
precedes the overlap: inside a compiled graph the wait for the operator before, in a kernel by itself the first tile's
load and the last tile's store. No roofline ratio, nothing fitted: what a compiler or framework loses against such a
kernel is data in ``software``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from trainshed.core import BYTES, Activity, Cost, Number, cheapest, longest, scaled, total
from trainshed.ops.base import OpCost, Rank, Tiles, implements
from trainshed.ops.engines import Engines, whole
from trainshed.ops.neuron_attention import Attention, backward, backward_transfers, prefill
from trainshed.ops.neuron_decode import decode
from trainshed.ops.tiles import chosen, given

#: Bytes per partition that one DMA of weights moves, and tiles into which kernels cut tensors that have no rows.
LOAD, CUTS = 4096, 2
#: Work of a backward pass relative to the forward pass (attention: five products instead of two).
BACKWARD_ATTENTION, BACKWARD_SCAN = 2.5, 2.0


@dataclass(frozen=True, eq=False)
class _Work:
    """What the engines do for an operator."""

    parts: tuple[Cost, ...]
    activity: Activity
    exposed: tuple[Number, ...]
    """Of each engine, the part that no other hides."""
    tiles: Mapping[str, Number]
    """Of a block that the engines work on together."""


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
        """TensorE over 128-row tiles, VectorE and ScalarE evicting PSUM, DMA of operands and result."""
        by_hand = self.engines.of("matmul").rank.tensor_gap is None  # a compiler takes what has the fewest gaps
        stationary = "few" if by_hand and read_weights and dtype != "fp32" else ""
        made = self._matmul(m, k, n, count, dtype, weights, activations, tiles, read_weights, stationary)
        family = "gemm.matmul_mx" if self.engines.product(dtype).startswith("mx") else "gemm.matmul"
        return self._kernel(what, made.parts, made.activity, family, made.tiles, exposed=made.exposed)

    def _matmul(
        self,
        m: Number,
        k: Number,
        n: Number,
        count: Number,
        dtype: str,
        weights: str,
        activations: str,
        tiles: Tiles | None,
        read_weights: bool,
        stationary: str,
    ) -> _Work:
        """The engines' work of ``matmul``."""
        e = self.engines.of("matmul")
        sizes = (BYTES[activations], BYTES[weights], BYTES[activations])
        t = chosen(e, m, k, n, sizes) if tiles is None else given(e, tiles, m, k, n, sizes)
        loaded = t.weights if read_weights else 0.0
        passed = self._passed(count * (m * k + m * n) * BYTES[activations])
        read, written = count * passed * t.read, count * passed * t.written
        evicted = count * m * n * t.evictions
        added = tiles is not None  # blocks of k, whose sums VectorE adds up in SBUF
        vector = [e.vector(evicted if added else evicted / 2, width=e.bank, what="VectorE evicts")]
        scalar = e.scalar(0.0 if added else evicted / 2, width=e.bank, what="ScalarE evicts")
        converted: Number = 0.0
        if _converted(weights, dtype, e):
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
        products = self._products(m, k, n, count, dtype, e, stationary)
        parts = (e.ramp(products) if self.alone else products, total("VectorE", vector), scalar, moved)
        activity = Activity(
            macs={e.product(dtype): count * m * k * n}, vector=evicted + converted,
            memory={
                "hbm": size, "psum": evicted * BYTES["fp32"] * 2,
                "sbuf": size + self._sbuf_operands(m, k, n, count, dtype),
            },
            written=written,
        )  # fmt: skip
        # TensorE has what came before by the time the last load is there; its last tile leaves PSUM after that.
        each = np.maximum(size / np.maximum(count, 1.0), 1.0)
        load = np.minimum(e.partitions * LOAD / each, 1.0) / np.maximum(count, 1.0)
        last = 1.0 / np.maximum(count * whole(m, e.partitions) * whole(n, e.bank), 1.0)
        ends = (load, last, last, np.minimum((t.first + t.last) / each, 1.0))
        return _Work(parts, activity, ends, {"rows": t.block[0], "columns": t.block[1], "of k": t.block[2]})

    def _passed(self, size: Number) -> Number:
        """1 where activations of ``size`` bytes go through HBM: always for a kernel by itself."""
        return 1.0 if self.alone else self.engines.spilled(size)

    def _products(
        self,
        m: Number,
        k: Number,
        n: Number,
        count: Number,
        dtype: str,
        engines: Engines | None = None,
        stationary: str = "",
    ) -> Cost:
        """TensorE with x stationary (128 rows of it while w streams) or w; if not said, what takes fewer cycles."""
        e = engines or self.engines
        deep = whole(k, e.depth(dtype))
        by_rows, by_columns = deep * whole(m, e.partitions), deep * whole(n, e.partitions)
        rows, columns = whole(n, e.bank), whole(m, e.bank)
        wide = by_rows * e.issue(n, rows, dtype) <= by_columns * e.issue(m, columns, dtype)
        if stationary == "few":  # rows of one tile stay: the weights come more slowly than TensorE takes them
            wide = wide | (np.asarray(m) <= e.partitions)
        elif stationary:
            wide = np.full_like(wide, stationary == "x")
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
        family: str = "",
        tiles: Mapping[str, Number] | None = None,
        *,
        exposed: Sequence[Number] = (),
        ends: Sequence[Cost] = (),
        serial: bool = True,
        moves: int = 2,
        table: bool = False,
    ) -> OpCost:
        """Engines side by side, and what no overlap hides (nothing without work).

        ``family`` and ``tiles``: the kernel of the library, if there is one, and what it works on at a time.
        ``exposed``: of each engine, the part of its work before the others can begin and after they have ended;
        ``ends``: the same, all told.
        ``moves``: DMAs that follow one another at the ends; ``table``: ScalarE loads one.
        """
        busy = longest("engines", parts)
        busy = busy.by(family, tiles or {}) if family else busy
        present = np.where(np.asarray(busy.value) > 0, 1.0, 0.0)
        if not serial:
            return OpCost(time=busy.named(what), activity=activity, launches=0.0)
        if self.alone and ends:
            before = scaled("first tile in, last tile out", total("ends", ends), present)
        elif self.alone:
            # Of the longest engine all is counted already.
            shown = [
                scaled(f"{part.what}, ends", part, np.where(np.asarray(part.value) >= busy.value, 0.0, share))
                for part, share in zip(parts, exposed, strict=False)
            ]
            fill = self.engines.fill(present, moves=moves, table=table)
            before = total("first tile in, last tile out", [fill, *shown])
        else:
            before = self.engines.handover(present)
        return OpCost(time=total(what, [busy, before]), activity=activity, launches=present)

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
        """Up (and gate) and down of every active expert in one kernel; each one's weights are read once."""
        rows = np.maximum(np.asarray(tokens, dtype=np.float64) / np.maximum(active, 1.0), 1.0)
        wide = 2.0 * n if gated else n
        kernels = NeuronOps(self.engines.of("experts").rank, alone=self.alone)
        by_hand = kernels.rank.tensor_gap is None
        up = kernels._matmul(rows, k, wide, active, dtype, weights, activations, None, True, "w" if by_hand else "")
        down = kernels._matmul(rows, n, k, active, dtype, weights, activations, None, True, "x" if by_hand else "")
        names = ("TensorE", "VectorE", "ScalarE", "DMA")
        parts = [
            total(name, [one, two]) for name, one, two in zip(names, up.parts, down.parts, strict=True)
        ]  # fmt: skip
        return kernels._kernel(
            what, parts, up.activity + down.activity, "moe.few", up.tiles, exposed=down.exposed, table=True
        )

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
        """Flash attention (``ops/neuron_attention.py``): in tiles of queries, or for a few queries keys on partitions.

        Whichever takes less time; masks skip whole tiles above the diagonal.
        """
        e = self.engines.of("attention")
        sizes = Attention(
            engines=e, sequences=sequences, queries=queries, keys=keys, heads=heads, kv_heads=kv_heads, qk_dim=qk_dim,
            v_dim=v_dim, causal=causal, dtype=dtype, kv=kv, latent=latent, paired=paired, alone=self.alone,
        )  # fmt: skip
        back = direction == "backward"
        _, qk, v, decompress = sizes.layout
        times = BACKWARD_ATTENTION if back else 1.0
        elements = times * sequences * heads * sizes.pairs
        (_, read, _), (_, own, _) = backward_transfers(sizes) if back else sizes.transfers()
        macs = times * sequences * heads * sizes.pairs * (qk + v)
        macs = macs + times * sequences * decompress * keys * latent * (qk_dim + v_dim) * heads
        size = read + own
        activity = Activity(
            macs={e.product(dtype): macs}, vector=2 * elements, scalar=elements,
            memory={"hbm": size, "sbuf": size + 2 * elements * BYTES[dtype], "psum": 4 * elements * BYTES["fp32"]},
            written=own if back else own * v_dim / (qk_dim + v_dim),
        )  # fmt: skip
        found = [
            self._kernel(what, plan.parts, activity, plan.family, plan.tiles, ends=plan.ends)
            for plan in ([backward(sizes)] if back else [prefill(sizes), decode(sizes)])
        ]
        if len(found) == 1:
            return found[0]
        time = cheapest(what, [one.time for one in found])
        return OpCost(time=time, activity=activity, launches=found[0].launches)

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
        copies: Number = 0.0,
    ) -> OpCost:
        """VectorE and ScalarE side by side with the tensors' way through SBUF (none of it when fused).

        ``row``: columns that one partition holds, one DMA descriptor moves and one instruction takes (2,048 if none);
        ``copies``: passes of ScalarE that need no function.
        """
        e = self.engines
        tensors = elements * (reads + writes) * BYTES[dtype]
        passed = 0.0 if fused else self._passed(tensors)
        size = passed * tensors
        columns = 4 * e.bank if row is None else row
        parts = [
            e.vector(elements * vector, width=columns, lanes="wide"),
            e.scalar(elements * (transcendental + copies), width=columns),
            e.dma(("tensors", size, size / (columns * BYTES[dtype]))),
        ]
        activity = Activity(
            vector=elements * vector, scalar=elements * (transcendental + copies),
            memory={"hbm": size, "sbuf": size + tensors},
            written=passed * elements * writes * BYTES[dtype],
        )  # fmt: skip
        most = 1.0 / CUTS if row is None else 1.0
        tile = np.minimum(e.partitions * columns / np.maximum(elements, 1.0), most)
        # The last tile's passes are hidden while the one before it is stored.
        passes = np.asarray(parts[0].value + parts[1].value)
        stored = np.asarray(parts[2].value) * writes / np.maximum(reads + writes, 1.0)
        hidden = np.where(tile < 1, stored, 0.0)
        shown = tile * np.maximum(1.0 - hidden / np.maximum(passes, 1e-12), 0.0)
        table = bool(np.any(np.asarray(transcendental) > 0))
        sizes = {"partitions": e.partitions, "columns": columns}
        return self._kernel(
            what, parts, activity, "rowwise", sizes, exposed=(shown, shown, tile), serial=not fused, table=table
        )

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
        return self._kernel(what, moved, Activity(memory={"hbm": 2 * size}, written=size), "rowwise.copy", {}, moves=1)


def _converted(weights: str, dtype: str, engines: Engines) -> bool:
    """Whether weights stored narrower than products run have to be widened first.

    TensorE takes operands of different dtypes (FP8 beside bf16), and MX formats of any width side by side.
    """
    mixed = weights.startswith("mx") and engines.product(dtype).startswith("mx")
    return BYTES[weights] < BYTES[dtype] and not mixed and weights != "fp8"
