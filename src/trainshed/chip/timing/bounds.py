"""What a kernel cannot be faster than, and how much of a core it uses."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from trainshed.chip.record import Instruction
from trainshed.chip.timing.clock import Clock
from trainshed.chip.timing.origins import Origins
from trainshed.chip.timing.rates import PRODUCTS, Rates
from trainshed.chip.words import engine


def bounds(items: Sequence[Instruction], origins: Origins, clock: Clock, rates: Rates) -> dict[str, float]:
    """Least seconds of one core's instructions, if nothing but the one thing took time.

    ``tensor``, ``vector``, ``scalar``, ``gpsimd``, ``sync``: the engine's instructions without a pause;
    ``dma``: all bytes moved by DMA at the bandwidth of all DMA engines; ``dma_descriptors``: all descriptors, however
    small, shared by all DMA engines; ``dependencies``: the longest chain of instructions that wait for each other's
    results, with as many engines as one likes.
    """
    found = {
        name: float((clock.end - clock.start)[origins.on(name)].sum()) for name in origins.engines if name != "dma"
    }
    if "dma" in origins.engines:
        transfers = [items[i].work for i in origins.on("dma").tolist()]
        found["dma"] = sum(work.get("bytes", 0) for work in transfers) / (rates.dma_engines * rates.dma_bandwidth)
        count = sum(work.get("descriptors", 1) for work in transfers)
        found["dma_descriptors"] = count * rates.descriptor / rates.dma_engines
    if items:
        found["dependencies"] = chain(items, clock, rates)
    return found


def chain(items: Sequence[Instruction], clock: Clock, rates: Rates) -> float:
    """Seconds of the longest chain of dependent instructions with engines without end.

    An instruction takes from its start until its results are ready; TensorE follows itself without that latency, and a
    DMA is served by all DMA engines at once.
    """
    busy, whole = (clock.end - clock.start).tolist(), (clock.ready - clock.release).tolist()
    on_tensor = [item.engine is engine.tensor for item in items]
    begins = [0.0] * len(items)
    longest = 0.0
    for i, item in enumerate(items):
        if item.engine is engine.dma:
            whole[i] = min(whole[i], _alone(item, rates))
        begin = 0.0
        for j in clock.waits[i]:
            begin = max(begin, begins[j] + (busy[j] if on_tensor[i] and on_tensor[j] else whole[j]))
        begins[i] = begin
        longest = max(longest, begin + whole[i])
    return longest


def _alone(item: Instruction, rates: Rates) -> float:
    """Seconds of a DMA that shares its DMA engines with no other."""
    work = item.work
    bytes_, descriptors = work.get("bytes", 0), work.get("descriptors", 1)
    moving = max(bytes_ / rates.dma_bandwidth, descriptors * rates.descriptor) / rates.dma_engines
    return moving + max(rates.dma_fixed - rates.descriptor, 0.0)


def products(items: Sequence[Instruction], rates: Rates) -> tuple[float, float]:
    """Seconds that TensorE's multiplications would take at the peaks of their dtypes: of matmuls, and of all it does.

    A transpose multiplies by an identity and hands bits on, a column per cycle whatever the dtype; it is in the second
    figure alone.
    """
    flops: defaultdict[str, int] = defaultdict(int)
    turned = 0
    for item in items:
        if item.engine is not engine.tensor:
            continue
        work = item.work
        count = 2 * work.get("rows", 0) * work.get("columns", 0) * work.get("depth", 0)
        if item.attributes.get("transpose"):
            turned += count
        else:
            flops[str.__str__(item.reads[0].dtype)] += count
    usual = rates.peak["bf16"]
    matmuls = sum(count / rates.peak.get(PRODUCTS.get(dtype, "bf16"), usual) for dtype, count in flops.items())
    return matmuls, matmuls + turned / usual


def hbm_bytes(items: Sequence[Instruction]) -> int:
    """Bytes that DMAs read from and write to HBM."""
    works = (item.work for item in items if item.engine is engine.dma)
    return sum(work.get("hbm_read", 0) + work.get("hbm_write", 0) for work in works)
