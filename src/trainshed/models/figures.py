"""Figures of a graph in closed form: weights, KV cache, FLOPs. Pure and vectorised over tokens and context."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from trainshed.core import BYTES, Dtypes, Number
from trainshed.core.op import Attention, Block, Experts, Graph, Matmul, Op, Scan

#: Recurrent states are kept in fp32 (transformers: mamba_ssm_dtype, gated delta net).
STATE_DTYPE = "fp32"


def weight_dtype(op: Op, dtypes: Dtypes) -> str:
    """Storage dtype of an op's weights: quantised checkpoints keep embeddings, head, router and norms in the
    activations' type (DeepSeek-V3 section 3.3, compressed-tensors, MXFP4 of gpt-oss)."""
    if isinstance(op, Experts):
        return dtypes.of("experts")
    plain = not isinstance(op, Matmul) or op.role in ("head", "router", "embedding")
    narrow = BYTES[dtypes.of("weights")] < BYTES[dtypes.of("activations")]
    return dtypes.of("activations" if plain and narrow else "weights")


def weight_bytes(graph: Graph, dtypes: Dtypes, *, include_embedding: bool = True) -> float:
    """Bytes of all weights that serving holds; without ``include_embedding`` those that a decode step reads whole."""
    held = (
        b.count * op.parameters * BYTES[weight_dtype(op, dtypes)]
        for b in graph.blocks
        if not b.train_only and (include_embedding or b.kind != "embedding")
        for op in b.ops
    )
    return float(sum(held))


def layer_kv_bytes(block: Block, context: Number, kv_dtype: str) -> Number:
    """Cache and state bytes of one layer of ``block`` for one sequence of ``context`` tokens."""
    size: Number = 0.0
    for op in block.ops:
        if isinstance(op, Attention) and op.cached:
            keys = np.minimum(context, op.window) if op.window else np.ceil(np.divide(context, op.stride))
            width = op.latent or op.kv_heads * (op.qk_dim + op.v_dim)
            size = size + keys * (width + op.index_dim) * BYTES[kv_dtype]
        elif isinstance(op, Scan):
            size = size + op.heads * op.key_dim * op.value_dim * BYTES[STATE_DTYPE]
            size = size + max(op.conv_width - 1, 0) * op.conv_channels * BYTES[kv_dtype]
    return size


def mean_keys(op: Attention, tokens: Number, context: Number, *, causal: bool = True) -> Number:
    """Keys that a query sees on average, for the last ``tokens`` of ``context`` positions."""
    top = np.inf if op.window is None else float(op.window)
    if op.selected:
        top = min(top, float(op.selected))
    if not (op.causal and causal):
        return np.minimum(context, top)
    context, tokens = np.divide(context, op.stride), np.divide(tokens, op.stride)
    seen: Number = _sum_of_positions(context, top) - _sum_of_positions(np.subtract(context, tokens), top)
    return np.minimum(seen / tokens, top)  # at a mean (fractional) context the sum may pass the window by a hair


def _sum_of_positions(n: Number, top: float) -> Number:
    """sum(min(i, top) for i in 1..n)"""
    free = np.minimum(n, top)
    beyond = np.maximum(np.subtract(n, top), 0.0) if np.isfinite(top) else 0.0
    total: Number = free * (free + 1) / 2 + beyond * (top if np.isfinite(top) else 0.0)
    return total


def op_flops(op: Op, streams: Mapping[str, Number], context: Number, *, causal: bool = True) -> Number:
    """FLOPs (two per MAC) of one op of one sequence; elementwise work is not counted, as is usual."""
    tokens = streams[op.stream]
    if isinstance(op, Matmul):
        return 2.0 * op.k * op.n * (1.0 if op.per_sequence else tokens)
    if isinstance(op, Experts):
        return 2.0 * op.top_k * op.k * op.n * (3 if op.gated else 2) * tokens
    if isinstance(op, Attention):
        context = context if op.stream == "tokens" and op.causal else tokens
        keys = streams[op.memory] if op.memory else mean_keys(op, tokens, context, causal=causal)
        scored: Number = 0.0
        if op.index_heads:
            every = replace(op, selected=0, window=None)
            scored = 2.0 * op.index_heads * op.index_dim * mean_keys(every, tokens, context, causal=causal)
        attended: Number = 2.0 * op.heads * (op.qk_dim + op.v_dim) * keys + scored
        return attended * tokens
    if isinstance(op, Scan):
        return (4.0 * op.heads * op.key_dim * op.value_dim + 2.0 * op.conv_width * op.conv_channels) * tokens
    return 0.0


def forward_flops(
    graph: Graph, streams: Mapping[str, Number], context: Number, *, causal: bool = True, training: bool = False
) -> Number:
    """FLOPs of one sequence's forward pass over the tokens of ``streams``."""
    work: Number = 0.0
    for block in graph.blocks:
        if block.train_only and not training:
            continue
        for op in block.ops:
            work = work + block.count * op_flops(op, streams, context, causal=causal)
    return work


def active_parameters(graph: Graph) -> int:
    """Parameters that one token passes: everything except the experts that it is not routed to."""
    idle = sum(
        b.count * (op.parameters // op.experts) * (op.experts - op.top_k)
        for b in graph.blocks
        if not b.train_only
        for op in b.ops
        if isinstance(op, Experts)
    )
    return graph.parameters - idle
