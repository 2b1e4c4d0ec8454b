"""What a row of each family of kernels launches: from the row's sizes and options to arguments."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, cast

import numpy as np

from trainshed.core.errors import UserError
from trainshed.kernels.library import library
from trainshed.kernels.measured import dma, mamba, matmul, moe, moe_prefill, norms, rowwise
from trainshed.kernels.measured.launch import Argument, Array, Case, Launch
from trainshed.kernels.norms import layernorm
from trainshed.nki.run import Kernel
from trainshed.numerics.formats import DType, bfloat16, float32, int32, uint8

#: Launches, or the reason that there are none.
Made = list[Launch] | str


def matmuls(case: Case) -> Made:
    kernel = _MATMULS.get(case.variant)
    if kernel is None:
        return _unknown(case)
    blocks = {name: int(size) for name, size in case.options.items() if name.startswith("tiles_in_block_")}
    m, k = case.size("m"), case.size("k")
    if kernel is matmul.block_free and 10 * k * case.dtype.itemsize > _SBUF_ROW[case.target]:
        return "the blocks do not fit in SBUF as they are loaded; what the measured compiler did is not known"
    widths = [case.size(name) for name in ("n", "second_n") if name in case.shape]
    return [
        case.launch(kernel, [case.array("lhsT", k, m), case.array("rhs", k, width)], **blocks)
        for width in widths or [case.size("n")]
    ]


def by_rows(case: Case) -> Made:
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


def moe_decode(case: Case) -> Made:
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
        Argument(name="blobs", shape=(experts, 128, blob // 128), dtype=uint8,
                  values=lambda g: moe.random_blobs(g, experts, hidden, blob // 128)),
        Argument(name="experts", shape=(1, jobs), dtype=int32, values=numbers),
        Argument(name="gates", shape=(jobs, width), dtype=float32, values=lambda g: g.random((jobs, width)) / topk),
    ]  # fmt: skip
    return [case.launch(kernel, arguments)]


def moe_prefill_grouped(case: Case) -> Made:
    """Tokens that choose their experts at random, grouped by expert."""
    tokens, hidden, topk = case.size("tokens"), case.size("hidden"), case.size("topk")
    experts, row = case.size("experts"), 3 * hidden // 128 * case.size("down_rows") + _SCALES
    numbers, members, places = _routed(tokens, experts, topk)

    def gates(generator: np.random.Generator) -> Array:
        made = np.zeros(members.shape, np.float32)
        made[places % len(members), places // len(members)] = generator.random(places.shape) / topk
        return made

    arguments = [
        case.array("x", tokens, hidden, dtype=bfloat16),
        Argument(name="blobs", shape=(experts, 128, row), dtype=uint8,
                 values=lambda g: moe.random_blobs(g, experts, hidden, row)),
        Argument(name="experts", shape=numbers.shape, dtype=int32, values=lambda _: numbers),
        Argument(name="members", shape=members.shape, dtype=int32, values=lambda _: members),
        Argument(name="gates", shape=members.shape, dtype=float32, values=gates),
        Argument(name="places", shape=places.shape, dtype=int32, values=lambda _: places),
    ]  # fmt: skip
    return [case.launch(moe_prefill.prefill, arguments)]


@lru_cache
def _routed(tokens: int, experts: int, topk: int) -> tuple[Array, Array, Array]:
    chosen = np.random.default_rng(0).random((tokens, experts)).argpartition(topk, axis=1)[:, :topk]
    return moe_prefill.grouped(chosen, experts)


def indirect_dma(case: Case) -> Made:
    """As many loads as the row has descriptors, each of another block."""
    loads, partitions, width = (case.size(name) for name in ("descriptors", "partitions", "bytes_per_partition"))
    numbers = Argument(
        name="numbers", shape=(1, loads), dtype=int32, values=lambda g: g.permutation(loads)[None, :].astype(np.int32)
    )
    blocks = Argument(
        name="blocks", shape=(loads, partitions, width), dtype=uint8, values=_bytes(loads, partitions, width)
    )
    return [case.launch(dma.indirect_loads, [blocks, numbers])]


def dma_curve(case: Case) -> Made:
    """The row's DMAs, then the largest of the curve; both move the same bytes, so their rates are as 1 / time."""
    if case.row.metric != "relative_throughput":
        return "no time of a kernel"
    made = []
    for width in (case.size("bytes_per_partition"), _LARGEST_DMA):
        shape = (_CURVE // width, width)
        made.append(case.launch(dma.loads, [Argument(name="x", shape=shape, dtype=uint8, values=_bytes(*shape))]))
    return made


def _bytes(*shape: int) -> Any:
    return lambda generator: generator.integers(0, 256, shape, np.uint8)


def mamba_scan(case: Case) -> Made:
    """One sequence."""
    kernel = _MAMBAS.get(case.variant)
    if kernel is None:
        return _unknown(case)
    sequence, channels, states = case.size("seq"), case.size("channels"), case.size("state")
    if kernel is mamba.reordered and sequence > mamba.LONGEST:
        return "a whole sequence does not fit on the chip; what the measured compiler spilled is not known"
    return [
        case.launch(
            kernel,
            [
                _positive("delta", channels, sequence), case.array("u", channels, sequence),
                _positive("A", channels, states, sign=-1), case.array("B", states, sequence),
                case.array("C", states, sequence),
            ],
        )
    ]  # fmt: skip


def _positive(name: str, *shape: int, sign: int = 1) -> Argument:
    return Argument(name=name, shape=shape, dtype=float32, values=lambda g: sign * g.random(shape, np.float32))


def norm_decode(case: Case) -> Made:
    """LayerNorm of a few tokens."""
    tokens, hidden = case.size("batch") * case.size("seq"), case.size("hidden")
    arguments = [case.array("x", tokens, hidden), case.array("weight", 1, hidden), case.array("bias", 1, hidden)]
    return [case.launch(norms.layernorm_decode, arguments)]


def layernorm_rows(case: Case) -> Made:
    """LayerNorm by rows, of the library."""
    rows, columns = case.size("rows"), case.size("cols")
    arguments = [case.array("x", rows, columns), case.array("weight", 1, columns), case.array("bias", 1, columns)]
    return [case.launch(layernorm, arguments)]


def norm_quant(case: Case) -> Made:
    """Rows quantised, with a norm before unless ``quant_only``."""
    rows, hidden = case.size("batch") * case.size("seq"), case.size("hidden")
    arguments, kernel = [case.array("x", rows, hidden)], norms.quant
    if not case.options.get("quant_only"):
        arguments.append(case.array("weight", 1, hidden))
        kernel = norms.rmsnorm_quant
    return [case.launch(kernel, arguments, bound=float(case.options.get("lower_bound", 0.0)))]


def bound(case: Case) -> Made:
    """A kernel of the library at the shape of a bound."""
    kernel, dtype, shape = case.row.text("kernel"), case.row.text("dtype") or "", case.shape
    if kernel == "matmul":
        return _of_library(case, "gemm.matmul_fp8", dtype, {name: case.size(name) for name in "mkn"})
    if kernel == "attention_prefill" and dtype in ("bf16", "fp16"):
        names = {"heads": "heads", "kv_heads": "heads_kv", "queries": "q", "keys": "kv", "d": "d"}
        causal = "_causal" if case.options.get("causal") else ""
        return _of_library(case, f"attention.prefill{causal}", dtype, {to: int(shape[of]) for to, of in names.items()})
    return f"a bound; no kernel for {kernel} in {dtype}"


def _of_library(case: Case, name: str, dtype: str, shape: Mapping[str, int]) -> Made:
    reference = library()[name]
    given = reference.inputs(shape, dtype, np.random.default_rng(0))
    arrays = {key: value for key, value in given.items() if isinstance(value, np.ndarray)}
    arguments = [
        Argument(name=key, shape=value.shape, dtype=DType(value.dtype), values=_always(value))
        for key, value in arrays.items()
    ]
    options = {key: value for key, value in given.items() if key not in arrays}
    return [case.launch(cast(Kernel, reference.kernel), arguments, **options)]


def _always(value: Array) -> Callable[[np.random.Generator], Array]:
    return lambda _: value


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
    "kernel-optimization guide v2": matmul.tiled,
    "kernel-optimization guide v3": matmul.hoisted,
    "kernel-optimization guide v4": matmul.block_free,
    "kernel-optimization guide v5": matmul.blocked,
}
_ROWWISE: Mapping[str, Kernel] = {
    "naive (rmsnorm_start)": rowwise.rmsnorm,
    "tiled, 128 rows per DMA (copy_tiled)": rowwise.copy_tiled,
}
_MOE_DECODE: Mapping[str, Kernel] = {"dedupe": moe.decode_dedupe, "per_pair": moe.decode_per_pair}
_MAMBAS: Mapping[str, Kernel] = {
    "tutorial v2 (loop reordering, no sequence tiling)": mamba.reordered,
    "tutorial v3 (sequence tiling)": mamba.sequence_tiled,
}
#: Bytes of an SBUF partition. Source: ``hardware``, "sbuf".
_SBUF_ROW = {"trn1": 196608, "trn2": 229376, "trn3": 262144}
#: Bytes per partition of an expert's scales, as in the blobs of the decode rows.
_SCALES = 384
#: Bytes per partition at which the curve's rates are 1, and bytes that each launch of it moves.
_LARGEST_DMA, _CURVE = 32768, 1 << 24
