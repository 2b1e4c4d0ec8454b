"""What a simulated launch adds up to, as Neuron Explorer's tables: use of memories and bandwidth, summary, metadata.

Fields whose unit is percent hold fractions, as in the profiler's own output. Durations in ``Summary`` are seconds.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import Any

import numpy as np

from trainshed.chip.accesses import Array
from trainshed.chip.allocate import Placement
from trainshed.chip.timing.rates import Rates
from trainshed.hardware.catalogue import Catalogue
from trainshed.report.explorer_tables import COMPUTE, Columns, Core, Tensors, active, joined, moved

#: The SBUF partitions that ``SbufUsage`` samples.
_SAMPLED = (0, 32, 64, 96)


# --- memories and bandwidth over time -------------------------------------------------------------------------


def sbuf_usage(core: Core) -> Columns:
    """``SbufUsage`` wherever it changes: how full partitions are with what lives between first and last access."""
    target = core.accesses.core.target
    begin, end, partition, partitions, _, row = _lives(core, core.allocation.sbuf)
    moments = np.unique(np.concatenate((begin, end)))

    def full(size: Array, capacity: int) -> Array:
        return np.minimum(_level(moments, begin, end, size) / capacity, 1.0)

    return {
        "timestamp": moments, "pcore_idx": core.index,
        "avg_util_percent": full(partitions * row, target.partitions * target.sbuf_row),
        **{
            f"partition_{p}_util_percent": full(
                np.where((partition <= p) & (p < partition + partitions), row, 0), target.sbuf_row
            )
            for p in _SAMPLED
        },
    }  # fmt: skip


def psum_usage(core: Core) -> Columns:
    """``PsumUsage`` wherever it changes, in bytes; banks only where the kernel gives every address itself."""
    target, placed = core.accesses.core.target, core.allocation.psum
    begin, end, _, partitions, offset, row = _lives(core, placed)
    moments = np.unique(np.concatenate((begin, end)))
    known = all(storage.address is not None for storage in placed.lives.storages)

    def bank(k: int) -> Any:
        low, high = k * target.psum_bank, (k + 1) * target.psum_bank
        inside = np.maximum(np.minimum(offset + row, high) - np.maximum(offset, low), 0)
        level = _level(moments, begin, end, inside * partitions) / (target.psum_bank * target.partitions)
        return np.minimum(level, 1.0) if known else [None] * len(moments)

    level = _level(moments, begin, end, partitions * row) / (target.partitions * target.psum_row)
    return {
        "timestamp": moments, "pcore_idx": core.index, "avg_util_percent": np.minimum(level, 1.0),
        **{f"bank_{k}_util_percent": bank(k) for k in range(target.psum_banks)},
    }  # fmt: skip


def _lives(core: Core, placed: Placement) -> tuple[Array, ...]:
    """Begin and end in time of what lies in a memory, and its first partition, partitions, offset and row.

    Tensors at one explicit place count once while they overlap.
    """
    own, accesses = core.accesses.core, core.accesses
    mine = accesses.storage % own.cores == own.index
    which, when = accesses.storage[mine] // own.cores, accesses.time[mine]
    begin = np.full(len(own.storages), np.iinfo(np.int64).max)
    end = np.zeros(len(own.storages), np.int64)
    np.minimum.at(begin, which, core.start[when])
    np.maximum.at(end, which, core.end[when])
    rows = sorted(
        (
            (int(partition), s.shape[0], int(offset), s.row, -1 if s.address else s.serial),
            int(begin[s.serial // own.cores]), int(end[s.serial // own.cores]),
        )
        for s, partition, offset in zip(placed.lives.storages, placed.partition, placed.offset, strict=True)
    )  # fmt: skip
    found = []
    for place, same in groupby(rows, key=lambda row: row[0]):
        times = np.array([row[1:] for row in same], np.int64)
        found += [(low, high, *place[:4]) for low, high in zip(*active(times[:, 0], times[:, 1]), strict=True)]
    return tuple(np.array(found, np.int64).reshape(-1, 6).T)


def _level(moments: Array, begin: Array, end: Array, amount: Array) -> Array:
    """At each moment, the sum of the amounts of what has begun and not ended."""

    def sums(times: Array) -> Array:
        order = np.argsort(times, kind="stable")
        total = np.concatenate(([0], np.cumsum(amount[order])))
        found: Array = total[np.searchsorted(times[order], moments, side="right")]
        return found

    level: Array = sums(begin) - sums(end)
    return level


def throughput(core: Core, size: Array) -> Columns:
    """``DmaUsage`` or ``HbmUsage``: bytes per second whenever it changes, and bytes so far.

    ``size``: bytes of each transfer, which moves them evenly over its time.
    """
    begin = core.start[core.transfers]
    end = np.maximum(core.end[core.transfers], begin + 1)
    moments = np.unique(np.concatenate((begin, end)))
    rate = size / (end - begin)
    under_way = _level(moments, begin, end, np.ones(len(begin), np.int64)) > 0
    current = np.where(under_way, np.maximum(_level(moments, begin, end, rate), 0.0), 0.0)
    total = np.concatenate(([0.0], np.cumsum(current[:-1] * np.diff(moments))))[: len(moments)]
    return {
        "timestamp": moments, "pcore_idx": core.index, "current_throughput": current * 1e9,
        "total_transfer_bytes": np.rint(total).astype(np.int64),
    }  # fmt: skip


def usage(cores: Sequence[Core]) -> dict[str, Columns]:
    """``SbufUsage``, ``PsumUsage``, ``DmaUsage`` and ``HbmUsage`` of all cores."""
    hbm = [(core.traffic["hbm", False] + core.traffic["hbm", True])[core.transfers] for core in cores]
    return {
        "SbufUsage": joined(sbuf_usage(core) for core in cores),
        "PsumUsage": joined(psum_usage(core) for core in cores),
        "DmaUsage": joined(throughput(core, moved(core)) for core in cores),
        "HbmUsage": joined(throughput(core, size) for core, size in zip(cores, hbm, strict=True)),
    }


# --- summary and metadata -------------------------------------------------------------------------------------


def summary(cores: Sequence[Core], tables: dict[str, Columns], known: Tensors, rates: Rates) -> Columns:
    """``Summary``, one row; a time in which an engine is active is that in which it is so on any core."""
    rows, total = tables["Instruction"], max(core.clock.seconds for core in cores)
    figures: dict[str, Any] = {"total_time": total, "is_simulation": True, **_compute(cores, rows, rates, total)}
    start, end = np.array(rows["start_ts"], np.int64), np.array(rows["end_ts"], np.int64)
    engines = np.array(rows["engine"], object)
    for name in COMPUTE:
        here, key = engines == name, f"{name.lower()}_engine"
        figures[f"{key}_instruction_time"] = float((end - start)[here].sum()) * 1e-9
        figures[f"{key}_instruction_count"] = int(here.sum())
        figures |= _share(f"{key}_active_time", start[here], end[here], total)
    figures["total_exec_time"] = float(end.max(initial=0) - start.min(initial=end.max(initial=0))) * 1e-9
    figures |= _share("total_active_time", start, end, total)
    figures |= _dma(tables, total)
    for name in ("hbm_read", "hbm_write", "sbuf_read", "sbuf_write", "psum_read", "psum_write", "psum_read_sbuf_write"):
        figures[f"{name}_bytes"] = int(np.sum(rows[f"{name}_bytes"]))
    figures["psum_read_sbuf_write_count"] = int(np.count_nonzero(rows["psum_read_sbuf_write_bytes"]))
    tensors = known.rows()
    sizes = {"IN": 0, "OUT": 0, None: 0}
    for kind, size in zip(tensors["type"], tensors["size"], strict=True):
        sizes[kind] += size
    figures["inputs_and_weights_size_bytes"] = sizes["IN"]
    figures["inputs_outputs_weights_size_bytes"] = sizes["IN"] + sizes["OUT"]
    traffic = figures["hbm_read_bytes"] + figures["hbm_write_bytes"]
    useful = figures["hardware_flops"] - figures["transpose_flops"]
    figures["mm_arithmetic_intensity"] = useful / traffic if traffic else None
    return {name: [value] for name, value in figures.items()}


def _compute(cores: Sequence[Core], rows: Columns, rates: Rates, total: float) -> dict[str, Any]:
    """FLOPs of TensorE, by the profiler's definitions: peaks are BF16's, dtypes count alike in ``hardware_flops``."""

    def sums(name: str) -> int:
        return sum(value for value in rows[name] if value is not None)

    flops, transposes = sums("raw_flops"), sums("flops_transpose")
    peak = rates.peak["bf16"] * len(cores) * total
    codes = np.array(rows["opcode"], object)
    span = np.array(rows["end_ts"], np.int64) - np.array(rows["start_ts"], np.int64)
    return {
        "hardware_flops": flops, "transpose_flops": transposes,
        "adjusted_hardware_flops": sums("adjusted_flops"),
        "adjusted_transpose_flops": sums("adjusted_flops_transpose"),
        "hfu_estimated_percent": flops / peak if peak else 0.0,
        "mfu_inst_estimated_percent": (flops - transposes) / peak if peak else 0.0,
        "matmul_instruction_count": int((codes == "MATMUL").sum()),
        "activate_instruction_count": int((codes == "ACTIVATE").sum()),
        "activate_instruction_time": float(span[codes == "ACTIVATE"].sum()) * 1e-9,
    }  # fmt: skip


def _share(name: str, start: Array, end: Array, total: float) -> dict[str, float]:
    """A time in which something is active, and its share of the whole."""
    low, high = active(start, end)
    seconds = float((high - low).sum()) * 1e-9
    return {name: seconds, f"{name}_percent": seconds / total if total else 0.0}


def _dma(tables: dict[str, Columns], total: float) -> dict[str, Any]:
    rows = tables["DmaPacketAggregated"]
    start, end = np.array(rows["start_ts"], np.int64), np.array(rows["end_ts"], np.int64)
    count, size = len(start), int(np.sum(rows["transfer_bytes"]))
    found = {
        "dma_transfer_count": count, "dma_transfer_total_bytes": size,
        "dma_transfer_average_bytes": size / count if count else None,
        "dma_transfer_time": float((end - start).sum()) * 1e-9, **_share("dma_active_time", start, end, total),
    }  # fmt: skip
    if "DmaPacket" in tables:
        found["dma_packet_time"] = float(np.sum(tables["DmaPacket"]["duration_ns"])) * 1e-9
    return found


def metadata(cores: Sequence[Core], rates: Rates, *, schema: str, kernel: str) -> Columns:
    """``Metadata``, one row: the NeuronCore's constants and that this is a simulation."""
    target = cores[0].accesses.core.target
    neuron = Catalogue().chip(target.chip).neuron
    assert neuron is not None, target.chip
    figures = {
        "profile_schema_version": schema, "num_physical_cores": len(cores), "vnc_enabled": len(cores) > 1,
        "first_hw_timestamp": 0, "last_hw_timestamp": max(int(core.end.max(initial=0)) for core in cores),
        "dma_ddr_bandwidth": rates.dma_bandwidth * rates.dma_engines,
        "num_dma_engines_per_neuroncore": rates.dma_engines,
        "tensor_engine_num_rows": int(rates.tensor_rows), "tensor_engine_num_cols": int(neuron.tensor_columns.value),
        "tensor_engine_clock_freq": rates.tensor_clock * 1e-9, "vector_engine_clock_freq": rates.vector_clock * 1e-9,
        "vector_engine_num_channels": target.partitions, "scalar_engine_clock_freq": rates.scalar_clock * 1e-9,
        "scalar_engine_num_channels": target.partitions, "gpsimd_engine_clock_freq": rates.gpsimd_clock * 1e-9,
        "gpsimd_engine_num_channels": int(neuron.gpsimd_lanes.value), "ticks_per_nanosec": 1, "profile_name": kernel,
        "is_simulation": True,
    }  # fmt: skip
    return {name: [value] for name, value in figures.items()}
