"""From a row of ``validation/kernels.csv`` to the launches behind its figure, or why there are none."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np

from trainshed.core.errors import UserError
from trainshed.kernels.measured import matmul, moe, rowwise
from trainshed.kernels.measured.launch import TARGETS, Array, Case, Launch, Row
from trainshed.kernels.measured.launch import Argument as _Argument
from trainshed.nki.run import Kernel
from trainshed.numerics.formats import bfloat16, float32, int32, uint8

#: Launches, or the reason that there are none.
_Made = list[Launch] | str


def launches(row: Row) -> tuple[Launch, ...] | None:
    """The launches whose times, and ``added_s``, add up to the figure of a row; None where its kernel is not here.

    A row's chip is the target, its ``lnc`` the cores of each launch. Shapes that a kernel does not take are its errors
    when it is launched; a size that is missing in the row is one here.
    """
    found = _found(row)
    return None if isinstance(found, str) else found


def why_not(row: Row) -> str | None:
    """Why a row has no launches, in a few words; None where it has."""
    found = _found(row)
    return found if isinstance(found, str) else None


def _found(row: Row) -> tuple[Launch, ...] | str:
    kernel, target = row.text("kernel") or "", row.text("chip") or _ASSUMED.get(row.group)
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


def _matmul(case: Case) -> _Made:
    kernel = _MATMULS.get(case.variant)
    if kernel is None:
        return _unknown(case)
    blocks = {name: int(size) for name, size in case.options.items() if name.startswith("tiles_in_block_")}
    m, k = case.size("m"), case.size("k")
    widths = [case.size(name) for name in ("n", "second_n") if name in case.shape]
    return [
        case.launch(kernel, [case.array("lhsT", k, m), case.array("rhs", k, width)], **blocks)
        for width in widths or [case.size("n")]
    ]


def _rowwise(case: Case) -> _Made:
    kernel = _ROWWISE.get(case.variant)
    if kernel is None:
        return _unknown(case)
    made = []
    for prefix in ("", "second_") if "second_rows" in case.shape else ("",):
        rows, columns = case.size(f"{prefix}rows"), case.size(f"{prefix}cols")
        arguments = [case.array("x", rows, columns)]
        if kernel is rowwise.rmsnorm:
            arguments.append(case.array("weight", 1, columns))
        made.append(case.launch(kernel, arguments))
    return made


def _moe_decode(case: Case) -> _Made:
    """Each expert that is expected to be hit once, or once for each token and expert."""
    kernel = _MOE_DECODE.get(case.variant)
    if kernel is None:
        return _unknown(case)
    tokens, hidden, topk = case.size("tokens"), case.size("hidden"), case.size("topk")
    experts, blob = case.size("experts"), int(case.options["expert_blob_bytes"])
    jobs, width = tokens * topk, 1
    if kernel is moe.decode_dedupe:
        jobs, width = round((case.row.number("hbm_bytes_expected") or 0.0) / blob), tokens
    if not 0 < jobs <= max(experts, tokens * topk):
        raise UserError("experts hit", where=case.row.id, value=jobs, expected=f"1 to {experts}")

    def numbers(generator: np.random.Generator) -> Array:
        if kernel is moe.decode_dedupe:
            return generator.permutation(experts)[None, :jobs]
        return np.concatenate([generator.permutation(experts)[:topk] for _ in range(tokens)])[None, :]

    arguments = [
        case.array("x", tokens, hidden, dtype=bfloat16),
        _Argument(name="blobs", shape=(experts, 128, blob // 128), dtype=uint8,
                  values=lambda g: moe.random_blobs(g, experts, hidden, blob // 128)),
        _Argument(name="experts", shape=(1, jobs), dtype=int32, values=numbers),
        _Argument(name="gates", shape=(jobs, width), dtype=float32, values=lambda g: g.random((jobs, width)) / topk),
    ]  # fmt: skip
    return [case.launch(kernel, arguments)]


def _unknown(case: Case) -> str:
    return f"no kernel for the variant {case.variant!r} of {case.row.group}"


#: Variant → kernel.
_MATMULS: Mapping[str, Kernel] = {
    "tutorial tiled matmul (matmul_start)": matmul.tiled,
    "AWS tutorial nki_matmul_fully_optimized, fp32 accumulation": matmul.blocked_wide,
    "basic tiled": matmul.tiled,
    "hoist load": matmul.hoisted,
    "block free dimensions": matmul.block_free,
    "fully optimized": matmul.blocked,
}
_ROWWISE: Mapping[str, Kernel] = {
    "naive (rmsnorm_start)": rowwise.rmsnorm,
    "tiled, 128 rows per DMA (copy_tiled)": rowwise.copy_tiled,
}
_MOE_DECODE: Mapping[str, Kernel] = {"dedupe": moe.decode_dedupe, "per_pair": moe.decode_per_pair}
_MADE: Mapping[tuple[str, str], Callable[[Case], _Made]] = {
    ("chipboost", "matmul"): _matmul,
    ("chipboost_sweep", "matmul"): _matmul,
    ("nki_tutorial_trn1", "matmul"): _matmul,
    ("chipboost", "copy"): _rowwise,
    ("chipboost", "rmsnorm"): _rowwise,
    ("kiln_moe", "moe_decode"): _moe_decode,
}
#: Generation taken where the source states none.
_ASSUMED: Mapping[str, str] = {}
#: Group and kernel (or group alone) → why there is none.
_WITHOUT: Mapping[tuple[str, str], str] = {
    ("neuron_micro", "launch"): "a launch is the host's time, no kernel",
    ("neuron_micro", "instruction"): "an iteration of a loop on the device, no kernel",
}
