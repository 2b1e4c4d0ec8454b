"""``hardware`` and ``models``: what the catalogue holds."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from trainshed.core import Constant, Dtypes, Result, UserError, unknown_name
from trainshed.hardware import Catalogue, Chip, System
from trainshed.hardware.describe import Difference, constants, diff
from trainshed.models import builtin, load
from trainshed.models.model import Model

Paths = Sequence[Path]


def hardware_list(*, hardware: Paths = ()) -> Result:
    """Chips and systems with their headline figures."""
    catalogue = Catalogue(extra=hardware)
    chips = [_chip_line(catalogue.chip(name)) for name in catalogue.chips()]
    systems = [_system_line(catalogue, catalogue.system(name)) for name in catalogue.systems()]
    return Result(command="hardware list", inputs={}, result={"chips": chips, "systems": systems})


def _chip_line(chip: Chip) -> dict[str, Any]:
    return {
        "name": chip.name, "title": chip.title, "announced": chip.announced, "date": chip.date,
        "bf16_flops": _value(chip.flops.get("bf16")),
        "fp8_flops": _value(chip.flops.get("fp8") or chip.flops.get("mxfp8")),
        "hbm_capacity_bytes": chip.hbm_capacity.value, "hbm_bandwidth_bytes_per_s": chip.hbm_bandwidth.value,
        "tdp_w": _value(chip.tdp),
    }  # fmt: skip


def _system_line(catalogue: Catalogue, system: System) -> dict[str, Any]:
    price = catalogue.price(system.name)
    return {
        "name": system.name, "title": system.title, "announced": system.announced, "chip": system.chip.name,
        "instance_chips": system.instance_chips, "ultraserver_chips": system.ultraserver_chips,
        "max_chips": system.max_chips, "usd_per_chip_hour": _value(price), "aliases": list(system.aliases),
    }  # fmt: skip


def _value(constant: Constant | None) -> float | None:
    return None if constant is None else float(constant.value)


def _find(catalogue: Catalogue, name: str) -> list[Chip | System]:
    kind, _, bare = name.rpartition("/")
    if kind not in ("", "chip", "system"):
        raise UserError("unknown kind of hardware", where="hardware", value=kind, expected="chip/NAME or system/NAME")
    found: list[Chip | System] = []
    for wanted, get in (("chip", catalogue.chip), ("system", catalogue.system)):
        if kind in ("", wanted):
            try:
                found.append(get(bare))
            except UserError:
                if kind:
                    raise
    if not found:
        raise unknown_name("chip or system", bare, [*catalogue.chips(), *catalogue.systems(True)], where="hardware")
    return found


def hardware_show(name: str, *, sources: bool = False, hardware: Paths = ()) -> Result:
    """Every number of a chip or system (a bare name shows both), with unit, status and source."""
    things = _find(Catalogue(extra=hardware), name)
    out = [
        {
            "kind": "system" if isinstance(thing, System) else "chip", "name": thing.name, "title": thing.title,
            "announced": thing.announced, "inherited": dict(getattr(thing, "inherited", {})),
            "numbers": [_number(label, c, sources) for label, c in constants(thing)],
        }
        for thing in things
    ]  # fmt: skip
    return Result(command="hardware show", inputs={"name": name}, result={"hardware": out})


def _number(label: str, c: Constant, sources: bool) -> dict[str, Any]:
    line: dict[str, Any] = {"what": label, "value": float(c.value), "unit": c.unit, "status": c.status}
    if sources:
        line |= {"source": c.source, "date": c.date, "note": c.note}
        line["alternatives"] = [{"value": float(a.value), "unit": a.unit, "source": a.source} for a in c.alternatives]
    return line


def hardware_diff(a: str, b: str, *, hardware: Paths = ()) -> Result:
    """The numbers that two chips or two systems share, with the ratio b / a."""
    catalogue = Catalogue(extra=hardware)
    for kind in (Chip, System):
        left = [t for t in _find(catalogue, a) if isinstance(t, kind)]
        right = [t for t in _find(catalogue, b) if isinstance(t, kind)]
        if left and right:
            lines = [_difference(d) for d in diff(left[0], right[0])]
            return Result(command="hardware diff", inputs={"a": a, "b": b}, result={"numbers": lines})
    raise UserError("a chip and a system cannot be compared", where="hardware diff", value=f"{a} {b}",
                    expected="two chips or two systems")  # fmt: skip


def _difference(d: Difference) -> dict[str, Any]:
    known = d.a or d.b
    assert known is not None
    return {"what": d.name, "unit": known.unit, "a": _value(d.a), "b": _value(d.b), "ratio": d.ratio}


def models_list() -> Result:
    """Built-in models: exact parameters beside the published count."""
    return Result(command="models list", inputs={}, result={"models": [_model_line(load(n)) for n in builtin()]})


def _model_line(model: Model) -> dict[str, Any]:
    published = model.published
    return {
        "name": model.name, "family": model.family, "parameters": model.parameters,
        "active_parameters": model.active_parameters, "layers": model.layers, "hidden": model.hidden,
        "published_parameters": published.parameters if published else None,
        "published_in": published.source if published else None,
    }  # fmt: skip


def models_show(name: str) -> Result:
    """One model: parameters by block, work per token, KV bytes, operators."""
    model = load(name)
    dtypes = model.dtypes or Dtypes()
    blocks = [
        {
            "name": b.name, "kind": b.kind, "count": b.count, "parameters": b.parameters, "train_only": b.train_only,
            "operators": [
                {"name": op.name, "kind": type(op).__name__, "role": op.role, "shard": op.shard.value,
                 "parameters": op.parameters} for op in b.ops
            ],
        }
        for b in model.graph.blocks
    ]  # fmt: skip
    context = 4096 if model.max_context is None else min(4096, model.max_context)
    result = {
        **_model_line(model), "source": model.source, "vocab": model.vocab, "max_context": model.max_context,
        "dtypes": str(dtypes), "weight_bytes": model.weight_bytes(dtypes),
        "context": context, "kv_bytes_per_sequence": model.kv_bytes(context, dtypes.of("kv")),
        "training_flops_per_token": model.training_flops_per_token(context),
        "forward_flops": model.forward_flops(context), "blocks": blocks,
    }  # fmt: skip
    return Result(command="models show", inputs={"model": name}, result=result, assumptions=model.assumptions)
