"""What time rests on: the rates of one NeuronCore, from the hardware catalogue.

Nothing here is a number of its own; every field is a constant of ``hardware/`` with its source, or follows from some.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache

from trainshed.core.constant import Constant
from trainshed.core.errors import UserError
from trainshed.hardware.catalogue import Catalogue
from trainshed.hardware.schema import Chip

#: What the catalogue calls the product dtypes of TensorE, by the dtype of an operand.
PRODUCTS = {
    "bfloat16": "bf16", "float16": "fp16", "float32": "fp32", "tfloat32": "tf32", "float8_e4m3": "fp8",
    "float8_e4m3fn": "fp8", "float8_e5m2": "fp8", "float8_e4m3fn_x4": "mxfp8", "float8_e5m2_x4": "mxfp8",
    "float4_e2m1fn_x4": "mxfp4",
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Rates:
    """One NeuronCore: clocks in Hz, times in seconds, bandwidths in B/s."""

    tensor_clock: float
    columns_per_cycle: dict[str, float]
    matmul_floor: float
    """Cycles between the starts of two matmuls, at least."""
    tensor_rows: float
    vector_clock: float
    vector_full: float
    """Elements that VectorE takes per cycle and partition of copies and scalar operations: of 32 bits."""
    vector_wide: float
    """The same of 16 bits where PSUM is involved, and of sums of two tensors; ``vector_narrow``: in SBUF."""
    vector_narrow: float
    scalar_clock: float
    scalar_wide: float
    scalar_narrow: float
    gpsimd_clock: float
    floor: float
    """Cycles of the shortest instruction."""
    overhead: float
    """Seconds of an instruction besides its elements, in a stream of them."""
    semaphore: float
    """Seconds from a semaphore to the start of a DMA that waits for it."""
    dma_engines: int
    dma_bandwidth: float
    """Of one DMA engine."""
    dma_fixed: float
    """Seconds of a small DMA, all in all."""
    descriptor: float
    """Seconds of a descriptor, at least."""
    sbuf_row: int
    psum_row: int
    dge: float
    """Seconds of a DMA on the hardware engine that makes its descriptors."""
    software_descriptor: float
    """Seconds in which GpSimd makes a descriptor."""
    table_load: float
    """Seconds in which ScalarE loads the table of another activation function."""
    ramp: float
    """Seconds of TensorE's power ramp (0: it has none), and the part of its rate until then."""
    ramp_rate: float
    shared_ports: bool
    """VectorE shares its way to SBUF with GpSimd and to PSUM with ScalarE (NeuronCore-v2)."""
    dma_queues: int
    """Transfers under way at once from one place of issue."""
    launch: float
    """Seconds of a launched kernel besides its instructions."""
    peak: dict[str, float]
    """FLOP/s of TensorE by product dtype."""
    background: bool
    """Transposes run beside other matmuls (NeuronCore-v4)."""
    hbm_bandwidth: float
    """What the core can have of its chip's HBM: all of it where the others are idle."""
    hbm_share: float
    """The core's share where all are busy."""
    quantize: float
    """Elements that QuantizeMX takes per cycle and partition (0: there is none)."""
    exponential: float
    """The same of VectorE's exponential."""

    def busy_chip(self) -> Rates:
        """The same where every core of the chip moves as much: each has its share of the HBM and no more."""
        return replace(self, hbm_bandwidth=self.hbm_share)


@lru_cache
def rates(chip: str) -> Rates:
    """The rates of ``trn1``, ``trn2`` or ``trn3``."""
    return rates_of(Catalogue().chip(chip))


def rates_of(chip: Chip) -> Rates:
    """The rates of a chip's NeuronCore as given, changed constants included."""
    core = chip.neuron
    if core is None:
        raise UserError("chip", where="rates", value=chip.name, expected="one of NeuronCores")

    def of(constant: Constant) -> float:
        return float(constant.value)

    lanes, engines = of(core.partitions), of(core.dma_engines)
    return Rates(
        tensor_clock=of(core.tensor_clock), matmul_floor=of(core.matmul_floor), tensor_rows=of(core.tensor_rows),
        columns_per_cycle={name: of(item) for name, item in core.columns_per_cycle.items()},
        vector_clock=of(core.vector_clock), vector_full=of(core.vector_lanes["full"]) / lanes,
        vector_wide=of(core.vector_lanes["wide"]) / lanes,
        vector_narrow=of(core.vector_lanes["narrow"]) / lanes,
        scalar_clock=of(core.scalar_clock), scalar_wide=of(core.scalar_lanes["wide"]) / lanes,
        scalar_narrow=of(core.scalar_lanes["narrow"]) / lanes, gpsimd_clock=of(core.gpsimd_clock),
        floor=of(core.instruction_floor), overhead=of(core.instruction_overhead), semaphore=of(core.semaphore),
        dma_engines=int(engines), dma_bandwidth=of(core.dma_bandwidth) / engines, dma_fixed=of(core.dma_fixed),
        descriptor=of(core.dma_per_descriptor),
        sbuf_row=int(of(core.sbuf) / lanes), psum_row=int(of(core.psum) / lanes),
        dge=of(core.dge_instruction) if core.dge_instruction else 0.0, software_descriptor=of(core.software_descriptor),
        table_load=of(core.table_load),
        ramp=of(core.tensor_ramp) if core.tensor_ramp else 0.0,
        ramp_rate=of(core.tensor_ramp_rate) if core.tensor_ramp_rate else 1.0,
        # NeuronCore-v2, alone in having no engine that makes descriptors.
        shared_ports=core.dge_instruction is None, dma_queues=int(of(core.dma_queues)), launch=of(core.launch),
        background=core.background_transpose is not None,
        hbm_bandwidth=of(chip.hbm_bandwidth), hbm_share=of(chip.hbm_bandwidth) / of(chip.cores),
        quantize=of(core.quantize_elements_per_cycle) / lanes if core.quantize_elements_per_cycle else 0.0,
        exponential=0.0 if core.vector_exp_speedup is None else (
            of(core.vector_exp_speedup) * of(core.scalar_lanes["wide"]) * of(core.scalar_clock)
            / (lanes * of(core.vector_clock))
        ),
        peak={
            name: 2 * of(core.depth[name]) * of(core.tensor_columns) * of(item) * of(core.tensor_clock)
            for name, item in core.columns_per_cycle.items()
        },
    )  # fmt: skip
