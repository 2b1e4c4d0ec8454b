"""From a row of ``validation/kernels.csv`` to the launches behind its figure, or why there are none."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from trainshed.kernels.measured import cases
from trainshed.kernels.measured.launch import TARGETS, Case, Launch, Row


def launches(row: Row) -> tuple[Launch, ...] | None:
    """The launches whose times, and ``added_s``, add up to the figure of a row; None where its kernel is not here.

    A figure ``relative_throughput`` is the time of the second launch over that of the first. A row's chip is the
    target (:data:`ASSUMED` where none is stated), its ``lnc`` the cores of each launch. Shapes that a kernel does not
    take are its errors when it is launched; a size that is missing in the row is one here.
    """
    found = _found(row)
    return None if isinstance(found, str) else found


def why_not(row: Row) -> str | None:
    """Why a row has no launches, in a few words; None where it has."""
    found = _found(row)
    return found if isinstance(found, str) else None


def _found(row: Row) -> tuple[Launch, ...] | str:
    kernel, target = row.text("kernel") or "", row.text("chip") or ASSUMED.get(row.group)
    make = _MADE.get((row.group, kernel))
    if make is None:
        return _WITHOUT.get((row.group, kernel)) or _WITHOUT.get((row.group, "")) or f"no kernel of {row.group}"
    if target is None:
        return "chip not stated"
    if target not in TARGETS:
        return "not a NeuronCore"
    made = make(Case(row=row, target=target))
    if isinstance(made, str):
        return made
    added = float(row.json("options").get("includes_launch_s", 0.0))
    first = replace(made[0], added_s=added) if added else made[0]
    return (first, *made[1:])


_MADE: Mapping[tuple[str, str], Callable[[Case], cases.Made]] = {
    ("chipboost", "matmul"): cases.matmuls,
    ("chipboost_sweep", "matmul"): cases.matmuls,
    ("nki_tutorial_trn1", "matmul"): cases.matmuls,
    ("nki_guide_trn2", "matmul"): cases.matmuls,
    ("chipboost", "copy"): cases.by_rows,
    ("chipboost", "rmsnorm"): cases.by_rows,
    ("nki_tutorial_trn1", "layernorm"): cases.layernorm_rows,
    ("kiln_moe", "moe_decode"): cases.moe_decode,
    ("kiln_moe", "moe_prefill"): cases.moe_prefill_grouped,
    ("kiln_micro", "dma"): cases.indirect_dma,
    ("dma_size_curve", "dma"): cases.dma_curve,
    ("nki_mamba", "mamba"): cases.mamba_scan,
    ("nki_samples_bounds", "matmul"): cases.bound,
    ("nki_samples_bounds", "attention_prefill"): cases.bound,
    ("nkilib_norm_tkg", "layernorm"): cases.norm_decode,
    ("nkilib_rmsnorm_quant", "rmsnorm_quant"): cases.norm_quant,
}
#: Generation taken where a group's source states none, which its rows' ``notes`` say.
ASSUMED: Mapping[str, str] = {
    "nki_mamba": "trn1",  # the tutorial is older than Trn2
    "dma_size_curve": "trn2",  # the page's examples are of Trn2
    "nki_samples_bounds": "trn2",  # double rows of fp8 need it
    "nkilib_norm_tkg": "trn1",  # headed "LNC1 / Trn1"
}
#: Group and kernel (or group alone) → why there is none.
_WITHOUT: Mapping[tuple[str, str], str] = {
    ("neuron_micro", "launch"): "a launch is the host's time, no kernel",
    ("neuron_micro", "instruction"): "an iteration of a loop on the device, no kernel",
    ("neuron_micro", "dma"): "a part of a DMA's time, which no kernel has alone",
    ("kda_nkibench", ""): "absolute times imply twice the peak of a core; only their ratios are usable",
    ("trnsci", ""): "host dispatch dominates",
    ("autocomp", ""): "dtype not stated",
    ("nkilib_mlp_cte", ""): "the measured kernel is thousands of lines; kernels/mlp has one of ours",
    ("nkilib_mlp_tkg", ""): "the measured kernel is thousands of lines; kernels/mlp has one of ours",
    ("nkilib_qkv_tkg", ""): "the measured kernel is thousands of lines, its chip not stated",
    ("nki_samples_bounds", ""): "a bound, of a kernel that is not here",
}
