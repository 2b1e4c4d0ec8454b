"""What a kernel cannot be faster than, and how much of a core it uses."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from trainshed.chip.record import Instruction
from trainshed.chip.timing.clock import Clock
from trainshed.chip.timing.origins import Array, Origins
from trainshed.chip.timing.rates import PRODUCTS, Rates
from trainshed.chip.words import engine


def bounds(items: Sequence[Instruction], origins: Origins, clock: Clock, rates: Rates) -> dict[str, float]:
    """Least seconds of one core's instructions, if nothing but the one thing took time.

    ``tensor``, ``vector``, ``scalar``, ``gpsimd``, ``sync``: the engine's instructions without a pause;
    ``dma``: all bytes moved by DMA at the bandwidth of all DMA engines; ``hbm``: bytes from and to HBM at the bandwidth
    that the core can have of it; ``dma_descriptors``: all descriptors, however small, shared by all DMA engines;
    ``dependencies``: the longest chain of instructions that wait for each other's
    results, with as many engines as one likes.
    """
    found = {
        name: float((clock.end - clock.start)[origins.on(name)].sum()) for name in origins.engines if name != "dma"
    }
    if "sync" in found:  # collectives on several channels run side by side
        spent: defaultdict[str, float] = defaultdict(float)
        for i in origins.on("sync").tolist():
            spent[clock.queue[i]] += float(clock.end[i] - clock.start[i])
        found["sync"] = max(spent.values())
    transfers = origins.on("dma")
    works = [items[i].work for i in transfers.tolist()]
    bytes_ = np.array([work.get("bytes", 0) for work in works], np.float64)
    descriptors = np.array([work.get("descriptors", 1) for work in works], np.float64)
    if works:
        found["dma"] = float(bytes_.sum()) / (rates.dma_engines * rates.dma_bandwidth)
        found["hbm"] = hbm_bytes(items) / rates.hbm_bandwidth
        found["dma_descriptors"] = float(descriptors.sum()) * rates.descriptor / rates.dma_engines
    if items:
        whole = clock.ready - clock.start  # without waits for an engine's way to memory
        alone = np.minimum((clock.ready - clock.release)[transfers], _alone(bytes_, descriptors, rates))
        whole[transfers] = alone
        tensor = np.zeros(len(items), bool)
        tensor[origins.on("tensor")] = True
        found["dependencies"] = chain(clock, whole, tensor)
    return found


def _alone(bytes_: Array, descriptors: Array, rates: Rates) -> Array:
    """Seconds of DMAs that share the DMA engines with no other."""
    moving: Array = np.maximum(bytes_ / rates.dma_bandwidth, descriptors * rates.descriptor) / rates.dma_engines
    return moving + max(rates.dma_fixed - rates.descriptor, 0.0)


def chain(clock: Clock, whole: Array, tensor: Array) -> float:
    """Seconds of the longest chain of dependent instructions with engines without end.

    ``whole``: seconds of each until its results are ready; ``tensor``: whether it is on TensorE, which follows itself
    without the latency of its results.
    """
    busy, lasts, on_tensor = (clock.end - clock.start).tolist(), whole.tolist(), tensor.tolist()
    begins = [0.0] * len(lasts)
    waits = clock.waits
    for i in np.argsort(clock.release, kind="stable").tolist():  # an author's edges may lead back in the program
        begin = 0.0
        for j in waits[i]:
            moment = begins[j] + (busy[j] if on_tensor[i] and on_tensor[j] else lasts[j])
            if moment > begin:
                begin = moment
        begins[i] = begin
    return float((np.array(begins) + whole).max(initial=0.0))


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
