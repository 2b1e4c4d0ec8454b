"""A chip's TOML into a Chip.

A chip may name a ``base``: what it does not state itself is taken from there (variants of the same die, and announced
chips, whose inherited numbers become estimates and are listed). ``unknown`` lists what the base knows and this one
does not.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from trainshed.core import Constant
from trainshed.core.load import Table
from trainshed.hardware.schema import Chip, GpuCore, NeuronCore
from trainshed.hardware.values import Values

#: Field → unit; a ``?`` marks what may be unknown.
CHIP_UNITS = {
    "cores": "count", "lnc": "count?", "clock": "Hz?", "vector_flops": "FLOP/s", "special_flops": "element/s?",
    "hbm_capacity": "B", "hbm_bandwidth": "B/s", "tdp": "W?", "tdp_alternative": "W?", "idle_power": "W?",
}  # fmt: skip
NEURON_UNITS = {
    "tensor_clock": "Hz", "tensor_rows": "row", "tensor_columns": "column", "mx_rows": "row?", "matmul_floor": "cycle",
    "vector_clock": "Hz", "scalar_clock": "Hz", "gpsimd_clock": "Hz", "gpsimd_lanes": "element/cycle",
    "instruction_floor": "cycle", "instruction_overhead": "s", "sbuf": "B", "psum": "B", "psum_banks": "count",
    "partitions": "row", "dma_engines": "count", "dma_bandwidth": "B/s", "dma_fixed": "s", "semaphore": "s",
    "dma_per_descriptor": "s", "dma_queues": "count", "dge_instruction": "s?", "software_descriptor": "s",
    "table_load": "s", "launch": "s",
    "tensor_ramp": "s?", "tensor_ramp_rate": "1?",
    "quantize_elements_per_cycle": "element/cycle?", "vector_exp_speedup": "1?", "background_transpose": "1?",
}  # fmt: skip
NEURON_MAPS = {
    "columns_per_cycle": "1", "depth": "row", "vector_lanes": "element/cycle", "scalar_lanes": "element/cycle",
}  # fmt: skip
GPU_UNITS = {
    "processors": "count", "tile_m": "row", "tile_n": "column", "tile_k": "element", "l2": "B?",
    "l2_bandwidth": "B/s?", "launch": "s",
}  # fmt: skip


def energy_unit(action: str) -> str:
    """J per what: multiply-accumulate, element or byte."""
    if action.startswith("mac."):
        return "J/MAC"
    return "J/element" if action in ("vector", "scalar") else "J/B"


class ChipReader:
    """Reads one table of a chip (the chip itself, its core), falling back on the base chip's part."""

    def __init__(self, table: Table, prefix: str, values: Values, base: Any, base_name: str, announced: bool) -> None:
        self.table, self.prefix, self.values = table, prefix, values
        self.base, self.base_name, self.announced = base, base_name, announced
        self.inherited: dict[str, str] = {}
        self.unknown = set(table.texts("unknown"))

    def _carried(self, constant: Constant, key: str) -> Constant:
        self.inherited[key] = self.base_name
        changes: dict[str, Any] = {"name": f"{self.prefix}{key}"}
        if self.announced:
            changes |= {"status": "estimated", "note": f"not disclosed: inherited from {self.base_name}"}
        return constant.with_value(constant.value, **changes)

    def one(self, key: str, unit: str) -> Constant | None:
        """A number of this table, else the base's, else one the user set, else None or an error if it must exist."""
        needed, unit = not unit.endswith("?"), unit.rstrip("?")
        name = f"{self.prefix}{key}"
        if key in self.table:
            return self.values.apply(self.table.number(key, unit, name=name))
        inherited = None if self.base is None or key in self.unknown else getattr(self.base, key)
        if inherited is not None:
            return self.values.apply(self._carried(inherited, key))
        set_by_user = self.values.absent(name, unit)
        if needed and set_by_user is None:
            return self.table.number(key, unit, name=name)
        return set_by_user

    def group(self, key: str, unit: str) -> dict[str, Constant]:
        """A table of numbers by dtype or action, the base's entries first."""
        out: dict[str, Constant] = {}
        for k, constant in dict(getattr(self.base, key, None) or {}).items():
            if f"{key}.{k}" not in self.unknown:
                out[k] = self._carried(constant, f"{key}.{k}")
        table = self.table.table(key)
        for k in table if table else []:
            assert table is not None
            out[k] = table.number(k, unit or energy_unit(k), name=f"{self.prefix}{key}.{k}")
            self.inherited.pop(f"{key}.{k}", None)
        return {k: self.values.apply(c) for k, c in out.items()}


def read_chip(name: str, table: Table, values: Values, base: Chip | None) -> Chip:
    """The chip of a TOML table (without fitted mechanisms: the catalogue adds them)."""
    announced = table.flag("announced", base.announced if base else False)
    prefix, base_name = f"chip/{name}.", base.name if base else ""
    reader = ChipReader(table, prefix, values, base, base_name, announced)
    fields: dict[str, Any] = {key: reader.one(key, unit) for key, unit in CHIP_UNITS.items()}
    fields["flops"] = reader.group("flops", "FLOP/s")
    fields["energy"] = reader.group("energy", "")
    inherited = dict(reader.inherited)
    parts: list[tuple[str, type[NeuronCore] | type[GpuCore], Mapping[str, str], Mapping[str, str]]] = [
        ("neuron", NeuronCore, NEURON_UNITS, NEURON_MAPS), ("gpu", GpuCore, GPU_UNITS, {}),
    ]  # fmt: skip
    for part, kind, units, maps in parts:
        own, above = table.table(part), getattr(base, part) if base else None
        if own is None and above is None:
            continue
        core = ChipReader(
            own or Table({}, table.file, (*table.path, part)), f"{prefix}{part}.", values, above, base_name, announced
        )
        numbers: dict[str, Any] = {key: core.one(key, unit) for key, unit in units.items()}
        numbers |= {key: core.group(key, unit) for key, unit in maps.items()}
        fields[part] = kind(**numbers)
        inherited |= {f"{part}.{k}": v for k, v in core.inherited.items()}
        if own is not None:
            own.done()
    chip = Chip(
        name=name, title=table.text("title"), vendor=table.text("vendor", base.vendor if base else ...),
        architecture=table.choice(  # type: ignore[arg-type]
            "architecture", ("neuroncore", "gpu", "tpu"), base.architecture if base else ...
        ),
        date=table.text("date"), announced=announced, previous=table.optional_text("previous"),
        inherited=inherited if announced else {}, **fields,
    )  # fmt: skip
    table.text("base", None)
    table.done()
    return chip
