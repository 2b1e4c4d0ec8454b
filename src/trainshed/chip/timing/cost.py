"""What one instruction costs: how long it holds its engine, and how long after that its result may be used.

Cycles are the vendor's formulas of NKI's instruction pages (cost in engine cycles, N elements per partition), with
the performance modes of later generations. Source: ``nki.isa`` of 2025-10 ("estimated instruction cost"), the
Trainium2 and Trainium3 architecture guides, the NKI performance guide.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from trainshed.chip.accesses import itemsize
from trainshed.chip.record import Instruction, Region
from trainshed.chip.timing.rates import PRODUCTS, Rates
from trainshed.chip.words import MemoryRegion, engine


class Cost(NamedTuple):
    """Seconds that an instruction holds its engine, and from there to the use of what it wrote."""

    busy: float
    latency: float
    fast: bool = False
    """In one of VectorE's fast modes."""


#: Work of a collective: picoseconds on the links between ranks.
LINKS = "links_ps"
#: VectorE instructions that run at its narrow and wide rates; the others take one element per cycle, or less.
_FAST = frozenset(("tensor_copy", "tensor_scalar", "memset", "tensor_scalar_reduce"))
#: Cycles per element of those that take longer, and cycles more per instruction. GpSimd's begin with a program.
_SLOW = {"reciprocal": 8.0, "tensor_tensor_scan": 2.0, "bn_aggr": 13 / 3}
_PROGRAM = {"iota": 150.0, "affine_select": 150.0, "local_gather": 150.0, "nc_n_gather": 150.0}


def cost(instruction: Instruction, rates: Rates) -> Cost:
    """The cost of anything but a DMA."""
    return _COSTS.get(instruction.engine, _on_sync)(instruction, rates)


def _on_tensor(item: Instruction, rates: Rates) -> Cost:
    """A column per cycle, float32 in four passes; the stationary operand is loaded behind the matmul before.

    A result has passed the rows of the array and PSUM's write before another engine may read it.
    """
    work = item.work
    kind = PRODUCTS.get(str.__str__(item.reads[0].dtype), "bf16") if item.reads else "bf16"
    columns = work.get("columns", 0)
    cycles = columns / rates.columns_per_cycle.get(kind, 1.0)
    if item.attributes.get("transpose"):
        cycles = columns
    busy = max(cycles, rates.matmul_floor) / rates.tensor_clock
    return Cost(busy, rates.tensor_rows / rates.tensor_clock + rates.overhead)


def _narrow(regions: tuple[Region, ...]) -> bool:
    return all(itemsize(region) <= 2 for region in regions)


def _on_vector(item: Instruction, rates: Rates) -> Cost:
    name, count = item.opcode, item.work.get("elements", 0)
    operands = (*(r for r in item.reads if r.buffer.on_chip and _wide(r)), *item.writes)
    in_psum = any(region.buffer is MemoryRegion.psum for region in operands)
    fast = 1.0
    if rates.vector_wide > 1 or rates.vector_narrow > 1:
        if name in _FAST:
            narrow = rates.vector_wide if in_psum else rates.vector_narrow
            fast = narrow if _narrow(operands) else rates.vector_full
        elif name == "tensor_tensor" and _narrow(operands) and not in_psum:
            fast = rates.vector_wide
    elif name == "tensor_tensor" and not in_psum and not _narrow(operands):
        fast = 0.5
    elif name == "memset" and _narrow(operands):
        fast = 2.0
    if name == "tensor_reduce" and _narrow(operands) and item.attributes.get("op") in ("add", "max", "maximum"):
        fast = 2.0
    special = {"quantize_mx": rates.quantize, "exponential": rates.exponential}.get(name)
    if special:
        return Cost(max(count / special, rates.floor) / rates.vector_clock + rates.overhead, 0.0)
    cycles = max(count * _SLOW.get(name, 1.0) / fast, rates.floor)
    return Cost(cycles / rates.vector_clock + rates.overhead, 0.0, fast > 1)


def _wide(region: Region) -> bool:
    """Whether an operand is more than a value per partition."""
    return len(region.pattern) > 1 and any(count > 1 for _, count in region.pattern[1:])


def _on_scalar(item: Instruction, rates: Rates) -> Cost:
    count = item.work.get("elements", 0)
    operands = (*(r for r in item.reads if r.buffer.on_chip and _wide(r)), *item.writes)
    fast = rates.scalar_wide
    if item.opcode in _FAST and _narrow(operands):
        fast = rates.scalar_narrow
    return Cost(max(count / fast, rates.floor) / rates.scalar_clock + rates.overhead, 0.0)


#: Activation functions that ScalarE computes without a table: an estimate, by what they are made of.
_PLAIN = frozenset(("copy", "identity", "relu", "square", "abs", "sign"))


def table(item: Instruction) -> str | None:
    """The function whose table ScalarE must have loaded. Which functions share one is not published: none do here."""
    name = item.attributes.get("op") if item.engine is engine.scalar and item.opcode.startswith("activat") else None
    return None if name is None or name in _PLAIN else str(name)


def _on_gpsimd(item: Instruction, rates: Rates) -> Cost:
    count = item.work.get("elements", 0)
    cycles = max(count * _SLOW.get(item.opcode, 1.0), rates.floor) + _PROGRAM.get(item.opcode, 0.0)
    return Cost(cycles / rates.gpsimd_clock, rates.overhead)


def _on_sync(item: Instruction, rates: Rates) -> Cost:
    """A collective among ranks takes what the fabric says, launch included: whoever runs the ranks has recorded it."""
    if LINKS in item.work:
        return Cost(item.work[LINKS] * 1e-12, 0.0)
    return Cost(rates.floor / rates.gpsimd_clock, rates.overhead)


_COSTS: dict[engine, Callable[[Instruction, Rates], Cost]] = {
    engine.tensor: _on_tensor, engine.vector: _on_vector, engine.scalar: _on_scalar, engine.gpsimd: _on_gpsimd,
}  # fmt: skip
