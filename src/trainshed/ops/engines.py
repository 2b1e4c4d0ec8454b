"""How long each engine of a NeuronCore is busy: the leaves that operator formulas are made of.

Rates are AWS's documented ones: a matmul streams one moving column per TensorE cycle and never less than 64 cycles,
VectorE and ScalarE take one element per partition and cycle and some cycles more per instruction, a DMA engine spends
a least time per descriptor (one row of one partition) whatever its size. Nothing here is fitted.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from trainshed.core import BYTES, Constant, Cost, Number, UserError, formula, longest, total, unknown_name
from trainshed.hardware.schema import NeuronCore
from trainshed.ops.base import Rank

#: A product dtype that a NeuronCore lacks runs as the next wider one that it has.
WIDER = {
    "fp16": "bf16", "tf32": "bf16", "mxfp4": "mxfp8", "nvfp4": "mxfp4", "mxfp8": "fp8", "fp8": "bf16",
    "int8": "bf16", "int4": "bf16",
}  # fmt: skip


def whole(size: Number, tile: Number) -> Number:
    """Tiles that ``size`` rows or columns take, the last one padded."""
    return np.ceil(np.asarray(size, dtype=np.float64) / tile)


@dataclass(frozen=True, kw_only=True)
class Engines:
    """The engines of one rank: ``cores`` physical NeuronCores that split every operator evenly."""

    rank: Rank

    def __post_init__(self) -> None:
        if self.rank.chip.neuron is None:
            raise UserError(
                "a neuroncore chip without its engines", where=f"chip {self.rank.chip.name}", value=None,
                expected="a table [neuron]",
            )  # fmt: skip

    @property
    def core(self) -> NeuronCore:
        """The NeuronCore's data."""
        core = self.rank.chip.neuron
        assert core is not None
        return core

    def product(self, dtype: str) -> str:
        """The dtype that products of ``dtype`` run in on this generation."""
        rates, name = self.core.columns_per_cycle, dtype
        while name not in rates or name not in self.core.depth:
            if name not in WIDER:
                raise unknown_name("product dtype", dtype, rates, where=f"chip {self.rank.chip.name}")
            name = WIDER[name]
        return name

    def depth(self, dtype: str) -> float:
        """Contraction depth of one TensorE pass."""
        return float(self.core.depth[self.product(dtype)].value)

    @property
    def partitions(self) -> float:
        """Partitions of SBUF and PSUM (128): rows of every tile."""
        return float(self.core.partitions.value)

    @property
    def bank(self) -> float:
        """fp32 columns of one PSUM bank (512): the widest matmul, and the widest tile that an instruction evicts."""
        per_partition = float(self.core.psum.value) / self.partitions
        return per_partition / float(self.core.psum_banks.value) / BYTES["fp32"]

    def spilled(self, size: Number) -> Number:
        """1 where ``size`` bytes of activations pass through HBM, 0 where a quarter of SBUF holds them."""
        room = float(self.core.sbuf.value) * self.rank.cores / 4
        return np.where(np.asarray(size) > room, 1.0, 0.0)

    def of(self, kind: str) -> Engines:
        """The engines under operators of a kind: no compiler's gaps where their kernels are written by hand (NKI)."""
        free = self.rank.tensor_gap is not None and kind in self.rank.by_hand
        return replace(self, rank=replace(self.rank, tensor_gap=None)) if free else self

    def tensor(self, dtype: str, columns: Number, instructions: Number, *, what: str = "TensorE") -> Cost:
        """Streaming ``columns`` moving columns in ``instructions`` matmuls."""
        gap = self.rank.tensor_gap
        names, waits = ({}, "") if gap is None else ({"gap": gap}, " + instructions * gap")
        return formula(
            what, "s", f"(max(columns / per_cycle, instructions * least) / clock{waits}) / cores",
            columns=columns, instructions=instructions, per_cycle=self.core.columns_per_cycle[self.product(dtype)],
            least=self.core.matmul_floor, clock=self.core.tensor_clock, cores=self.rank.cores, **names,
        )  # fmt: skip

    def transpose(self, dtype: str, columns: Number, *, what: str) -> Cost:
        """TensorE turning tiles of 128 x 128, ``columns`` columns in all; beside other matmuls where it can.

        Even then it takes its turn to be issued, as every matmul does.
        """
        each = self.tensor(dtype, columns, columns / self.partitions, what=what)
        hidden = self.core.background_transpose
        if hidden is None:
            return each
        issued = self.tensor(dtype, 0.0, columns / self.partitions, what="issued")
        return formula(what, "s", "max((1 - hidden) * each, issued)", hidden=hidden, each=each, issued=issued)

    def issue(self, columns: Number, instructions: Number, dtype: str) -> Number:
        """TensorE cycles of so many columns in so many matmuls, gaps included: what decides which operand moves."""
        rate, gap = self.core.columns_per_cycle[self.product(dtype)].value, self.rank.tensor_gap
        waits = 0.0 if gap is None else gap.value * self.core.tensor_clock.value
        return np.maximum(columns / rate, instructions * self.core.matmul_floor.value) + instructions * waits

    def vector(self, elements: Number, *, width: Number, lanes: str = "psum", what: str = "VectorE") -> Cost:
        """``elements`` through VectorE, ``width`` per partition and instruction.

        ``lanes``: ``psum`` (one element per partition and cycle, as PSUM operands allow), ``wide`` (fp32 in SBUF) or
        ``narrow`` (16 bit and below in SBUF).
        """
        rate: Constant = self.core.partitions if lanes == "psum" else self.core.vector_lanes[lanes]
        return formula(
            what, "s",
            "(max(elements / lanes, count * least) / clock + count * overhead) / cores",
            elements=elements, lanes=rate, count=elements / (self.partitions * width),
            least=self.core.instruction_floor, clock=self.core.vector_clock, overhead=self.core.instruction_overhead,
            cores=self.rank.cores,
        )  # fmt: skip

    def scalar(self, elements: Number, *, width: Number, lanes: str = "wide", what: str = "ScalarE") -> Cost:
        """``elements`` through ScalarE (exp, gelu, rsqrt …), ``width`` per partition and instruction."""
        return formula(
            what, "s",
            "(max(elements / lanes, count * least) / clock + count * overhead) / cores",
            elements=elements, lanes=self.core.scalar_lanes[lanes], count=elements / (self.partitions * width),
            least=self.core.instruction_floor, clock=self.core.scalar_clock, overhead=self.core.instruction_overhead,
            cores=self.rank.cores,
        )  # fmt: skip

    @property
    def exp_on_vector(self) -> bool:
        """VectorE has an instruction for exp (NeuronCore-v4)."""
        return self.core.vector_exp_speedup is not None

    @property
    def shared_psum(self) -> bool:
        """VectorE and ScalarE take turns at PSUM (NeuronCore-v2, alone in having no engine that makes descriptors)."""
        return self.core.dge_instruction is None

    @property
    def copies_on_scalar(self) -> float:
        """The part of probabilities that ScalarE copies out of PSUM: as much as gives VectorE no more to do than it.

        With exp on VectorE, all; where the two take turns at PSUM, all, as ScalarE is faster; else every other one.
        """
        return 1.0 if self.exp_on_vector or self.shared_psum else 0.5

    def exponential(self, elements: Number, *, width: Number) -> Cost:
        """exp of ``elements`` on VectorE where it has that instruction, else on ScalarE."""
        speedup = self.core.vector_exp_speedup
        if speedup is None:
            return self.scalar(elements, width=width, what="ScalarE exponential")
        return formula(
            "VectorE exponential", "s", "(elements / (lanes * speedup * clock) + count * overhead) / cores",
            elements=elements, lanes=self.core.scalar_lanes["wide"], speedup=speedup, clock=self.core.scalar_clock,
            count=elements / (self.partitions * width), overhead=self.core.instruction_overhead, cores=self.rank.cores,
        )  # fmt: skip

    def quantise(self, elements: Number, dtype: str) -> Cost:
        """Making low-precision operands: QuantizeMX where there is one and the format is MX, else a VectorE pass."""
        each = self.core.quantize_elements_per_cycle
        if each is None or not dtype.startswith("mx"):
            return self.vector(elements, width=self.bank, lanes="narrow", what="VectorE quantise")
        return formula(
            "VectorE quantise", "s", "elements / (lanes * clock * cores)", elements=elements, lanes=each,
            clock=self.core.vector_clock, cores=self.rank.cores,
        )  # fmt: skip

    def dma(self, *transfers: tuple[str, Number, Number]) -> Cost:
        """Transfers of (what, bytes, descriptors), one after another on the DMA engines, and the HBM behind them.

        A descriptor is one row of one partition; short rows cost its least time, long ones their bytes.
        """
        engines = [
            formula(
                f"DMA {what}", "s", "max(size / bandwidth, rows * each / engines) / cores", size=size, rows=rows,
                bandwidth=self.core.dma_bandwidth, each=self.core.dma_per_descriptor,
                engines=self.core.dma_engines, cores=self.rank.cores,
            )
            for what, size, rows in transfers
        ]  # fmt: skip
        moved: Number = 0.0
        for _, size, _ in transfers:
            moved = moved + size
        return longest("DMA", [total("DMA engines", engines), self.hbm(moved)])

    def hbm(self, size: Number) -> Cost:
        """``size`` bytes over this rank's share of the HBM bandwidth."""
        return formula(
            "HBM", "s", "size / (bandwidth * share)", size=size, bandwidth=self.rank.chip.hbm_bandwidth,
            share=self.rank.share,
        )  # fmt: skip

    def handover(self, present: Number = 1.0) -> Cost:
        """Inside a compiled graph: the wait for the operator before; loads that need not wait are prefetched."""
        return formula("handover", "s", "present * wait", present=present, wait=self.core.semaphore)

    def fill(self, present: Number = 1.0, *, moves: int = 2, table: bool = False) -> Cost:
        """Of a kernel by itself: the fixed times of its first load and last store, and ScalarE's first table."""
        tables = {"table": self.core.table_load} if table else {}
        return formula(
            "first load, last store", "s", f"present * (moves * fixed{' + table' if table else ''})", present=present,
            moves=float(moves), fixed=self.core.dma_fixed, **tables,
        )  # fmt: skip

    def ramp(self, work: Cost) -> Cost:
        """TensorE's ``work`` in a kernel by itself, which begins on the power ramp."""
        window, rate = self.core.tensor_ramp, self.core.tensor_ramp_rate
        if window is None or rate is None:
            return work
        slow = formula(
            "power ramp", "s", "min(work * (1 / rate - 1), window * (1 - rate))", work=work, window=window, rate=rate
        )
        return total(work.what, [work, slow])
