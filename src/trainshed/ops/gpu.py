"""Operators on GPUs and TPUs: a roofline whose compute side counts output tiles over processors, wave by wave.

A kernel takes the longest of its matrix work, its vector and special-function work and its HBM traffic, and one gap
between kernels on top. Matrix work is counted in whole output tiles and whole waves of them over the processors (SMs,
CUs, MXUs); small grids split the contraction. A small matrix therefore reaches a small part of the HBM rate: the gap
does not shrink with it. TPUs use the same formulas with MXU-sized tiles: the data decide.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from trainshed.core import BYTES, Activity, Array, Cost, Number, formula, longest, total, unknown_name
from trainshed.hardware.schema import GpuCore
from trainshed.ops.base import OpCost, Rank, implements

#: Where a chip has no rate of its own for a dtype, its products run in the first of these that it has.
FALLBACK: dict[str, tuple[str, ...]] = {
    "bf16": ("fp16",), "fp16": ("bf16",), "tf32": ("bf16", "fp16"), "fp32": ("tf32",),
    "fp8": ("bf16", "fp16"), "mxfp8": ("fp8", "bf16", "fp16"), "int8": ("fp8", "bf16", "fp16"),
    "nvfp4": ("mxfp4", "fp4", "mxfp8", "fp8", "bf16"), "mxfp4": ("nvfp4", "fp4", "mxfp8", "fp8", "bf16"),
    "int4": ("bf16", "fp16"),
}  # fmt: skip
#: Work of a backward pass relative to the forward pass (attention: five products instead of two).
BACKWARD_ATTENTION, BACKWARD_SCAN = 2.5, 2.0
#: Rows of a product whose operands are swapped, and the side of the square tile of one processor's instructions.
FEW_ROWS, ONE_PROCESSOR = (8.0, 32.0), 128.0


@implements("gpu", "tpu")
@dataclass(frozen=True, eq=False)
class GpuOps:
    """Operators of one GPU or TPU chip."""

    rank: Rank

    @property
    def _core(self) -> GpuCore:
        core = self.rank.chip.gpu
        if core is None:
            raise unknown_name("tile data", self.rank.chip.name, [], where=f"chip {self.rank.chip.name}")
        return core

    def product_dtype(self, dtype: str) -> str:
        """The dtype that products of ``dtype`` run in on this chip."""
        rates = self.rank.chip.flops
        for name in (dtype, *FALLBACK.get(dtype, ())):
            if name in rates:
                return name
        raise unknown_name("dtype", dtype, rates, where=f"chip {self.rank.chip.name}")

    def _matrix(self, what: str, flops: Number, dtype: str, mechanism: str) -> Cost:
        """Seconds of ``flops`` (padding and idle processors counted) at the part of peak that the mechanism reaches."""
        chip, product = self.rank.chip, self.product_dtype(dtype)
        return formula(
            what, "s", "flops / (peak * efficiency)", flops=flops, peak=chip.flops[product],
            efficiency=chip.fit(mechanism.format(dtype=product)),
        )  # fmt: skip

    def _untuned(self, flops: Number, dtype: str) -> list[Cost]:
        """The least time of a product whose kernels reach a small part of peak only; none where all are tuned."""
        if self.rank.product_share is None:
            return []
        peak = self.rank.chip.flops[self.product_dtype(dtype)]
        share = self.rank.product_share
        return [formula("untuned kernels", "s", "flops / (peak * share)", flops=flops, peak=peak, share=share)]

    def _memory(self, size: Number) -> Cost:
        chip = self.rank.chip
        return formula(
            "hbm", "s", "bytes / (bandwidth * efficiency)", bytes=size, bandwidth=chip.hbm_bandwidth,
            efficiency=chip.fit("hbm_efficiency"),
        )  # fmt: skip

    def _vector(self, operations: Number) -> Cost:
        chip = self.rank.chip
        return formula(
            "vector", "s", "operations / (rate * efficiency)", operations=operations, rate=chip.vector_flops,
            efficiency=chip.fit("vector_efficiency"),
        )  # fmt: skip

    def _special(self, functions: Number) -> Cost:
        chip = self.rank.chip
        return formula(
            "special functions", "s", "functions / (rate * efficiency)", functions=functions,
            rate=chip.special_flops or chip.vector_flops, efficiency=chip.fit("vector_efficiency"),
        )  # fmt: skip

    def _kernel(self, what: str, work: list[Cost], activity: Activity, *, kernels: Number = 1.0) -> OpCost:
        """The longest of the engines' work, and the gap before the next kernel (none where there is no work)."""
        busy = longest("work", work)
        count = np.where(np.asarray(busy.value) > 0, kernels, 0.0)
        gap = formula("gap between kernels", "s", "kernels * gap", kernels=_plain(count), gap=self._core.launch)
        return OpCost(time=total(what, [busy, gap]), activity=activity, launches=_plain(count))

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
        tiles: object | None = None,
        read_weights: bool = True,
    ) -> OpCost:
        """``count`` equal products y[m, n] = x[m, k] · w[k, n] in one kernel."""
        padded = count * grid_flops(self._core, m=m, k=k, n=n, count=count)
        # results leave the accumulators in 16 bit at least; a narrower copy is a pass of its own
        size = count * (m * k * BYTES[activations] + m * n * max(BYTES[activations], BYTES["bf16"]))
        size = size + count * k * n * BYTES[weights] * float(read_weights)
        product = self.product_dtype(dtype)
        activity = Activity(macs={product: m * k * n * count}, memory={"hbm": size})
        work = [self._matrix("products", padded, dtype, "gemm_efficiency.{dtype}"), self._memory(size)]
        return self._kernel(what, [*work, *self._untuned(2.0 * m * k * n * count, dtype)], activity)

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
        """Two grouped products (up, with the gate beside it, and down) and the activation inside the first."""
        each = tokens / np.maximum(active, 1e-9)
        up = n * (2.0 if gated else 1.0)
        padded = active * (
            grid_flops(self._core, m=each, k=k, n=up, count=active)
            + grid_flops(self._core, m=each, k=n, n=k, count=active)
        )
        wide = max(BYTES[activations], BYTES["bf16"])
        size = active * k * (up + n) * BYTES[weights] + tokens * ((k + n) * BYTES[activations] + (up + k) * wide)
        macs = tokens * k * (up + n)
        activity = Activity(
            macs={self.product_dtype(dtype): macs}, memory={"hbm": size}, vector=tokens * up, scalar=tokens * n
        )
        work = [self._matrix("products", padded, dtype, "gemm_efficiency.{dtype}"), self._memory(size)]
        return self._kernel(what, [*work, *self._untuned(2.0 * macs, dtype)], activity, kernels=2.0)

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
        """A flash kernel: products, exponentials and HBM traffic side by side; a decode step is its HBM traffic."""
        factor = BACKWARD_ATTENTION if direction == "backward" else 1.0
        block = float(self._core.tile_m.value)
        square = np.where(np.equal(queries, keys) & causal, queries * (keys + 1) / 2, queries * keys)
        pairs = square if paired is None else np.asarray(paired)
        # masked pairs inside the blocks on the diagonal are computed too
        computed = np.minimum(pairs + np.where(pairs < queries * keys, queries * np.minimum(block, keys) / 2, 0.0),
                              queries * keys)  # fmt: skip
        calls = sequences * heads
        # heads narrower than the matrix unit's depth leave part of it idle
        depth = float(self._core.tile_k.value)
        width = np.ceil(np.asarray(qk_dim) / depth) * depth + np.ceil(np.asarray(v_dim) / depth) * depth
        flops = 2.0 * calls * computed * width * factor
        idle = _idle(self._core, calls * np.ceil(np.asarray(queries) / block), keys / block)
        cached = np.where(np.asarray(latent) > 0, latent, kv_heads * (np.asarray(qk_dim) + v_dim))
        moved = sequences * queries * heads * (qk_dim + v_dim) * BYTES[dtype] * (1.0 if factor == 1.0 else 3.0)
        size = _plain(sequences * keys * cached * BYTES[kv] * (1.0 if factor == 1.0 else 2.0) + moved)
        product = self.product_dtype(dtype)
        exponentials = _plain(calls * computed)
        activity = Activity(
            macs={product: _plain(calls * pairs * (qk_dim + v_dim) * factor)}, memory={"hbm": size},
            vector=_plain(3.0 * calls * pairs), scalar=exponentials,
        )  # fmt: skip
        work = [self._matrix("products", _plain(flops * idle), dtype, "attention_efficiency"),
                self._special(exponentials), self._memory(size)]  # fmt: skip
        return self._kernel(what, work, activity)

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
    ) -> OpCost:
        """A bandwidth-bound pass; fused, only its arithmetic remains, and the kernel it rides in hides that."""
        if fused:
            activity = Activity(vector=elements * vector, scalar=elements * transcendental)
            return OpCost(time=total(what, [], unit="s"), activity=activity, launches=0.0)
        size = elements * (reads + writes) * BYTES[dtype]
        activity = Activity(vector=elements * vector, scalar=elements * transcendental, memory={"hbm": size})
        work = [self._memory(size), self._vector(elements * vector), self._special(elements * transcendental)]
        return self._kernel(what, work, activity)

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
        """Chunked recurrence (arXiv:2405.21060): products inside chunks and with the states."""
        factor = BACKWARD_SCAN if direction == "backward" else 1.0
        length = np.minimum(chunk, np.maximum(tokens / np.maximum(sequences, 1e-9), 1.0))
        macs = (
            factor
            * tokens
            * (groups * length * key_dim / 2 + heads * length * value_dim / 2 + 2 * heads * key_dim * value_dim)
        )
        width = heads * value_dim * 2 + groups * key_dim * 2 + 2 * conv_channels
        # each chunk's state is written, carried on (read, written) and read; one token's is read and written
        touched = np.where(np.asarray(length) > 1, 4.0, 2.0)
        states = touched * tokens / length * heads * key_dim * value_dim * BYTES["fp32"]
        size = factor * (tokens * width * BYTES[dtype] + states)
        operations = factor * tokens * conv_channels * conv_width * 2
        activity = Activity(macs={self.product_dtype(dtype): macs}, memory={"hbm": size}, vector=operations,
                            scalar=factor * tokens * heads)  # fmt: skip
        work = [self._matrix("products", 2.0 * macs, dtype, "attention_efficiency"), self._memory(size),
                self._vector(operations)]  # fmt: skip
        return self._kernel(what, work, activity, kernels=2.0)

    def lookup(self, *, what: str, tokens: Number, width: Number, dtype: str) -> OpCost:
        """Rows read and written once."""
        size = 2.0 * tokens * width * BYTES[dtype]
        return self._kernel(what, [self._memory(size)], Activity(memory={"hbm": size}))

    def copy(self, *, what: str, size: Number) -> OpCost:
        """``size`` bytes read and written."""
        return self._kernel(what, [self._memory(2.0 * size)], Activity(memory={"hbm": 2.0 * size}))


def grid_flops(core: GpuCore, *, m: Number, k: Number, n: Number, count: Number) -> Number:
    """FLOP-equivalents of one of ``count`` equal products run side by side, padding and idle processors counted.

    The library takes the best of the full tile, one of half its rows and one of an eighth of them. A smaller tile moves
    more operand per FLOP and runs slower by the ratio of the tiles' intensities rows·columns/(rows+columns). Products
    with few rows swap their operands: the weights fill the 128 rows of one processor's instruction, the rows come in
    steps of 8.
    """
    rows, columns = float(core.tile_m.value), float(core.tile_n.value)
    side = min(rows, columns, ONE_PROCESSOR)
    options = [_tiled(core, m, k, n, count, r, columns) * _intensity(rows, columns) / _intensity(r, columns)
               for r in (rows, rows / 2, rows / 8)]  # fmt: skip
    options += [_tiled(core, m, k, n, count, r, side) * _intensity(side, side) / _intensity(r, side) for r in FEW_ROWS]
    return _plain(np.minimum.reduce(options))


def _intensity(rows: float, columns: float) -> float:
    return rows * columns / (rows + columns)


def _tiled(core: GpuCore, m: Number, k: Number, n: Number, count: Number, rows: float, columns: float) -> Array:
    grid = np.ceil(np.asarray(m) / rows) * np.ceil(np.asarray(n) / columns)
    depth = float(core.tile_k.value)
    slices = np.ceil(np.asarray(k) / depth) + 1.0  # the first slice fills the pipeline
    idle = _idle(core, grid * count, slices)
    return np.asarray(2.0 * grid * rows * columns * slices * depth * idle)


def _idle(core: GpuCore, blocks: Number, slices: Number) -> Array:
    """Processor-time paid over processor-time used when ``blocks`` of ``slices`` each run in whole waves.

    A grid smaller than the machine is split along the contraction, but no finer than its slices.
    """
    processors = float(core.processors.value)
    blocks = np.maximum(blocks, 1e-9)
    split = np.clip(np.floor(processors / blocks), 1.0, np.maximum(np.floor(slices), 1.0))
    waves = np.ceil(blocks * split / processors)
    return np.asarray(waves * processors / (blocks * split))


def _plain(value: Number | Array) -> Number:
    """A NumPy scalar as a float, an array as it is."""
    return float(value) if np.ndim(value) == 0 else np.asarray(value, dtype=np.float64)
