"""Full names of constants: their units, and ``--set`` arguments read against them.

    chip/trn3.hbm_bandwidth   chip/trn3.flops.bf16   chip/trn3.energy.mac.bf16   chip/trn3.neuron.tensor_clock
    chip/trn3.fitted.hbm_efficiency   interconnect/neuronlink-v4.hop
    system/trn3-gen2.rack.bandwidth   system/trn3-gen2.pue   price/trn3-gen2

In ``--set`` a bare ``chip.`` or ``system.`` means those of the run, and ``price`` is its price per chip-hour.
"""

from __future__ import annotations

from trainshed.core import Number, UserError, unknown_name
from trainshed.core.load import quantity
from trainshed.hardware.mechanisms import unit_of_mechanism
from trainshed.hardware.read_chip import CHIP_UNITS, GPU_UNITS, NEURON_MAPS, NEURON_UNITS, energy_unit
from trainshed.hardware.read_system import LEVEL_UNITS, OVERHEAD_UNITS
from trainshed.hardware.schema import System


def _chip_unit(key: str) -> str | None:
    for prefix, unit in (("flops.", "FLOP/s"), *((f"neuron.{k}.", u) for k, u in NEURON_MAPS.items())):
        if key.startswith(prefix):
            return unit
    if key.startswith("energy."):
        return energy_unit(key.removeprefix("energy."))
    if key.startswith("fitted."):
        return unit_of_mechanism("architecture/", key.removeprefix("fitted."))
    known = {**CHIP_UNITS, **{f"neuron.{k}": u for k, u in NEURON_UNITS.items()}}
    known |= {f"gpu.{k}": u for k, u in GPU_UNITS.items()}
    return known[key].rstrip("?") if key in known else None


def chip_keys() -> list[str]:
    """The keys of a chip that ``--set`` knows (dtypes and actions left open)."""
    keys = [*CHIP_UNITS, *(f"neuron.{k}" for k in NEURON_UNITS), *(f"gpu.{k}" for k in GPU_UNITS)]
    return [*keys, "flops.bf16", "flops.fp8", "energy.hbm", "energy.mac.bf16"]


def unit_of(name: str, *, where: str) -> str:
    """The unit of a constant by its full name; an unknown name is a UserError with the nearest one."""
    kind, _, rest = name.partition("/")
    if kind == "price" and rest:
        return "USD/h"
    owner, _, key = rest.rpartition(".") if kind == "system" else rest.partition(".")
    if not owner or not key:
        expected = "chip/NAME.key, system/NAME.key, interconnect/NAME.key or price/NAME"
        raise UserError("not the name of a number", where=where, value=name, expected=expected)
    unit: str | None = None
    known: list[str] = [f"{kind}/{owner}.{k}" for k in chip_keys()]
    if kind == "chip":
        unit = _chip_unit(key)
    elif kind == "system":
        unit = {**LEVEL_UNITS, **OVERHEAD_UNITS}.get(key)
        known = [f"{kind}/{owner}.{k}" for k in (*LEVEL_UNITS, *OVERHEAD_UNITS)]
    elif kind == "interconnect":
        unit = unit_of_mechanism("interconnect/", key)
        known = [f"{kind}/{owner}.{k}" for k in ("hop", "launch", "efficiency")]
    if unit is None:
        raise unknown_name("number", name, known, where=where)
    return unit


def _full_names(name: str, system: System, where: str) -> list[str]:
    """The full names that a name in ``--set`` stands for."""
    if name == "price":
        return [f"price/{system.name}"]
    if name.startswith("chip."):
        return sorted({f"chip/{p.chip.name}.{name.removeprefix('chip.')}" for p in system.pools})
    if name.startswith("system."):
        key = name.removeprefix("system.")
        fitted = {f"{level.name}.fitted.{k}": f"interconnect/{level.interconnect}.{k}"
                  for level in system.levels for k in level.fitted}  # fmt: skip
        if key in fitted:
            return [fitted[key]]
        levels = [f"{level.name}.{k}" for level in system.levels for k in LEVEL_UNITS]
        if key not in (*levels, *OVERHEAD_UNITS):
            raise unknown_name("number", key, [*levels, *OVERHEAD_UNITS], where=where)
        return [f"system/{system.name}.{key}"]
    if "/" not in name:
        expected = "chip.KEY, system.KEY, chip/NAME.KEY, interconnect/NAME.KEY or price"
        raise UserError("not the name of a number", where=where, value=name, expected=expected)
    return [name]


def parse_set(text: str, system: System, *, where: str = "--set") -> dict[str, Number]:
    """``chip.hbm_bandwidth=5.2TB/s`` or ``price=4.2USD/h`` as values by full name."""
    name, equals, value = (part.strip() for part in text.partition("="))
    if not equals or not value:
        raise UserError("not a setting", where=where, value=text, expected="NAME=VALUE, as in chip.tdp=700W")
    out: dict[str, Number] = {}
    for full in _full_names(name, system, where):
        number = quantity(value, unit_of(full, where=where), where=where)
        if number == 0 and not full.endswith((".latency", ".host", ".switch")):
            raise UserError("a number must be positive", where=where, value=text, expected="more than 0")
        out[full] = number
    return out
