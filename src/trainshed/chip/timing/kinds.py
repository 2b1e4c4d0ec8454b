"""What instructions have in common: everything that decides their cost, looked up once per kind.

A kernel of a million instructions has a few dozen kinds. Times are whole femtoseconds from here to the end of the
clock, so that adding them in any order gives the same sum and repeated work can be told exactly.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from trainshed.chip.accesses import Accesses
from trainshed.chip.record import Instruction
from trainshed.chip.timing.cost import LINKS, cost, table
from trainshed.chip.timing.rates import Rates
from trainshed.chip.words import MemoryRegion, engine

Array = np.ndarray[Any, np.dtype[np.int64]]

SECOND = 10**15
"""Femtoseconds."""


def whole(seconds: float) -> int:
    """Femtoseconds."""
    return round(seconds * SECOND)


class Kind(NamedTuple):
    """One kind of instruction on one core."""

    queue: int
    """What keeps it in program order, as a place in :attr:`Kinds.queues`."""
    busy: int
    """Time on its engine; of a DMA, time in which its descriptors are made."""
    latency: int
    held: int
    """Time for which its queue is held: less than ``busy`` of what runs in the background."""
    tensor: bool
    descriptors: int
    """Of a DMA; 0: no DMA."""
    each: int
    """Time of one descriptor on a DMA engine."""
    table: str | None
    """Function that ScalarE must have loaded."""
    port: str | None
    """Way to memory that another engine may hold."""


class Kinds(NamedTuple):
    """The kinds of one core's instructions."""

    kinds: list[Kind]
    of: Array
    """Kind per instruction."""
    queues: list[str]
    dma_queues: int
    """Transfers under way at once from one place of issue."""

    def queue(self) -> Array:
        """Queue per instruction."""
        return np.array([kind.queue for kind in self.kinds], np.int64)[self.of]

    def in_order(self) -> Array:
        """Whether an instruction's result may be used by the next of its queue, per instruction."""
        kept = [
            (kind.tensor and kind.held == kind.busy) or not (kind.latency or kind.descriptors) for kind in self.kinds
        ]
        return np.array(kept, bool)[self.of]


def kinds(columns: Accesses, rates: Rates) -> Kinds:
    """The kinds of a core's instructions."""
    found: dict[Any, int] = {}
    made: list[Kind] = []
    queues: dict[str, int] = {}
    of = []
    forms, place, dma = columns.forms.tolist(), 0, engine.dma
    for item in columns.core.instructions:
        on, get = item.engine, item.attributes.get
        begin, place = place, place + len(item.reads) + len(item.writes)
        asked = (get("dge_mode"), get("queue")) if on is dma else (get("op"), get("transpose"), get("channel"))
        key = (item.opcode, id(on), *asked, *item.work.values(), *forms[begin:place])
        kind = found.get(key)
        if kind is None:
            kind = found[key] = len(made)
            made.append(_kind(item, rates, queues))
        of.append(kind)
    return Kinds(made, np.array(of, np.int64), list(queues), rates.dma_queues)


def queue_of(item: Instruction) -> str:
    """What keeps instructions in program order: an engine, or the queue that issues loads or stores.

    Descriptors of a gather are a program of GpSimd's; a hardware engine makes them for the sequencer that asks.
    Source: "Descriptor generation engine" (nki-dge). Collectives among ranks are the CC-cores' work: one after
    another, each channel of a ring for itself. Source: Trainium2 architecture guide, "CC-Cores".
    """
    if LINKS in item.work:
        return f"collectives {item.attributes['channel']}" if item.attributes.get("channel") else "collectives"
    if item.engine is not engine.dma:
        return item.engine.name
    mode = item.attributes.get("dge_mode")
    if mode == "swdge" or (mode == "unknown" and any(r.indirect == "vector" for r in (*item.reads, *item.writes))):
        return engine.gpsimd.name
    if mode == "hwdge":
        return "dge.scalar" if item.attributes.get("queue") == engine.scalar.name else "dge.sync"
    return "load" if item.work.get("hbm_read", 0) else "store"


def _kind(item: Instruction, rates: Rates, queues: dict[str, int]) -> Kind:
    name = queue_of(item)
    queue = queues.setdefault(name, len(queues))
    if item.engine is engine.dma:
        count, size = _descriptors(item, rates)
        generation = 0.0
        if name == engine.gpsimd.name:
            generation = count * rates.software_descriptor
        elif name.startswith("dge"):
            generation = rates.dge
        far = (item.work.get("hbm_read", 0) + item.work.get("hbm_write", 0)) / count
        each = max(size / rates.dma_bandwidth, far * rates.dma_engines / rates.hbm_bandwidth, rates.descriptor)
        made = whole(generation)
        return Kind(queue, made, 0, made, False, count, whole(each), None, None)
    spent, port = cost(item, rates), _port(item, rates)
    held = spent.busy
    if rates.background and item.engine is engine.tensor and item.attributes.get("transpose"):
        held, port = rates.matmul_floor / rates.tensor_clock, "background"
    return Kind(
        queue, whole(spent.busy), whole(spent.latency), whole(held), item.engine is engine.tensor, 0, 0,
        table(item) if rates.table_load else None, port,
    )  # fmt: skip


#: Bytes of the pieces into which few large descriptors are cut for several engines: an estimate, Neuron's default DMA
#: packet of 4 KiB (Neuron runtime, "Collectives"; how the compiler cuts is not published).
_SPLIT = 4096


def _descriptors(item: Instruction, rates: Rates) -> tuple[int, float]:
    """How many descriptors a DMA is, and the bytes of one."""
    count = max(item.work.get("descriptors", 1), 1)
    size = item.work.get("bytes", 0) / count
    if count < rates.dma_engines and size > 2 * _SPLIT:
        pieces = min(rates.dma_engines // count, int(size // _SPLIT))
        return count * pieces, size / pieces
    return count, size


def _port(item: Instruction, rates: Rates) -> str | None:
    """The way to memory that only one of two engines has at a time.

    NeuronCore-v2: VectorE and GpSimd take turns at SBUF, VectorE and ScalarE at PSUM. Later ones do not, but for
    VectorE's fast modes, which borrow GpSimd's way to SBUF. Source: Trainium2 architecture guide.
    """
    regions = (*item.reads, *item.writes)
    if item.engine in (engine.vector, engine.scalar) and rates.shared_ports:
        if any(region.buffer is MemoryRegion.psum for region in regions):
            return "psum"
        return "sbuf" if item.engine is engine.vector else None
    if item.engine is engine.gpsimd:
        return "sbuf"
    if item.engine is engine.vector and any(region.buffer is MemoryRegion.sbuf for region in regions):
        return "sbuf" if cost(item, rates).fast else None
    return None


def interleaved(parts: Sequence[Array], fill: int) -> Array:
    """Columns of several cores as one, instruction by instruction; what a shorter core lacks is ``fill``."""
    length = max(len(part) for part in parts)
    made = np.full((length, len(parts)), fill, np.int64)
    for place, part in enumerate(parts):
        made[: len(part), place] = part
    return made.reshape(-1)
