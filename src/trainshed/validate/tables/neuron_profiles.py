"""``neuron_profiles.csv``: what the profiler said of one compiled graph (NEFF) on one NeuronCore.

A prefill or a decode step of the serving model, without the host: a profile starts when the graph does. Decode attends
the whole compiled KV bucket. The profiler's own conventions hold: HBM bandwidth of the data sheet per core, FLOPs of
the array at its clock, and the engine's count of expert reads (the times of MoE steps fit one read of each).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from trainshed.core import Dtypes, Number, Plan
from trainshed.hardware.schema import Chip
from trainshed.serving import steps
from trainshed.serving.worker import worker
from trainshed.validate import configs
from trainshed.validate.setup import Setup
from trainshed.validate.table import Prediction, Row, each, skip


def predict(rows: Sequence[Row], setup: Setup) -> list[Prediction]:
    """One prediction per row."""
    return each(rows, lambda row: _predict(row, setup))


def _predict(row: Row, setup: Setup) -> Prediction | Number | None:
    phase, batch, seq = row.text("phase"), row.number("batch"), row.number("seq")
    if phase not in ("prefill", "decode") or batch is None or seq is None:
        return skip("phase, batch or length not stated")
    chip = setup.catalogue.chip(row.text("chip") or "")
    if chip.neuron is None:
        return skip("not a chip of NeuronCores")
    step = _step(row, setup, phase, batch, seq)
    return _figure(row, chip, step)


def _step(row: Row, setup: Setup, phase: str, batch: float, seq: float) -> steps.Step:
    model = configs.load(row)
    system = setup.catalogue.system(row.text("system") or row.text("chip") or "")
    weights, ranks = row.text("dtype_weights") or "bf16", row.integer("tp") or 1
    engine = setup.software.engine(row.text("framework") or "", date=row.text("date") or "")
    if row.metric == "time_s":
        engine = replace(engine, reads_per_expert=1)
    # tensor parallelism splits every expert over all ranks
    plan = Plan(tp=ranks, etp=ranks, lnc=row.integer("lnc") or 1)
    unit = worker(model, system, plan, Dtypes(weights=weights), engine)
    if phase == "prefill":
        return steps.prefill(unit, sequences=batch, tokens=seq)
    return steps.decode(unit, sequences=batch, context=seq)


def _seconds(step: steps.Step) -> Number:
    """The step without what the host adds to it."""
    return sum((child.value for _, child in step.time.children if child.what != "host"), start=0.0)


def _figure(row: Row, chip: Chip, step: steps.Step) -> Prediction | Number:
    moved, seconds = step.activity.memory.get("hbm", 0.0), _seconds(step)
    cores = float(row.integer("lnc") or 1)
    match row.metric:
        case "time_s":
            return seconds
        case "hbm_read_bytes":
            return moved - step.activity.written
        case "hbm_write_bytes":
            return step.activity.written
        case "mbu":
            return moved / (seconds * chip.hbm_bandwidth.value * cores / float(chip.cores.value))
        case "mfu" | "hfu":
            return _flops(step) / (seconds * _peak(chip) * cores)
    return skip(f"no formula for {row.metric}")


def _flops(step: steps.Step) -> Number:
    macs: Number = 0.0
    for count in step.activity.macs.values():
        macs = macs + count
    return 2.0 * macs


def _peak(chip: Chip) -> Number:
    core = chip.neuron
    if core is None:
        return chip.flops["bf16"].value
    return 2 * core.tensor_rows.value * core.tensor_columns.value * core.tensor_clock.value
