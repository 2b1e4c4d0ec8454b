"""What a kernel did, without time: instructions per engine, DMA and HBM bytes, peaks of memory, findings.

``check`` raises what the device would do wrong; ``profile`` counts. Both read only the records of a finished
``Launch``, so two runs of one kernel give equal profiles.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np

from trainshed.chip.accesses import Accesses, accesses, itemsize, region_runs, union
from trainshed.chip.allocate import Allocation, allocate
from trainshed.chip.core import NeuronCore
from trainshed.chip.divergence import check_loops, divergence
from trainshed.chip.errors import Source
from trainshed.chip.findings import Finding, merged
from trainshed.chip.hazards import duplicate_finding, race_error, races
from trainshed.chip.launch import Launch
from trainshed.chip.memory import Storage
from trainshed.chip.overlap import check_overlap, overlapping_dmas, title
from trainshed.chip.record import Instruction, Region
from trainshed.chip.tensor import NkiTensor
from trainshed.chip.words import MemoryRegion, engine

#: Bytes per partition that a DMA should move at least. Source: DMA bandwidth guide, "Bandwidth vs. Payload Size".
SMALL_PARTITION = 2048
#: Bytes of one descriptor (a run of adjacent bytes on both sides) below which DMA is slow.
SMALL_DESCRIPTOR = 512
#: A transfer this small in all is not worth a finding unless it is repeated.
_TRIFLE = 16 * 1024
#: Findings above these shares.
NEAR_CAPACITY = 0.9
TRANSPOSE_SHARE = 0.25
RELOADED = 2.0


@dataclass(frozen=True, kw_only=True)
class EngineUse:
    """Instructions of one engine, by opcode."""

    instructions: int
    opcodes: dict[str, int]


@dataclass(frozen=True, kw_only=True)
class DmaUse:
    """DMA transfers: ``sizes`` counts them by their bytes, in powers of four (the key is the upper limit)."""

    transfers: int
    bytes: int
    smallest: int
    largest: int
    small: int
    """Transfers of under 2 KiB per partition or with descriptors under 512 B."""
    sizes: dict[int, int]


@dataclass(frozen=True, kw_only=True)
class TensorUse:
    """Traffic of one HBM tensor; ``load_repeat``: bytes that one core reads, over the tensor's size."""

    name: str
    bytes: int
    read_bytes: int
    written_bytes: int
    load_repeat: float


@dataclass(frozen=True, kw_only=True)
class Profile:
    """A kernel's run on one logical NeuronCore; counts add up all cores, peaks are of the fullest core."""

    chip: str
    cores: int
    instructions: int
    engines: dict[str, EngineUse]
    dma: DmaUse
    hbm_read_bytes: int
    hbm_write_bytes: int
    matmul_flops: int
    transposes: int
    transpose_share: float
    """Transposes among the Tensor engine's instructions."""
    sbuf_peak_bytes: int
    """Bytes per partition."""
    sbuf_bytes: int
    """Capacity, bytes per partition."""
    psum_peak_banks: int
    psum_banks: int
    tensors: tuple[TensorUse, ...]
    findings: tuple[Finding, ...]

    def to_json(self) -> dict[str, Any]:
        """All fields as plain JSON, under the names of ``kernel.result`` in docs/design.md."""
        plain = {
            name: getattr(self, name)
            for name in (
                "chip", "cores", "instructions", "hbm_read_bytes", "hbm_write_bytes", "matmul_flops", "transposes",
                "transpose_share", "sbuf_peak_bytes", "sbuf_bytes", "psum_peak_banks", "psum_banks",
            )
        }  # fmt: skip
        return plain | {
            "engines": {
                name: {"instructions": use.instructions, "opcodes": use.opcodes} for name, use in self.engines.items()
            },
            "dma": {
                "transfers": self.dma.transfers, "bytes": self.dma.bytes, "smallest": self.dma.smallest,
                "largest": self.dma.largest, "small": self.dma.small,
                "sizes": {str(limit): count for limit, count in self.dma.sizes.items()},
            },
            "tensors": [
                {"name": t.name, "bytes": t.bytes, "read_bytes": t.read_bytes, "written_bytes": t.written_bytes,
                 "load_repeat": t.load_repeat}
                for t in self.tensors
            ],
            "findings": [finding.to_json() for finding in self.findings],
        }  # fmt: skip


@dataclass(frozen=True)
class Checked:
    """A launch that holds all rules: its records as columns, addresses, and what was noticed on the way."""

    columns: tuple[Accesses, ...]
    allocations: tuple[Allocation, ...]
    findings: tuple[Finding, ...]


def check(launch: Launch) -> Checked:
    """Raise the first error of a finished launch that no single instruction shows.

    ``lnc-divergence`` of dynamic loops, ``overlap`` of explicit addresses,
    ``sbuf-capacity`` and ``psum-capacity``, ``race`` between cores.
    """
    check_loops(launch.cores)
    columns = tuple(accesses(core) for core in launch.cores)
    for column in columns:
        check_overlap(column)
    allocations = tuple(allocate(core, column) for core, column in zip(launch.cores, columns, strict=True))
    findings = [finding for allocation in allocations for finding in allocation.findings]
    findings += [finding for core in launch.cores for finding in overlapping_dmas(core)]
    found, more = races(launch.cores, columns)
    for race in found:
        if not race.same:
            raise race_error(race)
        more.append(duplicate_finding(race))
    return Checked(columns, allocations, (*findings, *more, *divergence(launch.cores)))


def profile(launch: Launch, checked: Checked | None = None) -> Profile:
    """Counts, peaks and findings of a finished launch (checked first unless that was done)."""
    checked = checked or check(launch)
    cores, target = launch.cores, launch.cores[0].target
    engines = _engines(cores)
    dma = _Dma(cores)
    tensors = _tensors(cores, checked.columns)
    transposes, on_tensor = _transposes(cores), engines.get("tensor", EngineUse(instructions=0, opcodes={}))
    peak = max(allocation.sbuf.peak for allocation in checked.allocations)
    findings = [
        *(finding for core in cores for finding in core.findings),
        *checked.findings, *dma.findings(), *(tensor.finding() for tensor in tensors if tensor.reloaded),
        *_transpose_finding(transposes, on_tensor.instructions, cores), *_near(cores, checked.allocations),
        *(finding for core, column in zip(cores, checked.columns, strict=True) for finding in _unused(core, column)),
        *_unwritten(launch, checked.columns),
    ]  # fmt: skip
    return Profile(
        chip=target.chip, cores=len(cores), instructions=sum(len(core.instructions) for core in cores),
        engines=engines, dma=dma.use(),
        hbm_read_bytes=sum(t.read for t in tensors), hbm_write_bytes=sum(t.written for t in tensors),
        matmul_flops=sum(matmul_flops(i) for core in cores for i in core.instructions if i.opcode in MATMULS),
        transposes=transposes, transpose_share=transposes / max(1, on_tensor.instructions),
        sbuf_peak_bytes=peak, sbuf_bytes=target.sbuf_row,
        psum_peak_banks=max(allocation.psum.peak for allocation in checked.allocations),
        psum_banks=target.psum_banks, tensors=tuple(t.use() for t in tensors), findings=tuple(merged(findings)),
    )  # fmt: skip


# --- instructions ---------------------------------------------------------------------------------------------

MATMULS = frozenset({"nc_matmul", "nc_matmul_mx"})


def _engines(cores: Iterable[NeuronCore]) -> dict[str, EngineUse]:
    counts = Counter((i.engine.name, i.opcode) for core in cores for i in core.instructions)
    found: dict[str, dict[str, int]] = {}
    for (name, opcode), count in sorted(counts.items()):
        found.setdefault(name, {})[opcode] = count
    return {name: EngineUse(instructions=sum(opcodes.values()), opcodes=opcodes) for name, opcodes in found.items()}


def matmul_flops(instruction: Instruction) -> int:
    """Two per multiplication and addition; none for a transpose."""
    return 0 if _is_transpose(instruction) else 2 * instruction.work.get("macs", 0)


def _is_transpose(instruction: Instruction) -> bool:
    return bool(instruction.attributes.get("transpose"))


def _transposes(cores: Iterable[NeuronCore]) -> int:
    return sum(i.engine is engine.tensor and _is_transpose(i) for core in cores for i in core.instructions)


def _transpose_finding(count: int, total: int, cores: Iterable[NeuronCore]) -> list[Finding]:
    """Source: NKI performance guide, "Mitigating overhead from tensor transposes"."""
    if not total or count / total < TRANSPOSE_SHARE:
        return []
    lines = Counter(
        i.source for core in cores for i in core.instructions if i.engine is engine.tensor and _is_transpose(i)
    )
    at = max(lines, key=lambda line: (lines[line], line))
    return [Finding("transposes", f"{count / total:.0%} of the Tensor engine's instructions transpose", at, count)]


# --- DMA ------------------------------------------------------------------------------------------------------


@lru_cache(maxsize=65536)
def _adjacent(size: int, pattern: tuple[tuple[int, int], ...]) -> int:
    """Bytes of one run of adjacent elements, in the order of the pattern."""
    run = 1
    for stride, count in reversed(pattern):
        if count > 1:
            if stride != run:
                break
            run *= count
    return run * size


def _bytes(region: Region) -> int:
    return math.prod(count for _, count in region.pattern) * itemsize(region)


def _run(region: Region) -> int:
    """Bytes of one descriptor's side."""
    pattern = region.pattern[1:] if region.buffer.on_chip else region.pattern
    return _adjacent(itemsize(region), pattern)


def _transfers(cores: Iterable[NeuronCore]) -> Iterable[Instruction]:
    return (i for core in cores for i in core.instructions if i.engine is engine.dma and i.writes)


class _Dma:
    """DMA transfers of all cores, and by line those that are small."""

    def __init__(self, cores: Iterable[NeuronCore]) -> None:
        self.sizes: Counter[int] = Counter()
        self.small = 0
        lines: dict[tuple[str, Source], list[tuple[int, int, int, int]]] = {}
        for instruction in _transfers(cores):
            region = instruction.writes[0]
            size = _bytes(region)
            self.sizes[size] += 1
            run = min(_run(side) for side in (*instruction.reads[:1], region))
            sides = [side for side in (*instruction.reads[:1], region) if side.buffer.on_chip]
            partitions = sides[0].pattern[0][1] if sides else 0
            per_partition = size // partitions if partitions else size
            if run < SMALL_DESCRIPTOR or (partitions and per_partition < SMALL_PARTITION):
                self.small += 1
                lines.setdefault((instruction.opcode, instruction.source), []).append(
                    (per_partition, run, partitions, size)
                )
        self.lines = lines

    def use(self) -> DmaUse:
        steps: Counter[int] = Counter()
        for size, count in self.sizes.items():
            limit = 64
            while limit < size:
                limit *= 4
            steps[limit] += count
        return DmaUse(
            transfers=sum(self.sizes.values()), bytes=sum(size * count for size, count in self.sizes.items()),
            smallest=min(self.sizes, default=0), largest=max(self.sizes, default=0), small=self.small,
            sizes=dict(sorted(steps.items())),
        )  # fmt: skip

    def findings(self) -> list[Finding]:
        """Source: the DMA bandwidth guide."""
        found = []
        for (opcode, at), items in self.lines.items():
            total = sum(size for *_, size in items)
            if total < _TRIFLE and len(items) < 16:
                continue
            per_partition, run, partitions, _ = min(items)
            where = f"{per_partition} B in each of {partitions} partitions" if partitions else f"{per_partition} B"
            message = (
                f"{opcode} of {where}, runs of {run} B ({total} B in all): at least {SMALL_PARTITION} B per "
                f"partition and runs of {SMALL_DESCRIPTOR} B keep DMA engines busy"
            )
            found.append(Finding("small-dma", message, at, len(items)))
        return found


# --- HBM ------------------------------------------------------------------------------------------------------


@dataclass
class _Tensor:
    """Traffic of one HBM tensor."""

    storage: Storage
    read: int = 0
    written: int = 0
    most: int = 0
    """Bytes that one core reads."""
    lines: Counter[Source] = field(default_factory=Counter)

    @property
    def repeat(self) -> float:
        return self.most / self.storage.nbytes

    @property
    def reloaded(self) -> bool:
        return self.repeat >= RELOADED and self.most - self.storage.nbytes >= 4 * _TRIFLE

    def finding(self) -> Finding:
        """Source: NKI performance guide, "input reloading"; the factor is Neuron Explorer's load repeat factor."""
        at = max(self.lines, key=lambda line: (self.lines[line], line))
        what = f"{title(self.storage)}, {self.storage.nbytes} B, is read {self.repeat:.3g} times over ({self.most} B)"
        return Finding("reload", what, at)

    def use(self) -> TensorUse:
        return TensorUse(
            name=title(self.storage), bytes=self.storage.nbytes, read_bytes=self.read, written_bytes=self.written,
            load_repeat=round(self.repeat, 6),
        )  # fmt: skip


def _tensors(cores: list[NeuronCore], columns: Iterable[Accesses]) -> list[_Tensor]:
    """HBM tensors in the order of their allocation; one memory that several cores name is one tensor."""
    same: dict[int, _Tensor] = {}
    by_serial: dict[int, _Tensor] = {}
    for core in cores:
        for storage in core.storages:
            if not storage.buffer.on_chip:
                # By allocation, not by address: two arguments may lend the bytes of one array.
                by_serial[storage.serial] = same.setdefault(id(storage), _Tensor(storage))
    for core, column in zip(cores, columns, strict=True):
        mine: Counter[int] = Counter()
        skip = {t for t, item in enumerate(core.instructions) if item.opcode == "core_barrier"}
        for k in np.flatnonzero(np.isin(column.storage, list(by_serial))).tolist():
            region, time = column.regions[k], int(column.time[k])
            if time in skip:
                continue
            tensor, size = by_serial[region.storage], _bytes(region)
            if column.write[k]:
                tensor.written += size
            else:
                tensor.read += size
                mine[id(tensor)] += size
                tensor.lines[core.instructions[time].source] += size
        for tensor in same.values():
            tensor.most = max(tensor.most, mine[id(tensor)])
    return list(same.values())


def _results(value: Any) -> set[int]:
    """Serials of the tensors that a kernel returned."""
    if isinstance(value, NkiTensor):
        return {value.storage.serial}
    if isinstance(value, dict):
        return _results(list(value.values()))
    if isinstance(value, tuple | list):
        return {serial for item in value for serial in _results(item)}
    return set()


def _unwritten(launch: Launch, columns: Iterable[Accesses]) -> list[Finding]:
    """Results (where nothing is returned: HBM tensors of the kernel) that are never, or not wholly, written."""
    cores, results = launch.cores, _results(launch.returned)
    found = []
    pieces: dict[int, list[Region]] = {}
    hbm = [s.serial for core in cores for s in core.storages if not s.buffer.on_chip and s.written is not True]
    for column in columns:
        for k in np.flatnonzero(column.write & np.isin(column.storage, hbm)).tolist():
            pieces.setdefault(column.regions[k].storage, []).append(column.regions[k])
    for core in cores:
        for storage in core.storages:
            if storage.buffer.on_chip or storage.argument or storage.source is None:
                continue
            if results and storage.serial not in results:
                continue
            regions = pieces.get(storage.serial, [])
            if any(region.indirect for region in regions) and not core.options.values:
                continue
            bytes_ = _written_bytes(storage, regions, core.options.values)
            if bytes_ < storage.nbytes:
                what = f"{title(storage)} in {storage.buffer}: {bytes_} of {storage.nbytes} B ever written"
                found.append(Finding("unwritten", what, storage.source))
    return found


def _written_bytes(storage: Storage, regions: list[Region], values: bool) -> int:
    if storage.written is True:
        return storage.nbytes
    if values:
        return int(np.count_nonzero(storage.written)) if isinstance(storage.written, np.ndarray) else 0
    if not regions:
        return 0
    spread = [region_runs(region) for region in dict.fromkeys(regions)]
    starts, stops = union(np.concatenate([a for a, _ in spread]), np.concatenate([b for _, b in spread]))
    return int((stops - starts).sum())


# --- on chip --------------------------------------------------------------------------------------------------


def _unused(core: NeuronCore, columns: Accesses) -> list[Finding]:
    """Tensors that a DMA loads and nothing reads."""
    read = set(np.unique(columns.storage[~columns.write]).tolist())
    found = []
    seen: set[int] = set()
    for instruction in _transfers([core]):
        region = instruction.writes[0]
        loads = instruction.reads and not instruction.reads[0].buffer.on_chip
        if loads and region.buffer is MemoryRegion.sbuf and region.storage not in read and region.storage not in seen:
            seen.add(region.storage)
            storage = core.storages[region.storage // core.cores]
            found.append(Finding("unused-load", f"{title(storage)} is loaded and never read", instruction.source))
    return found


def _near(cores: Iterable[NeuronCore], allocations: Iterable[Allocation]) -> list[Finding]:
    """Memories that are nearly full, at the instruction of the peak."""
    found = []
    for core, allocation in zip(cores, allocations, strict=True):
        if not core.instructions:
            continue
        limit = core.target.sbuf_row
        peak = allocation.sbuf.peak
        if peak >= NEAR_CAPACITY * limit:
            at = core.instructions[int(np.argmax(allocation.sbuf.occupied))].source
            found.append(Finding("near-capacity", f"{peak} of {limit} B of SBUF per partition are live", at))
    return found
