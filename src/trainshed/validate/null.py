"""The null model: one constant efficiency of the chip's peak rate per source, chip and job.

``ideal`` gives a row's metric at the peak: FLOPs at peak FLOP/s, bytes at peak bandwidth, a collective's bus bytes at
the link rate, power at the TDP. ``scores.null_error`` scales it by one constant, fitted on the rows that judge it.
"""

from __future__ import annotations

from collections.abc import Callable

from trainshed.core import BYTES, Dtypes, UserError
from trainshed.hardware import Catalogue, Chip
from trainshed.models import Model
from trainshed.validate import configs
from trainshed.validate.setup import Setup
from trainshed.validate.table import Row

#: Tokens generated after which a decode step's cache is taken: the middle of the output.
MIDDLE = 0.5


def ideal(row: Row, setup: Setup) -> float | None:
    """The row's metric at the peak rate; None where the table or the metric has no such thing."""
    compute = _TABLES.get(row.table)
    try:
        value = compute(row, setup.catalogue) if compute else None
    except UserError:
        return None
    return value if value is not None and value > 0 else None


def _peak(chip: Chip, dtype: str) -> float:
    """Peak FLOP/s of a dtype, of bf16 (else any) where the chip has no such rate."""
    for name in (dtype, "bf16", "fp16", "fp32"):
        if name in chip.flops:
            return float(chip.flops[name].value)
    return float(next(iter(chip.flops.values())).value)


def _bandwidth(chip: Chip) -> float:
    return float(chip.hbm_bandwidth.value)


def _chip(row: Row, catalogue: Catalogue) -> Chip:
    return catalogue.chip(row.text("chip") or "")


def _chips(row: Row) -> float:
    return float(row.integer("chips") or 1)


def _training(row: Row, catalogue: Catalogue) -> float | None:
    chip, chips = _chip(row, catalogue), _chips(row)
    peak = _peak(chip, row.text("dtype") or "bf16")
    if row.metric in {"mfu", "hfu"}:
        return 1.0
    if row.metric.endswith("flops_per_s_per_chip"):
        return peak
    seq, sequences = row.number("seq"), row.number("global_batch")
    if seq is None or row.metric not in {"step_time_s", "tokens_per_s", "tokens_per_s_per_chip", "sequences_per_s"}:
        return None
    per_token = float(configs.load(row).training_flops_per_token(seq))
    rate = peak / per_token
    if row.metric == "step_time_s":
        return None if sequences is None else sequences * seq / (rate * chips)
    return {"tokens_per_s": rate * chips, "tokens_per_s_per_chip": rate, "sequences_per_s": rate * chips / seq}[
        row.metric
    ]


def _dtypes(row: Row) -> Dtypes:
    weights = row.text("dtype_weights") or "bf16"
    kv = row.text("dtype_kv") or "bf16"
    return Dtypes(weights=weights if weights in BYTES else "bf16", kv=kv if kv in BYTES else "bf16")


def _decode_bytes(model: Model, row: Row, batch: float, context: float) -> float:
    """Weights that a step of ``batch`` sequences reads, and their caches."""
    dtypes = _dtypes(row)
    share = min(1.0, batch * model.active_parameters / model.parameters)
    cache = model.kv_bytes(context, dtypes.kv)
    assert not isinstance(cache, list)
    return share * model.weight_bytes(dtypes) + batch * float(cache)


def _serving(row: Row, catalogue: Catalogue) -> float | None:
    chip, chips, model = _chip(row, catalogue), _chips(row), configs.load(row)
    if row.metric == "power_per_chip_w":
        return None if chip.tdp is None else float(chip.tdp.value)
    isl, osl = row.number("isl") or 0.0, row.number("osl") or 0.0
    batch = row.number("batch") or row.number("concurrency") or 1.0
    context = row.number("context") or isl + MIDDLE * osl
    peak = _peak(chip, row.text("dtype_activations") or row.text("dtype_weights") or "bf16")
    decode = _decode_bytes(model, row, batch, max(context, 1.0)) / (chips * _bandwidth(chip))
    prefill = float(model.forward_flops(isl)) / (chips * peak) if isl else 0.0
    together = batch if row.text("mode") == "static" else 1.0
    run = batch * prefill + osl * decode
    if row.text("mode") == "offline" and osl:
        tokens = osl / (float(model.forward_flops(isl + osl)) / (chips * peak))
    else:
        tokens = batch * osl / run if run and osl else batch / decode
    power = float(chip.tdp.value) * chips if chip.tdp else 0.0
    return {
        "tpot_s": decode, "ttft_s": together * prefill, "batch_latency_s": run, "e2e_s": prefill + osl * decode,
        "output_tokens_per_s": tokens, "output_tokens_per_s_per_chip": tokens / chips,
        "total_tokens_per_s": tokens * (isl + osl) / osl if osl else None, "prefill_tokens_per_s": isl / prefill
        if prefill else None, "requests_per_s": tokens / osl if osl else None,
        "energy_per_output_token_j": power / tokens,
    }.get(row.metric)  # fmt: skip


def _core_share(row: Row, chip: Chip) -> float:
    """Part of a chip that the row's cores are."""
    return (row.integer("cores") or float(chip.cores.value)) / float(chip.cores.value)


def _profiles(row: Row, catalogue: Catalogue) -> float | None:
    chip, model = _chip(row, catalogue), configs.load(row)
    share, tp = _core_share(row, chip), row.integer("tp") or 1
    seq, batch = row.number("seq") or 1.0, row.number("batch") or 1.0
    read = _decode_bytes(model, row, batch, seq) / tp
    if row.metric == "hbm_read_bytes":
        return read
    if row.metric != "time_s":
        return 1.0 if row.metric in {"mfu", "hfu", "mbu"} else None
    if row.text("phase") == "decode":
        return read / (share * _bandwidth(chip))
    return batch * float(model.forward_flops(seq)) / tp / (share * _peak(chip, row.text("dtype_weights") or "bf16"))


def _encoders(row: Row, catalogue: Catalogue) -> float | None:
    chip, model, seq = _chip(row, catalogue), configs.load(row), row.number("seq")
    if seq is None:
        return None
    one_core = _peak(chip, row.text("dtype_activations") or "bf16") / float(chip.cores.value)
    latency = (row.number("batch") or 1.0) * float(model.forward_flops(seq, causal=False)) / one_core
    if row.metric == "latency_s":
        return latency
    return (row.number("batch") or 1.0) / latency if row.metric == "inferences_per_s" else None


def _kernels(row: Row, catalogue: Catalogue) -> float | None:
    chip = _chip(row, catalogue)
    share, flops, size = _core_share(row, chip), row.number("flops"), row.number("hbm_bytes_min")
    if row.metric != "time_s" or (flops is None and size is None):
        return None
    work = (flops or 0.0) / _peak(chip, row.text("dtype") or "bf16")
    return max(work, (size or 0.0) / _bandwidth(chip)) / share


#: Bytes on a rank's link per byte of the collective's size, on n ranks (the nccl-tests convention).
_BUS: dict[str, Callable[[int], float]] = {
    "all_reduce": lambda n: 2.0 * (n - 1) / n, "all_gather": lambda n: (n - 1) / n,
    "reduce_scatter": lambda n: (n - 1) / n, "all_to_all": lambda n: (n - 1) / n, "broadcast": lambda n: 1.0,
    "permute": lambda n: 1.0,
}  # fmt: skip


def _collectives(row: Row, catalogue: Catalogue) -> float | None:
    size, ranks = row.number("size_bytes"), row.integer("ranks")
    bus = _BUS.get(row.text("collective") or "")
    if size is None or bus is None or not ranks or ranks < 2:
        return None
    levels = catalogue.system(row.text("system") or "").levels
    chips = row.integer("chips") or ranks
    level = next((level for level in levels if level.chips >= chips), levels[-1])
    time = bus(ranks) * size / float(level.bandwidth.value) * (row.number("count") or 1.0)
    return {"time_s": time, "busbw_bytes_per_s": float(level.bandwidth.value)}.get(row.metric)


def _power(row: Row, catalogue: Catalogue) -> float | None:
    chip = _chip(row, catalogue)
    if row.metric == "power_fraction_of_tdp":
        return 1.0
    if row.metric != "power_w" or chip.tdp is None:
        return None
    return float(chip.tdp.value) * (1.0 if row.text("what") == "chip" else _chips(row))


_TABLES: dict[str, Callable[[Row, Catalogue], float | None]] = {
    "training": _training, "serving": _serving, "serving_neuron": _serving, "neuron_profiles": _profiles,
    "encoders": _encoders, "kernels": _kernels, "collectives": _collectives, "power": _power,
}  # fmt: skip
