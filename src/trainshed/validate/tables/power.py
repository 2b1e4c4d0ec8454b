"""Predictions of power.csv: the runs of serving and training rows, priced by ``economy``.

A chip row is what the driver's counter reads; a node row adds the host (wall power of the machine: no network, no PUE).
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from trainshed import training
from trainshed.core import Number, Plan
from trainshed.hardware.schema import System
from trainshed.training.money import chip_energy
from trainshed.validate import configs
from trainshed.validate.table import Prediction, Row, each, skip
from trainshed.validate.tables import serving

_FACTS = Path(__file__).with_suffix(".toml")
#: Columns of a serving run that a power row holds in ``run``.
_SERVING = ("mode", "batch", "concurrency", "isl", "osl", "tp", "pp", "ep", "dtype_weights", "framework")
_PLAN = ("tp", "pp", "vpp", "dp", "cp", "ep")


def predict(rows: Sequence[Row], setup: Any) -> list[Prediction]:
    """One prediction per row; the serving runs in one call."""
    loaded = [i for i, row in enumerate(rows) if row.text("load") in ("serving", "prefill", "decode")]
    answers = dict(zip(loaded, serving.predict([_run(rows[i]) for i in loaded], setup), strict=True))
    for i in loaded:
        answers[i] = _of_serving(rows[i], answers[i], setup)
    others = [i for i in range(len(rows)) if i not in answers]
    answers |= dict(zip(others, each([rows[i] for i in others], lambda row: _other(row, setup)), strict=True))
    return [answers[i] for i in range(len(rows))]


def _run(row: Row) -> Row:
    """The serving row of a power row: its mean power per chip, or that of the prompt phase for a peak."""
    run = row.json("run")
    cells = {k: row.cells[k] for k in ("id", "point", "group", "tier", "value", "chip", "system", "model", "chips")
             if k in row.cells}  # fmt: skip
    cells |= {k: run[k] for k in _SERVING if k in run} | {"metric": "power_per_chip_w"}
    if run.get("dataset") == "mlperf":
        cells |= _facts()["mlperf"].get(row.text("model"), {}) | {"mode": "offline"}
    if row.statistic == "peak":
        cells |= {"mode": "prefill", "batch": run.get("batch", 1)}
    return Row(table="serving", file=row.file, line=row.line, cells=cells)


def _of_serving(row: Row, chip: Prediction, setup: Any) -> Prediction:
    if chip.value is None:
        return chip
    system = setup.catalogue.system(row.text("system") or "")
    if row.metric == "power_fraction_of_tdp":
        return skip("no TDP") if system.chip.tdp is None else Prediction(value=chip.value / system.chip.tdp.value)
    if row.metric != "power_w":
        return skip(f"{row.metric} of serving")
    if row.text("what") == "chip":
        return chip
    return _node(chip.value, system, _chips(row))


def _node(each_chip: Number, system: System, chips: float) -> Prediction:
    """Watts of a machine of so many chips."""
    host = system.overhead.host
    if host is None:
        return skip(f"no power known of the hosts of {system.name}")
    return Prediction(value=(each_chip + host.value) * chips)


def _other(row: Row, setup: Any) -> Prediction:
    system = setup.catalogue.system(row.text("system") or "")
    what, load = row.text("what"), row.text("load")
    if load == "training" and what == "network":
        switch = system.overhead.switch
        return skip("no power known of the switches") if switch is None else _value(switch.value * _chips(row))
    if load == "training":
        return _training(row, setup, system)
    if load == "idle" and what == "chip" and row.text("chip") == system.chip.name:
        idle = system.chip.idle_power
        return skip("no idle power known") if idle is None else _value(idle.value)
    if load is None and row.text("chip") == system.chip.name:
        return _rating(row, system)
    return skip(f"{load or 'rated'} power of a {what}: {row.text('chip')}")


def _rating(row: Row, system: System) -> Prediction:
    """The most that a chip, a machine or a rack of them draws: every chip at its TDP."""
    parts = {"chip": (), "node": ("host",), "rack": ("host", "switch")}.get(row.text("what") or "")
    if parts is None or system.chip.tdp is None:
        return skip(f"no TDP known, or rating of a {row.text('what')}")
    beside = [getattr(system.overhead, part) for part in parts]
    if any(part is None for part in beside):
        return skip(f"no power known of the hosts of {system.name}")
    return _value((system.chip.tdp.value + sum(float(part.value) for part in beside)) * _chips(row))


def _training(row: Row, setup: Any, system: System) -> Prediction:
    """Power of the row's node, or energy of all nodes over the run, from one predicted step."""
    run, model = row.json("run"), configs.load(row)
    if "seq" not in run or "global_batch" not in run:
        return skip("length or batch of the training run not stated")
    framework = setup.software.default_framework(system.chip.vendor)
    degrees = {name: int(run[name]) for name in _PLAN if name in run}
    plan = Plan(**degrees, sp=int(degrees.get("tp", 1) > 1), mb=int(run.get("micro_batch", 1)), zero=framework.zero)
    job = training.TrainingJob(
        sequence=float(run["seq"]), global_batch=float(run["global_batch"]), dtype=str(run.get("dtype", "bf16"))
    )
    step = training.step(model, system, plan, job, framework)
    joules = chip_energy(step, system)
    if joules is None:
        return skip(f"no idle power known of {system.chip.name}")
    each_chip = joules.value / step.time.value / np.asarray(step.chips)
    node = _node(each_chip, system, _chips(row))
    if row.metric == "power_w" or node.value is None:
        return node
    if row.metric == "energy_j" and "time_to_train_s" in run:
        return _value(node.value * float(run["time_to_train_s"]))
    return skip(f"{row.metric} of training")


def _value(value: Number) -> Prediction:
    return Prediction(value=value)


def _chips(row: Row) -> float:
    return row.number("chips") or 1.0


@cache
def _facts() -> Mapping[str, Any]:
    return tomllib.loads(_FACTS.read_text(encoding="utf-8"))
