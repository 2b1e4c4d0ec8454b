"""What attention's kernels ask of the engines of a NeuronCore: prompts and their backward pass.

A plan has every engine's work, and the ends that no overlap hides in a kernel by itself. Queries come in tiles of 128
rows (of the heads that share keys), keys in chunks of two PSUM banks; up to 4,096 keys share one maximum. Sizes may be
arrays. Counts of passes and instructions are those of such a kernel, rates are the engines' documented ones.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from trainshed.core import BYTES, Array, Cost, Number, formula, longest, scaled, total
from trainshed.ops.engines import Engines, whole

#: Keys that share one maximum; keys, or queries, that stay in SBUF for all that need them.
SECTION, RESIDENT = 4096.0, 8192.0
#: Tokens that one DMA loads, 128 of a partition at a time, and tiles of 128 keys of a cache.
PIECE, RUN = 1024.0, 64.0


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What the engines do: TensorE, VectorE, ScalarE, DMA, and where two share one their way to PSUM."""

    parts: list[Cost]
    ends: list[Cost]
    """Of a kernel by itself, one after another: what precedes and follows the overlap."""
    family: str
    tiles: Mapping[str, Number]


@dataclass(frozen=True, kw_only=True)
class Attention:
    """Sizes of an operator, its DMA transfers, and the plans for them."""

    engines: Engines
    sequences: Number
    queries: Number
    keys: Number
    heads: Number
    kv_heads: Number
    qk_dim: Number
    v_dim: Number
    causal: bool
    dtype: str
    kv: str
    latent: Number
    paired: Number | None
    alone: bool

    # --- sizes --------------------------------------------------------------------------------------------

    @cached_property
    def layout(self) -> tuple[NDArray[np.bool_], Array, Array, Array]:
        """See :func:`latent`."""
        return latent(self.queries, self.keys, self.qk_dim, self.v_dim, self.latent)

    @cached_property
    def pairs(self) -> Number:
        """Query-key pairs of one head that are computed: with a causal mask whole tiles up to the diagonal."""
        return pairs(self.queries, self.keys, self.causal, self.engines.partitions, self.paired)

    @property
    def part(self) -> Number:
        """The part of the square that these are."""
        share: Number = np.minimum(self.pairs / np.maximum(self.queries * self.keys, 1.0), 1.0)
        return share

    @property
    def groups(self) -> Number:
        """Heads of keys, of all sequences."""
        return self.sequences * np.where(self.layout[0], 1.0, self.kv_heads)

    @property
    def rows(self) -> Number:
        """Queries that share a head of keys."""
        heads: Number = self.heads / np.maximum(np.where(self.layout[0], 1.0, self.kv_heads), 1.0)
        return self.queries * heads

    @property
    def reach(self) -> Number:
        """Keys that a tile of queries attends to, on average."""
        return self.keys * self.part

    def cut(self, size: float) -> Number:
        """Chunks of ``size`` keys of a tile, on average: ends at a diagonal are at any multiple of 128."""
        most = whole(self.keys, size)
        if not self.causal:
            ends: Number = np.minimum(whole(self.reach, size), most)
            return ends
        mean = self.reach / size + (1.0 - self.engines.partitions / size) / 2
        within: Number = np.minimum(np.maximum(mean, np.minimum(most, 1.0)), most)
        return within

    # --- what moves ---------------------------------------------------------------------------------------

    def spilled(self, size: Number) -> Number:
        """1 where activations of ``size`` bytes go through HBM: always for a kernel by itself."""
        return 1.0 if self.alone else self.engines.spilled(size)

    def transfers(self) -> list[tuple[str, Number, Number]]:
        """DMA transfers of keys and values, and of queries and outputs.

        Of a cache a partition takes a run of consecutive keys of one head, so that rows are as long as the context
        allows; keys that were just made come a thousand tokens at a time, or are still on chip. Of more keys than
        stay in SBUF every thousand queries read their own. In a graph a row is all that a token has of a tensor.
        """
        mla = np.asarray(self.latent) > 0
        part, fresh = self.engines.partitions, np.asarray(self.queries) >= self.keys
        width = np.where(mla, self.latent, self.kv_heads * (self.qk_dim + self.v_dim))
        few = np.asarray(self.queries) < part
        run = np.where(few, part * np.minimum(RUN, 4 * part / np.clip(self.rows, 1.0, part)), PIECE)
        again = np.where(
            few | (np.asarray(self.keys) <= RESIDENT), 1.0, whole(self.queries, PIECE) * self.heads / self.kv_heads
        )
        cached = self.sequences * self.keys * width * BYTES[self.kv]
        lanes = np.minimum(self.keys, part) + np.minimum(self.qk_dim, part)
        cuts = whole(self.keys, run) * self.sequences * np.where(mla, whole(self.latent, part) / 2, self.kv_heads)
        tokens = self.sequences * self.queries
        own = tokens * self.heads * (self.qk_dim + self.v_dim) * BYTES[self.dtype]
        passed = self.spilled(own + np.where(fresh, cached, 0.0))
        read = np.where(fresh, passed, 1.0) * again
        pieces = self.sequences * self.heads * whole(self.queries, PIECE)
        rows = np.where(
            few,
            2.0 * np.minimum(tokens * self.heads, part),
            pieces * (np.minimum(self.qk_dim, part) + np.minimum(self.queries, part)),
        )
        filled = cuts * lanes
        if not self.alone:
            rows, filled = np.minimum(rows, 2.0 * tokens), np.where(fresh, np.minimum(filled, 2.0 * tokens), filled)
        return [
            ("keys and values", read * cached, read * filled),
            ("queries and outputs", passed * own, passed * rows),
        ]  # fmt: skip

    # --- engines ------------------------------------------------------------------------------------------

    def vector(self, what: str, columns: Number, count: Number, lanes: str = "full") -> Cost:
        """VectorE over so many columns of 128 rows in ``count`` instructions."""
        e = self.engines
        return e.vector(columns * e.partitions, width=_width(columns, count), lanes=lanes, what=f"VectorE {what}")

    def scalar(self, what: str, columns: Number, count: Number, lanes: str = "wide") -> Cost:
        """The same of ScalarE."""
        e = self.engines
        return e.scalar(columns * e.partitions, width=_width(columns, count), lanes=lanes, what=f"ScalarE {what}")

    def tensor(self, what: str, columns: Number, count: Number) -> Cost:
        """TensorE streaming so many columns in ``count`` matmuls."""
        return self.engines.tensor(self.dtype, columns, count, what=f"TensorE {what}")

    def turned(self, columns: Number) -> Cost:
        """Transposes of so many columns, 128 at a time."""
        return self.engines.transpose(self.dtype, columns, what="TensorE transposes")

    def products(self, what: str, columns: Number, wide: Number) -> Cost:
        """Products of so many columns of turned probabilities with ``wide`` columns of values."""
        tiles = columns / self.engines.partitions
        return self.tensor(what, tiles * wide, tiles * whole(wide, self.engines.bank))

    def exp(self, columns: Number, count: Number) -> Cost:
        """Of a VectorE that has it, else of ScalarE."""
        e = self.engines
        return e.exponential(columns * e.partitions, width=_width(columns, count))

    def one_core(self) -> Attention:
        """The same on a single core: what follows one another is not shared."""
        return replace(self, engines=replace(self.engines, rank=replace(self.engines.rank, cores=1)))

    def latency(self, times: float) -> Cost:
        """Results that pass the rows of the array and PSUM before another engine has them."""
        core = self.engines.core
        return formula(
            "TensorE results on their way", "s", "times * (rows / clock + overhead)", times=times,
            rows=core.tensor_rows, clock=core.tensor_clock, overhead=core.instruction_overhead,
        )  # fmt: skip

    def moved(self, what: str, size: Number, rows: Number, parts: Sequence[Cost] | None) -> Cost:
        """A DMA that all wait for: its bytes or descriptors, where DMA is not the longest, and its fixed time.

        Without ``parts`` the bytes or descriptors alone.
        """
        core = self.engines.core
        if parts is None:
            return formula(
                what, "s", "max(size / bandwidth, rows * each / engines)", size=size, rows=rows,
                bandwidth=core.dma_bandwidth, each=core.dma_per_descriptor, engines=core.dma_engines,
            )  # fmt: skip
        return formula(
            what, "s", "fixed + uncounted * max(size / bandwidth, rows * each / engines)", size=size, rows=rows,
            fixed=core.dma_fixed, bandwidth=core.dma_bandwidth, each=core.dma_per_descriptor, engines=core.dma_engines,
            uncounted=1.0 - longest_of(parts)[3],
        )  # fmt: skip


def _width(columns: Number, count: Number) -> Number:
    """Columns of an instruction."""
    return np.where(np.asarray(columns) > 0, columns / np.maximum(count, 1e-9), 1.0)


def pairs(queries: Number, keys: Number, causal: bool, block: float, seen: Number | None = None) -> Number:
    """Query-key pairs of one head that are computed: all, or with a causal mask whole blocks up to the diagonal.

    ``seen``: what a mask leaves, if it is more than that.
    """
    every = queries * keys
    ramp = np.minimum(queries, keys)
    below = every - ramp * (ramp - 1) / 2 if seen is None else np.minimum(seen, every)
    if not causal:
        return every if seen is None else below
    diagonal = np.where(ramp > 1, ramp * (np.minimum(keys, block) - 1) / 2, 0.0)
    computed: Number = np.minimum(below + diagonal, every)
    return computed


def latent(
    queries: Number, keys: Number, qk_dim: Number, v_dim: Number, width: Number
) -> tuple[NDArray[np.bool_], Array, Array, Array]:
    """How multi-head latent attention runs: (cache shared by heads, score width, value width, keys decompressed).

    A few queries attend in the latent space; many find it cheaper to expand the keys first. A prompt attending itself
    has its keys expanded already (the model's own projection).
    """
    expand = np.where(np.asarray(queries) >= keys, 0.0, 1.0)
    in_latent = queries * 2 * width < queries * (qk_dim + v_dim) + expand * width * (qk_dim + v_dim)
    shared = (np.asarray(width) > 0) & in_latent
    decompress = np.where((np.asarray(width) > 0) & ~in_latent, expand, 0.0)
    return shared, np.where(shared, width, qk_dim), np.where(shared, width, v_dim), decompress


# --- the ends: what the longest engine does in them is counted already -----------------------------------------


def longest_of(parts: Sequence[Cost]) -> list[Array]:
    """Of each part 1 where it is the longest."""
    most = longest("", parts).value
    return [np.where(np.asarray(part.value) >= most, 1.0, 0.0) for part in parts]


def _beyond(what: str, costs: Sequence[Cost | None], parts: Sequence[Cost]) -> Cost:
    """Work that engines do side by side, beyond what the longest part has of it."""
    found = [(cost, mask) for cost, mask in zip(costs, longest_of(parts), strict=False) if cost is not None]
    side = longest("side by side", [cost for cost, _ in found])
    own = longest("of the longest engine", [scaled(cost.what, cost, mask) for cost, mask in found])
    return formula(what, "s", "most - counted", most=side, counted=own)


def _chain(what: str, costs: Sequence[Cost | None], parts: Sequence[Cost]) -> Cost:
    """Work that engines do one after another, but for the longest one's."""
    found = [(cost, mask) for cost, mask in zip(costs, longest_of(parts), strict=False) if cost is not None]
    return total(what, [scaled(cost.what, cost, 1.0 - mask) for cost, mask in found])


# --- prompts ---------------------------------------------------------------------------------------------------


def prefill(a: Attention) -> Plan:
    """Tile by tile: scores, their maximum, exp, transposed probabilities, values; only Q, K, V, O in HBM."""
    e, (_, qk, v, decompress) = a.engines, a.layout
    tiles = a.groups * whole(a.rows, e.partitions)
    columns = tiles * a.reach
    chunks, sections = tiles * a.cut(2 * e.bank), tiles * a.cut(SECTION)
    more = sections - np.where(np.asarray(columns) > 0, tiles, 0.0)
    first = np.where(more > 0, tiles, 0.0) if not a.causal else np.minimum(more, tiles)
    deep, on_scalar = whole(qk, e.depth(a.dtype)), e.copies_on_scalar
    tensor = [
        a.tensor("scores", columns * deep, columns / e.bank * deep),
        a.turned(columns), a.products("values", columns, v),
        a.tensor("keys", expanded(a, decompress), expanded(a, decompress) / e.bank),
    ]  # fmt: skip
    if a.causal:
        tensor.append(a.tensor("masks", tiles * e.partitions, tiles))
    maxima = a.vector("maximum", columns, chunks)
    copies = a.scalar("copies of probabilities", columns * on_scalar, chunks * on_scalar, "narrow")
    sums = a.vector("sums of sections", (first + more) * v, first + more, "psum")
    outputs = a.vector("outputs", tiles * v, tiles)
    vector = [
        maxima, sums, outputs,
        a.vector("copies of probabilities", columns * (1 - on_scalar), chunks * (1 - on_scalar), "wide"),
        a.vector("statistics", tiles + 3 * more, tiles + 3 * more),
    ]  # fmt: skip
    scalar = [copies, a.scalar("statistics", more * (not e.exp_on_vector), more)]
    (vector if e.exp_on_vector else scalar).append(a.exp(columns, chunks))
    parts = [total("TensorE", tensor), total("VectorE", vector), total("ScalarE", scalar), e.dma(*a.transfers())]
    if a.alone:
        parts[0] = e.ramp(parts[0])
    if e.shared_psum:
        parts.append(total("PSUM, by turns", [maxima, copies, sums, outputs]))
    return Plan(
        parts=parts, ends=_prefill_ends(a.one_core(), parts, qk, v) if a.alone else [], family="attention",
        tiles={"queries": np.minimum(a.queries, e.partitions), "keys": np.minimum(a.keys, 2 * e.bank)},
    )  # fmt: skip


def expanded(a: Attention, decompress: Number) -> Number:
    """Columns in which TensorE makes keys and values of a latent cache."""
    part = a.engines.partitions
    made = whole((a.qk_dim + a.v_dim) * a.heads, part) * whole(a.latent, a.engines.depth(a.dtype))
    return a.sequences * decompress * a.keys * made


def _prefill_ends(a: Attention, parts: list[Cost], qk: Number, v: Number) -> list[Cost]:
    """The first tile's load, the scores of the first block, the probabilities of the last, its store."""
    e = a.engines
    begin = np.clip(a.keys - a.queries + e.partitions, 1.0, a.keys) if a.causal else a.reach
    block, tail = np.minimum(begin, SECTION), np.minimum(a.reach, a.keys - SECTION * (whole(a.keys, SECTION) - 1))
    if a.causal:
        tail = a.keys - SECTION * (whole(a.keys, SECTION) - 1)
    chunk, end = np.minimum(block, 2 * e.bank), np.minimum(tail, 2 * e.bank)
    size, piece = BYTES[a.dtype], np.minimum(a.queries, PIECE)
    lanes, on_scalar = np.minimum(qk, e.partitions), e.copies_on_scalar
    deep = whole(qk, e.depth(a.dtype))
    (_, read, _), (_, own, _) = a.transfers()
    pieces = np.maximum(a.sequences * a.heads * whole(a.queries, PIECE), 1.0)
    before = own / 2 / np.maximum(read + own, 1.0) * (1 - 1 / pieces)
    maxima = a.vector("maximum", block, whole(block, 2 * e.bank))
    count = whole(tail, 2 * e.bank)
    copies = a.scalar("copies", tail * on_scalar, count * on_scalar, "narrow")
    exp = a.exp(tail, count)
    last = [a.turned(end), a.products("values", end, v)]
    turn = total("TensorE", [a.turned(tail), a.products("values", tail, v)])
    copied = a.scalar("last copy", end, 1.0, "narrow")
    out = total("VectorE", [a.vector("reciprocal", 1.0, 1.0), a.vector("output", v, 1.0)])
    side: list[Cost | None]
    after: list[Cost | None]
    if e.exp_on_vector:
        side = [turn, exp, copies]
        after = [total("TensorE", last), total("VectorE", [a.exp(end, 1.0), out]), copied]
    else:
        half = a.vector("copies", tail * (1 - on_scalar), count * (1 - on_scalar), "wide")
        side = [turn, half, total("ScalarE", [exp, copies])]
        after = [total("TensorE", last), out, None]
    shared = [None, copies] if e.shared_psum else []  # after DMA, as in parts
    end_chain = _chain("last output", after, parts)
    stored = formula(
        "outputs before, meanwhile", "s", "-on_dma * min(stores, chain + wait)", chain=end_chain,
        on_dma=longest_of(parts)[3], stores=scaled("outputs before", parts[3], before), wait=e.core.semaphore,
    )  # fmt: skip
    return [
        a.moved("first tiles in", lanes * (piece + np.minimum(a.keys, PIECE)) * size, 2 * lanes, parts),
        _chain("first scores", [a.tensor("scores", chunk * deep, chunk / e.bank * deep)], parts),
        _beyond("maximum of the first block", [a.tensor("scores", block * deep, block / e.bank * deep), maxima,
                None, *([None, maxima] if e.shared_psum else [])], parts),
        _beyond("probabilities of the last block", [*side, *shared], parts),
        end_chain, stored, a.latency(3.0),
        a.moved("last tile out", piece * v * size, np.minimum(a.queries, e.partitions), parts),
    ]  # fmt: skip


# --- their backward pass ---------------------------------------------------------------------------------------


def backward(a: Attention) -> Plan:
    """Tiles of 128 queries against blocks of 512 keys: scores again, gradients of probabilities, five products."""
    e, d, dv = a.engines, a.qk_dim, a.v_dim
    tiles = a.groups * whole(a.rows, e.partitions)
    columns, units = tiles * a.reach, tiles * a.cut(e.bank)
    closed = a.sequences * a.heads * whole(a.keys, e.bank)
    deep, wide = whole(d, e.depth(a.dtype)), whole(dv, e.depth(a.dtype))
    tensor = [
        a.tensor("scores", columns * deep, units * deep), a.tensor("do · v", columns * wide, units * wide),
        a.products("dv", columns, dv), a.turned(columns), a.products("dk", columns, d), a.products("dq", columns, d),
        a.tensor("masks", tiles * e.partitions * a.causal, tiles * a.causal),
    ]  # fmt: skip
    exp = a.scalar("exponential", columns, units)
    copies = a.scalar("copies", columns, units, "narrow")
    changes = a.vector("gradients of scores", columns, units, "psum")
    sums = a.vector("dq", units * d, units, "psum")
    closing = a.vector("dk and dv", closed * (d + dv) * e.bank / e.partitions, 2 * closed, "psum")
    groups = a.sequences * a.heads * whole(a.queries, PIECE)
    delta = a.vector("do · o", tiles * dv * (3.0 if e.shared_psum else 2.0), 2 * groups, "psum")
    parts = [
        total("TensorE", tensor), total("VectorE", [changes, sums, closing, delta]), total("ScalarE", [exp, copies]),
        e.dma(*backward_transfers(a)),
    ]  # fmt: skip
    if a.alone:
        parts[0] = e.ramp(parts[0])
    if e.shared_psum:
        parts.append(total("PSUM, by turns", [exp, copies, changes, sums, closing]))
    return Plan(
        parts=parts, ends=_backward_ends(a.one_core(), parts) if a.alone else [], family="attention.backward",
        tiles={"queries": np.minimum(a.queries, e.partitions), "keys": np.minimum(a.keys, e.bank)},
    )  # fmt: skip


def backward_transfers(a: Attention) -> list[tuple[str, Number, Number]]:
    """Queries, their outputs and gradients, both ways round; keys and values again for each head; dq, dk, dv."""
    size, d, v, lanes = BYTES[a.dtype], a.qk_dim, a.v_dim, a.engines.partitions
    heads, kv_heads = a.sequences * a.heads, a.sequences * a.kv_heads
    again = np.where(np.asarray(a.queries) <= RESIDENT, 1.0, whole(a.keys, a.engines.bank))
    q, k = whole(a.queries, PIECE), whole(a.keys, PIECE)
    read = heads * (again * a.queries * (2 * d + 3 * v) + a.keys * (2 * d + v)) * size
    rows = heads * (again * q * (d + v + 3 * lanes) + k * (d + v + lanes) + lanes)
    written = (heads * a.queries * d + kv_heads * a.keys * (d + v)) * size
    stored = (heads * q + 2 * kv_heads * k) * lanes
    if not a.alone:
        rows = np.minimum(rows, a.sequences * (5 * a.queries + 3 * a.keys))
        stored = np.minimum(stored, a.sequences * (a.queries + 2 * a.keys))
    passed = a.spilled(read + written)
    return [("operands", passed * read, passed * rows), ("gradients", passed * written, passed * stored)]


def _backward_ends(a: Attention, parts: list[Cost]) -> list[Cost]:
    """Operands of the first tile, its own products with o, one unit from engine to engine, its gradients out."""
    e, d, v, size = a.engines, a.qk_dim, a.v_dim, BYTES[a.dtype]
    queries, keys = np.minimum(a.queries, PIECE), np.minimum(a.keys, PIECE)
    rows, width = whole(queries, e.partitions), np.minimum(a.keys, e.bank)
    unit = total("TensorE", [
        a.tensor("scores", 2 * width, 2.0), a.products("dv", width, v), a.turned(width), a.products("dq", width, d),
    ])  # fmt: skip
    vector = total("VectorE", [
        a.vector("do · o", rows * v * (3.0 if e.shared_psum else 2.0), 2.0, "psum"),
        a.vector("gradients of scores", width, 1.0, "psum"), a.vector("dq", d, 1.0, "psum"),
    ])  # fmt: skip
    exp, copy = a.scalar("exponential", width, 1.0), a.scalar("copy", width, 1.0, "narrow")
    first = size * (queries * (d + 3 * v) + keys * (d + v))
    return [
        a.moved("first tiles in", first, 2 * d + 2 * v + 3 * e.partitions, parts),
        _chain("one unit", [unit, vector, total("ScalarE", [exp, copy])], parts), a.latency(3.0),
        a.moved("last gradients out", queries * d * size, np.minimum(a.queries, e.partitions), parts),
    ]  # fmt: skip
