"""What kind of measurement a row is: the classes in which errors are counted and evidence is looked up."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from trainshed.core import UserError
from trainshed.validate import configs
from trainshed.validate.table import Row

Kind = Literal["dense", "moe", ""]

#: dtype → class of like hardware paths.
DTYPE_CLASS = {
    "fp32": "32-bit", "tf32": "32-bit", "fp16": "16-bit", "bf16": "16-bit", "fp8": "8-bit", "mxfp8": "8-bit",
    "int8": "8-bit", "mxfp4": "4-bit", "nvfp4": "4-bit", "int4": "4-bit",
}  # fmt: skip

#: A collective up to this size is bound by latency, above it by bandwidth (the knee of published curves lies near it).
SMALL_MESSAGE = 1 << 20

_RATES = ("tokens_per_s", "sequences_per_s", "requests_per_s", "inferences_per_s", "images_per_s", "flops_per_s")
_SHARES = ("mfu", "hfu", "mbu", "busbw", "algbw")


@dataclass(frozen=True, kw_only=True)
class Label:
    """Where a row belongs."""

    job: str
    """``training``, ``serving``, ``forward`` (encoders, media), ``kernel``, ``collective``."""
    phase: str
    """``step``, ``prefill``, ``decode``, ``run`` (prefill and decode together), or the table's own word."""
    kind: Kind
    """``dense`` or ``moe``; "" where there is no model."""
    dtype: str
    """Class of the dtype that the time depends on most."""
    quantity: str
    """``time`` (every speed too: the inverse), ``memory``, ``power``, ``energy``."""


def quantity(metric: str) -> str:
    """What a metric measures."""
    if metric.startswith("power_"):
        return "power"
    if metric.startswith("energy_"):
        return "energy"
    return "memory" if metric.endswith("_bytes") else "time"


def speed(metric: str) -> bool:
    """True where more is faster: its error is that of a time, inverted."""
    return any(word in metric for word in _RATES) or metric.startswith(_SHARES) or metric == "frames_per_s"


def regime(row: Row) -> str:
    """The class within a group and metric in which points are alike."""
    match row.table:
        case "training":
            return _joined(row.text("job"), kind(row))
        case "serving":
            return _joined(row.text("mode"), "disaggregated" if row.flag("disaggregated") else "")
        case "serving_neuron":
            return _joined(row.text("mode"), row.text("variant"), kind(row))
        case "neuron_profiles":
            return _joined(row.text("phase"), kind(row))
        case "encoders":
            return family(row)
        case "kernels":
            return row.text("kernel") or ""
        case "collectives":
            return _joined(row.text("scope"), _message(row))
        case _:
            return _joined(row.text("what"), row.text("load"))


def label(row: Row) -> Label:
    """The class in which the row is evidence."""
    job, phase = _job(row)
    return Label(job=job, phase=phase, kind=kind(row), dtype=_dtype(row), quantity=quantity(row.metric))


def kind(row: Row) -> Kind:
    """Dense or mixture of experts, by the row's model."""
    if row.text("model") is None:
        return ""
    try:
        model = configs.load(row)
    except UserError:
        return ""
    return "moe" if model.active_parameters < model.parameters else "dense"


def family(row: Row) -> str:
    """Of encoders: ``transformer``, ``diffusion`` or ``other`` (convolutions, perceivers: no operator graph)."""
    if row.integer("steps") is not None or row.metric == "step_time_s":
        return "diffusion"
    try:
        configs.load(row)
    except UserError:
        return "other"
    return "transformer"


def _job(row: Row) -> tuple[str, str]:
    match row.table:
        case "training":
            return "training", "step"
        case "serving" | "serving_neuron":
            return "serving", _serving_phase(row)
        case "neuron_profiles":
            return "serving", row.text("phase") or ""
        case "encoders":
            return "forward", family(row)
        case "kernels":
            return "kernel", row.text("kernel") or ""
        case "collectives":
            return "collective", _joined(row.text("scope"), _message(row))
        case _:
            load = row.text("load") or ""
            return ("training", "step") if load == "training" else ("serving", load)


def _serving_phase(row: Row) -> str:
    if row.metric in {"ttft_s", "prefill_tokens_per_s"}:
        return "prefill"
    if row.metric == "tpot_s" or row.text("mode") == "decode":
        return "decode"
    return "run"


def _dtype(row: Row) -> str:
    word = row.text("dtype_weights") or row.text("dtype") or str(row.json("run").get("dtype_weights", ""))
    return DTYPE_CLASS.get(word, "")


def _message(row: Row) -> str:
    size = row.number("size_bytes")
    if size is None:
        return row.text("collective") or ""
    return bound_by(size)


def bound_by(size: float) -> str:
    """What bounds a collective of so many bytes: ``latency`` or ``bandwidth``."""
    return "latency" if size <= SMALL_MESSAGE else "bandwidth"


def _joined(*words: str | None) -> str:
    return " ".join(w for w in words if w)
