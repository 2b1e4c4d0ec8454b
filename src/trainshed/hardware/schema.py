"""The shape of hardware data: chips, levels of links, systems of named pools. Data live in ``*.toml`` beside this."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, get_args

from trainshed.core.constant import Constant

Architecture = Literal["neuroncore", "gpu", "tpu"]
Topology = Literal["chip", "ring", "torus", "mesh", "switch", "leaf-spine"]
Purchase = Literal["capacity-block", "on-demand", "reserved", "spot"]
#: Purchase kinds in the order in which a price is chosen (Capacity Blocks are what large jobs buy).
PURCHASES: tuple[Purchase, ...] = get_args(Purchase)


@dataclass(frozen=True, kw_only=True)
class NeuronCore:
    """One NeuronCore in the vendor's words; rates per core. None where a generation lacks the feature."""

    tensor_clock: Constant
    """TensorE, Hz."""
    tensor_rows: Constant
    """Contraction rows of the PE array (128)."""
    tensor_columns: Constant
    mx_rows: Constant | None
    """Effective contraction depth of one MX matmul (512 on NeuronCore-v4)."""
    columns_per_cycle: Mapping[str, Constant]
    """Moving columns per TensorE cycle by product dtype (bf16 1; fp32 1/4; fp8 with double rows counts in depth)."""
    depth: Mapping[str, Constant]
    """Contraction depth per pass by product dtype (128; fp8 on v3 256; mxfp8 on v4 512)."""
    matmul_floor: Constant
    """Least TensorE cycles between matmul issues (64)."""
    vector_clock: Constant
    vector_lanes: Mapping[str, Constant]
    """VectorE elements per cycle: ``full`` (32 bit), ``wide`` (two tensors of 16 bit, or one in PSUM), ``narrow``
    (copies and scalar operations of 16 bit in SBUF)."""
    scalar_clock: Constant
    scalar_lanes: Mapping[str, Constant]
    gpsimd_clock: Constant
    gpsimd_lanes: Constant
    instruction_floor: Constant
    """Least engine cycles per Vector/Scalar instruction (64)."""
    instruction_overhead: Constant
    """Seconds between dependent instructions (semaphore, write drain)."""
    sbuf: Constant
    psum: Constant
    psum_banks: Constant
    partitions: Constant
    dma_engines: Constant
    dma_bandwidth: Constant
    """B/s of all DMA engines of one core."""
    semaphore: Constant
    """Seconds from a semaphore set by one engine to the start of what waits for it on another, a DMA included."""
    dma_fixed: Constant
    """Seconds of one small DMA, trigger to done."""
    dma_per_descriptor: Constant
    """Seconds a DMA engine spends per descriptor besides its bytes."""
    dma_queues: Constant
    """Queues of one DMA engine: transfers of one place of issue that are under way at once."""
    dge_instruction: Constant | None
    """Seconds of a DMA on the hardware engine that makes its descriptors (NeuronCore-v3 and later)."""
    software_descriptor: Constant
    """Seconds in which GpSimd makes one descriptor."""
    table_load: Constant
    """Seconds in which ScalarE loads the table of another activation function."""
    launch: Constant
    """Seconds of a launched kernel on the device's clock besides its instructions."""
    tensor_ramp: Constant | None
    """Seconds in which TensorE is slow after as long without work (NeuronCore-v3 and later)."""
    tensor_ramp_rate: Constant | None
    """Part of TensorE's rate in that time."""
    quantize_elements_per_cycle: Constant | None
    vector_exp_speedup: Constant | None
    background_transpose: Constant | None = None
    """Part of a transpose's TensorE time that other matmuls hide; None: transposes take their turn."""


@dataclass(frozen=True, kw_only=True)
class GpuCore:
    """What a tile-and-wave model of a GPU or TPU needs."""

    processors: Constant
    """SMs, CUs, TensorCores or MXUs that take one output tile at a time."""
    tile_m: Constant
    tile_n: Constant
    tile_k: Constant
    l2: Constant | None
    l2_bandwidth: Constant | None
    launch: Constant
    """Seconds from one kernel's end to the next one's start when launches are queued ahead."""


@dataclass(frozen=True, kw_only=True)
class Chip:
    """A chip as a user buys it: one Trainium package, one GPU, one MI250 package, one TPU chip."""

    name: str
    title: str
    vendor: str
    architecture: Architecture
    date: str
    announced: bool = False
    previous: str | None = None
    """The chip whose evidence and fitted constants stand in where this one has none."""
    inherited: Mapping[str, str] = field(default_factory=dict)
    """Announced chips: field → chip it was inherited from."""
    cores: Constant
    """NeuronCores, or 1 for a GPU (one rank per chip)."""
    lnc: Constant | None
    """Default logical-NeuronCore size; None where there is no such thing."""
    clock: Constant | None
    flops: Mapping[str, Constant]
    """Peak dense FLOP/s of the whole chip by product dtype."""
    vector_flops: Constant
    """Peak fp32 element operations per second outside the matrix engine, whole chip."""
    special_flops: Constant | None
    """Transcendentals per second, whole chip."""
    hbm_capacity: Constant
    hbm_bandwidth: Constant
    tdp: Constant | None
    tdp_alternative: Constant | None
    idle_power: Constant | None
    energy: Mapping[str, Constant]
    """J per action: ``mac.bf16`` …, ``vector``, ``scalar``; per byte: ``hbm``, ``sbuf`` or ``l2``, ``link``."""
    neuron: NeuronCore | None = None
    gpu: GpuCore | None = None
    fitted: Mapping[str, Constant] = field(default_factory=dict)
    """Fitted physical quantities by mechanism (``gemm_efficiency.bf16``, ``hbm_efficiency``, …), defaults filled in."""

    def fit(self, mechanism: str) -> Constant:
        """A fitted mechanism of this chip (its own, else its predecessor's, else the stated estimate)."""
        return self.fitted[mechanism]


@dataclass(frozen=True, kw_only=True)
class Level:
    """One level of the fabric, from a chip outwards: which chips see each other through it and how fast."""

    name: str
    """``chip``, ``sled``, ``server``, ``rack``, ``ultraserver``, ``network``, …"""
    chips: int
    """Chips in one domain of this level (cumulative: sled 4, rack 72, UltraServer 144)."""
    topology: Topology
    dims: tuple[int, ...] = ()
    """Torus or mesh dimensions in units of the level below's domains."""
    rings: tuple[int, ...] = ()
    """Irregular wiring (hybrid cube mesh): link-disjoint rings through the first 2, 3, … chips; the last uses all."""
    wires: tuple[int, ...] = ()
    """Irregular wiring chip by chip: flat triples (one chip, another, links between them)."""
    planes: Constant | None = None
    """Switches side by side (or planes of a leaf-spine network), each of which sees every chip; None: not stated."""
    bandwidth: Constant
    """B/s that one chip can send at this level (one direction, all its links of this level)."""
    latency: Constant
    """Seconds per hop, software excluded."""
    reduction_in_network: bool = False
    interconnect: str
    """Key of its fitted constants: ``neuronlink-v3``, ``nvlink4``, ``efa-v3``, ``infiniband-ndr``, ``ici-v5p``, …"""
    fitted: Mapping[str, Constant] = field(default_factory=dict)
    """``launch`` (s), ``hop`` (s), ``efficiency`` (reachable fraction), … of that interconnect."""
    algorithms: tuple[str, ...] = ()
    """Collective algorithms of the interconnect's library (``fabric.ALGORITHMS``); empty: all of them."""


@dataclass(frozen=True, kw_only=True)
class Pool:
    """Chips of one kind inside a system."""

    name: str
    chip: Chip
    chips: int


@dataclass(frozen=True, kw_only=True)
class Overhead:
    """Power besides the chips."""

    host: Constant | None
    """W per chip for what else is in the machine: CPU, memory, adapters, fans, NVSwitches of a board."""
    switch: Constant | None
    """W per chip for the scale-out network and the switch trays of racks."""
    pue: Constant


@dataclass(frozen=True, kw_only=True)
class Price:
    """One offer for an instance, brought to one chip."""

    instance: str
    chips: int
    purchase: Purchase
    region: str
    per_chip_hour: Constant
    """USD/h; the note says what the whole instance costs."""


@dataclass(frozen=True, kw_only=True)
class System:
    """A node, rack or UltraServer type with its network; ``levels`` run from innermost to outermost."""

    name: str
    title: str
    pools: tuple[Pool, ...]
    levels: tuple[Level, ...]
    instance_chips: int
    """Chips of one rentable instance (what the price is for)."""
    ultraserver_chips: int
    """Chips of one scale-up domain (UltraServer, NVL72 rack, 8-GPU board)."""
    max_chips: int
    overhead: Overhead
    announced: bool = False
    aliases: tuple[str, ...] = ()
    price: str | None = None
    """Key into the price files; None: nobody prints a price."""
    source: str = ""

    @property
    def chip(self) -> Chip:
        """The chip of the first pool (the only one in all but mixed racks)."""
        return self.pools[0].chip

    def pool(self, name: str) -> Pool:
        """A pool by its name."""
        return next(p for p in self.pools if p.name == name)
