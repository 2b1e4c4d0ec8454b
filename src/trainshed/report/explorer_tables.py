"""What a simulated launch did, as rows of Neuron Explorer's tables: instructions, transfers, tensors, who waits.

Columns are named as in the vendor's "Profile Parquet Schema Reference" (``tools/neuron-explorer``); what a run does not
tell is left out here and null in the file. Times are whole nanoseconds from the start of the launch.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from typing import Any

import numpy as np

from trainshed.chip.accesses import Accesses, Array, itemsize, union
from trainshed.chip.allocate import Allocation
from trainshed.chip.memory import Storage
from trainshed.chip.overlap import title
from trainshed.chip.record import Instruction, Region
from trainshed.chip.timing.clock import Clock
from trainshed.chip.timing.rates import PRODUCTS
from trainshed.chip.words import MemoryRegion, engine
from trainshed.nki.arguments import tensors

Columns = Mapping[str, Any]
"""A table: a sequence of equal length, or one value for all rows, per column."""

#: As the profiler's tables spell engines ("Analyze Profile Output"); ``ActiveTime`` has them in lower case.
ENGINES = {
    engine.tensor: "Tensor", engine.vector: "Vector", engine.scalar: "Scalar", engine.gpsimd: "GpSimd",
    engine.sync: "Sync", engine.dma: "DMA",
}  # fmt: skip
COMPUTE = ("Tensor", "Vector", "Scalar", "GpSimd", "Sync")
#: Opcodes that the vendor's glossary gives for what ``nki.isa`` calls otherwise; the rest are NKI's in capitals.
_OPCODES = {"nc_matmul": "MATMUL", "nc_matmul_mx": "MATMUL", "activation": "ACTIVATE", "dma_copy": "DMA_DIRECT2D"}
#: Queue types by who makes a transfer's descriptors (``DmaQueueType``).
_QUEUES = {"swdge": "software_dynamic", "hwdge": "hardware_dynamic", "none": "data"}
#: BF16-equivalent FLOPs by product dtype (``Instruction.adjusted_flops``); FP8 counts in full on Trn1.
_ADJUSTED = {"fp32": 4.0, "fp8": 0.5, "mxfp8": 0.25, "mxfp4": 0.25}


@dataclass(frozen=True)
class Core:
    """One core of a launch: its records, their times, and where its on-chip tensors lie."""

    accesses: Accesses
    clock: Clock
    allocation: Allocation
    first: int
    """Id of its first instruction."""

    @property
    def index(self) -> int:
        return self.accesses.core.index

    @property
    def items(self) -> list[Instruction]:
        return self.accesses.core.instructions

    @cached_property
    def start(self) -> Array:
        return nanoseconds(self.clock.start)

    @cached_property
    def end(self) -> Array:
        return nanoseconds(self.clock.end)

    @cached_property
    def engines(self) -> Array:
        """Name of the engine, per instruction."""
        return np.array([ENGINES.get(item.engine, "unknown") for item in self.items], object)

    @cached_property
    def addresses(self) -> dict[int, tuple[int, int]]:
        """Partition and byte offset of the on-chip tensors, by serial."""
        return self.allocation.addresses

    @cached_property
    def transfers(self) -> Array:
        """Which instructions are DMAs that move something."""
        return np.array([i for i, item in enumerate(self.items) if item.engine is engine.dma and item.writes], np.int64)

    @cached_property
    def traffic(self) -> dict[tuple[str, bool], Array]:
        """Bytes per instruction, by memory (``sbuf``, ``psum``, ``hbm``) and whether they are written."""
        found = {
            (memory, write): np.zeros(len(self.items), np.int64) for memory in _MEMORIES for write in (False, True)
        }
        for region, time, write in zip(
            self.accesses.regions, self.accesses.time.tolist(), self.accesses.write.tolist(), strict=True
        ):
            if self.items[time].opcode != "core_barrier":
                found[_memory(region.buffer), write][time] += nbytes(region)
        return found


_MEMORIES = ("sbuf", "psum", "hbm")


def _memory(buffer: MemoryRegion) -> str:
    return buffer.value if buffer.on_chip else "hbm"


def nanoseconds(seconds: Any) -> Array:
    """Seconds as whole nanoseconds."""
    found: Array = np.rint(np.asarray(seconds, np.float64) * 1e9).astype(np.int64)
    return found


def nbytes(region: Region) -> int:
    """Bytes of a region."""
    return math.prod(count for _, count in region.pattern) * itemsize(region)


def joined(parts: Iterable[Columns]) -> dict[str, Any]:
    """Tables of the same columns, one below the other."""
    every = list(parts)
    found: dict[str, Any] = {}
    for name in every[0]:
        pieces = [_column(part, name) for part in every]
        arrays = all(isinstance(piece, np.ndarray) for piece in pieces)
        found[name] = np.concatenate(pieces) if arrays else list(chain(*pieces))
    return found


def _column(part: Columns, name: str) -> Any:
    value = part[name]
    if not isinstance(value, str | int | float):
        return value
    count = next(len(other) for other in part.values() if not isinstance(other, str | int | float))
    return np.full(count, value, object if isinstance(value, str) else None)


# --- instructions ---------------------------------------------------------------------------------------------


def instructions(core: Core) -> Columns:
    """``Instruction``: every record of a core. A DMA is a row of engine ``DMA``, from first byte to last."""
    items, span = core.items, core.end - core.start
    moves = np.array([item.engine is engine.dma for item in items], bool)
    psum, sbuf = core.traffic["psum", False], core.traffic["sbuf", True]
    raw, transposed = _flops(items)
    adjusted = _adjusted(core, raw)
    on_tensor = [item.engine is engine.tensor for item in items]
    return {
        "start_ts": core.start, "end_ts": core.end, "duration_ns": span, "engine": core.engines,
        "pcore_idx": core.index, "opcode": [opcode(item) for item in items],
        "operands": [_operands(item) for item in items], "id": core.first + np.arange(len(items)),
        "pc": _counts(core.engines), "evt_wait_time_ns": where(~moves, _waits(core)),
        "kernel_instruction_name": [item.name for item in items],
        "nki_source_location": [str(item.source) for item in items],
        "bir_debug_info_source_location": [str(item.source) for item in items],
        "dma_trigger_start_ts": where(moves, core.start), "dma_trigger_end_ts": where(moves, core.end),
        "hbm_read_bytes": core.traffic["hbm", False], "hbm_write_bytes": core.traffic["hbm", True],
        "sbuf_read_bytes": core.traffic["sbuf", False], "sbuf_write_bytes": sbuf,
        "psum_read_bytes": psum, "psum_write_bytes": core.traffic["psum", True],
        "psum_read_sbuf_write_bytes": np.where(sbuf > 0, psum, 0),
        "tensor_instruction_type": [
            ("TRANSPOSE" if turned else "REGULAR") if here else None
            for here, turned in zip(on_tensor, transposed, strict=True)
        ],
        "raw_flops": where(on_tensor, raw), "adjusted_flops": where(on_tensor, adjusted),
        "flops_transpose": where(on_tensor, np.where(transposed, raw, 0)),
        "adjusted_flops_transpose": where(on_tensor, np.where(transposed, adjusted, 0)),
        "scalar_activation_fn": [
            str(item.attributes["op"]).upper() if opcode(item) == "ACTIVATE" else None for item in items
        ],
    }  # fmt: skip


def where(known: Any, values: Array) -> list[Any]:
    """Values, and None where they are not known."""
    return [value if here else None for here, value in zip(known, values.tolist(), strict=True)]


def opcode(item: Instruction) -> str:
    """What the profiler calls an instruction; on TensorE a transpose is a matmul."""
    if item.engine is engine.tensor and item.attributes.get("transpose"):
        return "MATMUL"
    return _OPCODES.get(item.opcode, item.opcode.upper())


def _operands(item: Instruction) -> str:
    """Shapes and dtypes of what is written and read, in the order of the record."""

    def shown(regions: Sequence[Region]) -> str:
        return ",".join(f"{r.buffer.value}{list(r.shape)}:{str.__str__(r.dtype)}" for r in regions)

    return f"dst={shown(item.writes)} src={shown(item.reads)}"


def _counts(names: Array) -> Array:
    """For each name, how often it came before."""
    found = np.zeros(len(names), np.int64)
    for name in set(names.tolist()):
        here = names == name
        found[here] = np.arange(here.sum())
    return found


def _waits(core: Core) -> Array:
    """From when its engine was free until what an instruction waits for had happened."""
    found = np.zeros(len(core.items), np.int64)
    release = nanoseconds(core.clock.release)
    for name in COMPUTE:
        here = np.flatnonzero(core.engines == name)
        free = np.concatenate(([0], core.end[here]))[:-1]
        found[here] = np.maximum(release[here] - free, 0)
    return found


def _flops(items: Sequence[Instruction]) -> tuple[Array, Array]:
    """FLOPs of TensorE's instructions, two per multiplication and addition, and which of them are transposes."""
    flops = np.zeros(len(items), np.int64)
    transposed = np.zeros(len(items), bool)
    for i, item in enumerate(items):
        if item.engine is engine.tensor:
            work = item.work
            flops[i] = 2 * work.get("rows", 0) * work.get("columns", 0) * work.get("depth", 0)
            transposed[i] = bool(item.attributes.get("transpose"))
    return flops, transposed


def _adjusted(core: Core, flops: Array) -> Array:
    """FLOPs in the time of BF16's."""
    factors = _ADJUSTED | ({"fp8": 1.0} if core.accesses.core.target.chip == "trn1" else {})
    kinds = [PRODUCTS.get(str.__str__(i.reads[0].dtype), "bf16") if i.reads else "bf16" for i in core.items]
    found: Array = (flops * np.array([factors.get(kind, 1.0) for kind in kinds])).astype(np.int64)
    return found


def active(starts: Array, ends: Array) -> tuple[Array, Array]:
    """The time in which at least one of several intervals runs, as disjoint intervals."""
    some = ends > starts
    return union(starts[some], ends[some])


def active_time(core: Core) -> Columns:
    """``ActiveTime``: when each compute engine is at work."""
    parts = []
    for name in COMPUTE:
        here = core.engines == name
        starts, ends = active(core.start[here], core.end[here])
        parts.append(
            {"start_ts": starts, "end_ts": ends, "engine": name.lower(), "pcore_idx": core.index,
             "duration_ns": ends - starts}
        )  # fmt: skip
    return joined(parts)


def opcode_summary(rows: Columns, seconds: float) -> Columns:
    """``OpcodeSummary``, of the rows of ``Instruction``; the share of time is a fraction."""
    groups: defaultdict[tuple[str, str], list[int]] = defaultdict(list)
    for i, key in enumerate(zip(rows["engine"], rows["opcode"], strict=True)):
        groups[key].append(i)
    start, end = np.array(rows["start_ts"], np.int64), np.array(rows["end_ts"], np.int64)
    at_work = [_length(start[at], end[at]) for at in groups.values()]
    return {
        "engine": [name for name, _ in groups], "opcode": [code for _, code in groups],
        "instruction_count": [len(at) for at in groups.values()],
        "instruction_time_ns": [int((end[at] - start[at]).sum()) for at in groups.values()],
        "active_time_ns": at_work, "active_time_percent": [ns * 1e-9 / seconds if seconds else 0.0 for ns in at_work],
    }  # fmt: skip


def _length(starts: Array, ends: Array) -> int:
    low, high = active(starts, ends)
    return int((high - low).sum())


def flow(core: Core) -> Columns:
    """``Flow``: what each instruction waits for by data or memory, and which transfer each DMA is.

    Ids are ``Instruction``'s.
    """
    waits = [(earlier, later) for later, every in enumerate(core.clock.waits) for earlier in every]
    before, after = np.array(waits, np.int64).reshape(-1, 2).T
    own = core.transfers
    return {
        "in_id": core.first + np.concatenate((before, own)),
        "out_id": core.first + np.concatenate((after, own)), "in_table": "Instruction",
        "out_table": ["Instruction"] * len(before) + ["DmaPacketAggregated"] * len(own),
        "gap_time": np.concatenate((core.start[after] - core.end[before], np.zeros_like(own))),
    }  # fmt: skip


# --- transfers ------------------------------------------------------------------------------------------------


class Tensors:
    """What the launch's HBM tensors are: ``IN`` arguments, ``OUT`` results, others None; ``TensorInfo``."""

    def __init__(self, cores: Sequence[Core]) -> None:
        self._cores = cores
        self._returned = {id(tensor.storage) for tensor in tensors(cores[0].accesses.core.launch.returned)}
        self.by_serial = {s.serial: s for core in cores for s in core.accesses.core.storages}

    def kind(self, storage: Storage) -> str | None:
        """``IN``, ``OUT`` or None."""
        return "IN" if storage.argument else "OUT" if id(storage) in self._returned else None

    def place(self, region: Region) -> str:
        """Where a transfer reads or writes, as ``DmaPacketAggregated`` names it."""
        if region.buffer.on_chip:
            return "SB" if region.buffer is MemoryRegion.sbuf else "PSUM"
        return {"IN": "INPUT", "OUT": "OUTPUT", None: "HBM"}[self.kind(self.by_serial[region.storage])]

    def variable(self, item: Instruction) -> str:
        """The tensor in HBM that a transfer is about, else the one it writes."""
        regions = (*item.reads[:1], *item.writes[:1])
        about = next((region for region in regions if not region.buffer.on_chip), item.writes[0])
        return title(self.by_serial[about.storage])

    def rows(self) -> Columns:
        """``TensorInfo``: every tensor in HBM once, and how often it was loaded into SBUF."""
        owners: defaultdict[int, set[int]] = defaultdict(set)
        found: dict[int, Storage] = {}
        for core in self._cores:
            for storage in core.accesses.core.storages:
                if not storage.buffer.on_chip:
                    found[id(storage)] = storage
                    owners[id(storage)].add(core.index)
        loads = self._loads()
        counts, total = ([loads[key][k] for key in found] for k in (0, 1))
        listed = list(found.values())
        return {
            "variable_name": [title(s) for s in listed], "type": [self.kind(s) for s in listed],
            "shape": [" ".join(map(str, s.shape)) for s in listed], "size": [s.nbytes for s in listed],
            "pcore_idx": [None if s.shared or len(owners[id(s)]) > 1 else min(owners[id(s)]) for s in listed],
            "load_to_sbuf_avg_size_bytes": [b // n if n else None for n, b in zip(counts, total, strict=True)],
            "load_to_sbuf_total_size_bytes": total, "load_to_sbuf_dma_count": counts,
            "load_to_sbuf_repeat_factor": [b / s.nbytes for b, s in zip(total, listed, strict=True)],
        }  # fmt: skip

    def _loads(self) -> defaultdict[int, tuple[int, int]]:
        """DMAs that bring a tensor to SBUF, and their bytes, by the storage."""
        found: defaultdict[int, tuple[int, int]] = defaultdict(lambda: (0, 0))
        for core in self._cores:
            for i in core.transfers.tolist():
                item = core.items[i]
                if item.reads and item.writes[0].buffer is MemoryRegion.sbuf and not item.reads[0].buffer.on_chip:
                    key = id(self.by_serial[item.reads[0].storage])
                    count, size = found[key]
                    found[key] = count + 1, size + nbytes(item.reads[0])
        return found


def transfers(core: Core, known: Tensors) -> Columns:
    """``DmaPacketAggregated``: every DMA that moves something; its id is its instruction's."""
    at = core.transfers
    items = [core.items[i] for i in at.tolist()]
    span = core.end[at] - core.start[at]
    size = moved(core)
    read = sum(core.traffic[memory, False][at] for memory in _MEMORIES)
    write = sum(core.traffic[memory, True][at] for memory in _MEMORIES)
    sources = [item.reads[0] if item.reads else None for item in items]
    targets = [item.writes[0] for item in items]
    return {
        "start_ts": core.start[at], "end_ts": core.end[at], "duration_ns": span, "id": core.first + at,
        "pcore_idx": core.index, "queue_type": [_queue_type(item) for item in items],
        "op": ["read" if item.work.get("hbm_read", 0) else "write" for item in items],
        "variable": [known.variable(item) for item in items],
        "read_bytes": read, "write_bytes": write, "transfer_bytes": size, "throughput": _throughput(size, span),
        "source": [f"[[{known.place(region)}]]" if region else None for region in sources],
        "dest": [f"[{known.place(region)}]" for region in targets],
        **_side("read", sources, core), **_side("write", targets, core),
        "is_transpose_mode": [item.opcode == "dma_transpose" for item in items],
    }  # fmt: skip


def moved(core: Core) -> Array:
    """Bytes that each transfer of a core delivers."""
    return np.array([nbytes(core.items[i].writes[0]) for i in core.transfers.tolist()], np.int64)


def _queue_type(item: Instruction) -> str:
    return _QUEUES.get(str(item.attributes.get("dge_mode")), "unknown")


def _throughput(size: Array, span: Array) -> list[float | None]:
    """Bytes per second; None for what takes less than a nanosecond."""
    return [b / ns * 1e9 if ns else None for b, ns in zip(size.tolist(), span.tolist(), strict=True)]


def _side(name: str, regions: Sequence[Region | None], core: Core) -> Columns:
    """Shape, byte offset in its tensor and SBUF partitions of one side of each transfer."""
    partitions = [_partitions(region, core) for region in regions]
    return {
        f"{name}_sbuf_partitions": partitions,
        f"{name}_num_sbuf_partitions": [
            region.pattern[0][1] if region and region.buffer is MemoryRegion.sbuf else 0 for region in regions
        ],
        f"{name}_shape": [str(list(region.shape)) if region else None for region in regions],
        f"{name}_offset": [f"[{region.offset * itemsize(region):#x}]" if region else None for region in regions],
    }


def _partitions(region: Region | None, core: Core) -> str | None:
    """Which SBUF partitions a region lies in; empty elsewhere, None where only the run tells."""
    if region is None or region.buffer is not MemoryRegion.sbuf:
        return ""
    (stride, count), size = region.pattern[0], itemsize(region)
    place = core.addresses.get(region.storage)
    storages, cores = core.accesses.core.storages, core.accesses.core.cores
    row = storages[region.storage // cores].row if place else 0
    if place is None or region.indirect or (count > 1 and stride * size != row):
        return None
    first = place[0] + region.offset * size // row
    return f"{first}-{first + count - 1}" if count > 1 else str(first)


#: Rows of ``DmaPacket`` above which the table is not written.
PACKETS = 2_000_000


def packet_count(core: Core) -> Array:
    """Descriptors of each transfer of a core."""
    return np.array([max(core.items[i].work.get("descriptors", 1), 1) for i in core.transfers.tolist()], np.int64)


def packets(core: Core, known: Tensors, first: int, engines: int) -> Columns:
    """``DmaPacket``: one row per descriptor; ``first``: id of the first row, ``engines``: DMA engines of a core.

    The clock times transfers, not packets: a transfer's packets lie evenly over its time, as many at once as there are
    DMA engines. Which engine serves which is not told.
    """
    at, counts, size = core.transfers, packet_count(core), moved(core)
    items = [core.items[i] for i in at.tolist()]
    of = np.repeat(np.arange(len(at)), counts)
    place = np.arange(len(of)) - np.repeat(np.cumsum(counts) - counts, counts)
    turn, turns = place // engines, -(-counts // engines)[of]
    start, span = core.start[at][of], (core.end - core.start)[at][of]
    begin, end = start + turn * span // turns, start + (turn + 1) * span // turns
    bytes_ = (place + 1) * size[of] // counts[of] - place * size[of] // counts[of]
    return {
        "start_ts": begin, "end_ts": end, "duration_ns": end - begin, "pcore_idx": core.index,
        "id": first + np.arange(len(of)), "packet_idx": place, "packet_aggregation_id": core.first + at[of],
        "read_bytes": bytes_, "write_bytes": bytes_, "transfer_bytes": bytes_,
        "throughput": bytes_ / np.maximum(end - begin, 1) * 1e9,
        "queue_type": np.array([_queue_type(item) for item in items], object)[of],
        "variable": np.array([known.variable(item) for item in items], object)[of],
    }  # fmt: skip
