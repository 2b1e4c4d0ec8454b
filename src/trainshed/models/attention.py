"""Attention of every published shape as operators: MHA, GQA, MQA, windows, sinks, gates, latent (MLA), indexed, cross.

The product that makes queries, keys and values of one head count is called ``qkv``; keys and values alone are ``k`` or
``kv``: plans replicate these over ranks once there are more ranks than KV heads.
"""

from __future__ import annotations

from dataclasses import dataclass

from trainshed.core import Attention, Elementwise, Op, Shard
from trainshed.models.pieces import Style, linear, norm


@dataclass(frozen=True, kw_only=True)
class Index:
    """The indexer of sparse attention (DeepSeek-V3.2 technical report): which keys a query keeps."""

    heads: int
    dim: int
    top: int
    own: bool = True
    """False: the layer uses the choice of an earlier layer."""
    pooled: int = 1
    """Keys are pooled over so many tokens before they are scored."""


@dataclass(frozen=True, kw_only=True)
class Heads:
    """The shape of one attention layer."""

    heads: int
    kv_heads: int
    qk_dim: int
    v_dim: int
    window: int | None = None
    causal: bool = True
    rotary: float = 1.0
    """Share of the head that rotary positions turn; 0: no rotary positions."""
    qkv_bias: bool = False
    out_bias: bool = False
    qk_norm: str = ""
    """``head``: one vector of qk_dim for queries and one for keys; ``full``: over all heads; ``plain``: none held."""
    sinks: bool = False
    gate: bool = False
    """Output gate: a further projection as wide as the values, sigmoid, product."""
    own_kv: bool = True
    """False: keys and values of an earlier layer are used."""
    value_is_key: bool = False
    index: Index | None = None


def self_attention(hidden: int, shape: Heads, style: Style, *, prefix: str = "") -> list[Op]:
    """Query, key, value in one product; norms and rotation of queries and keys; softmax; output projection."""
    s = shape
    keys = s.kv_heads * s.qk_dim if s.own_kv else 0
    turned = s.heads * s.qk_dim + keys
    ops = _inputs(hidden, s, style, prefix)
    if s.qk_norm:
        held = {"head": (2 if keys else 1) * s.qk_dim, "full": turned, "plain": 0}[s.qk_norm]
        ops.append(norm(f"{prefix}qk_norm", turned, style, shard=Shard.HEADS, of=held))
    if s.rotary:
        ops.append(rotary(f"{prefix}rope", int(turned * s.rotary), style))
    if s.index and s.index.own:
        ops += indexer(hidden, hidden, s.index, style, q_norm=True)
    ops.append(core(f"{prefix}attention", s, style))
    if s.gate:
        ops.append(gate(f"{prefix}attention_gate", s.heads * s.v_dim, style))
    name, width = f"{prefix}attention_out", s.heads * s.v_dim
    return [*ops, linear(name, "attention", Shard.ROW, width, hidden, bias=s.out_bias, stream=style.stream)]


def _inputs(hidden: int, s: Heads, style: Style, prefix: str) -> list[Op]:
    queries = s.heads * s.qk_dim + (s.heads * s.v_dim if s.gate else 0)
    kv = s.kv_heads * (s.qk_dim + s.v_dim)
    wanted = {"qkv": queries + kv}
    if not s.own_kv:
        wanted = {"q": queries}
    elif s.value_is_key:
        wanted = {"q": queries, "k": s.kv_heads * s.qk_dim}
    return [
        linear(prefix + name, "attention", Shard.COLUMN, hidden, n, bias=s.qkv_bias, stream=style.stream)
        for name, n in wanted.items()
    ]


def core(name: str, s: Heads, style: Style, *, latent: int = 0, stride: int = 1) -> Attention:
    """softmax(q · kᵀ) · v of the shape."""
    index = s.index
    return Attention(
        name=name, role="attention", shard=Shard.HEADS, stream=style.stream, heads=s.heads, kv_heads=s.kv_heads,
        qk_dim=s.qk_dim, v_dim=s.v_dim, causal=s.causal, window=s.window, sinks=s.sinks, latent=latent, stride=stride,
        selected=index.top if index else 0, index_dim=index.dim if index and index.own else 0,
        index_heads=index.heads if index and index.own else 0, cached=s.causal and s.own_kv,
        parameters=s.heads if s.sinks else 0,
    )  # fmt: skip


def rotary(name: str, width: int, style: Style) -> Op:
    """Rotation of queries and keys by their position: two products and a sum per element."""
    return Elementwise(
        name=name, role="position", shard=Shard.HEADS, stream=style.stream, width=width, reads=1, writes=1, vector=3
    )


def gate(name: str, width: int, style: Style) -> Op:
    """sigmoid(g) · x, as wide as the heads' outputs."""
    return Elementwise(
        name=name, role="activation", shard=Shard.HEADS, stream=style.stream, width=width, reads=2, writes=1, vector=2,
        transcendental=1,
    )  # fmt: skip


def indexer(hidden: int, query_from: int, index: Index, style: Style, *, q_norm: bool = False) -> list[Op]:
    """Projections of the indexer; the scores themselves belong to the attention op (``index_heads``, ``index_dim``)."""
    ops: list[Op] = [
        linear("index_q", "attention", Shard.REPLICATED, query_from, index.heads * index.dim, stream=style.stream),
        linear("index_k", "attention", Shard.REPLICATED, hidden, index.dim, stream=style.stream),
    ]
    if q_norm:  # a norm on both, no weights per head (MiniMax-M3)
        return [*ops, norm("index_norm", (index.heads + 1) * index.dim, style, of=2 * index.dim)]
    held = Style(norm="layer", stream=style.stream)
    ops.append(norm("index_norm", index.dim, held))
    ops.append(linear("index_weights", "attention", Shard.REPLICATED, hidden, index.heads, stream=style.stream))
    if index.pooled > 1:
        extra = index.pooled * index.dim
        ops.append(linear("index_gate", "attention", Shard.REPLICATED, hidden, index.dim, stream=style.stream))
        ops.append(norm("index_pool", index.dim, style, of=extra, shard=Shard.REPLICATED))
    return ops


@dataclass(frozen=True, kw_only=True)
class Latent:
    """Multi-head latent attention (DeepSeek-V2, arXiv:2405.04434): queries and KV through low-rank projections."""

    heads: int
    q_rank: int
    """0: queries come straight from the residual stream."""
    kv_rank: int
    nope: int
    rope: int
    v_dim: int
    bias: bool = False
    index: Index | None = None


def latent_attention(hidden: int, shape: Latent, style: Style) -> list[Op]:
    """Down and up projections; the cache holds one vector of kv_rank + rope per token for all heads."""
    s, stream = shape, style.stream
    qk = s.nope + s.rope
    ops: list[Op] = []
    if s.q_rank:
        ops += [
            linear("q_down", "attention", Shard.REPLICATED, hidden, s.q_rank, bias=s.bias, stream=stream),
            norm("q_norm", s.q_rank, style),
        ]
    ops += [
        linear("q_up", "attention", Shard.COLUMN, s.q_rank or hidden, s.heads * qk, stream=stream),
        linear("kv_down", "attention", Shard.REPLICATED, hidden, s.kv_rank + s.rope, bias=s.bias, stream=stream),
        norm("kv_norm", s.kv_rank, style),
        linear("kv_up", "attention", Shard.COLUMN, s.kv_rank, s.heads * (s.nope + s.v_dim), stream=stream),
    ]
    if s.rope:
        ops.append(rotary("rope", s.heads * s.rope + s.rope, style))
    if s.index and s.index.own:
        ops += indexer(hidden, s.q_rank or hidden, s.index, style)
    shape_of_heads = Heads(heads=s.heads, kv_heads=s.heads, qk_dim=qk, v_dim=s.v_dim, index=s.index)
    return [
        *ops, core("attention", shape_of_heads, style, latent=s.kv_rank + s.rope),
        linear("attention_out", "attention", Shard.ROW, s.heads * s.v_dim, hidden, bias=s.bias, stream=stream),
    ]  # fmt: skip


def cross_attention(
    hidden: int, shape: Heads, style: Style, *, memory: str, memory_width: int, prefix: str = "cross_", out: int = 0,
    cached: bool = False,
) -> list[Op]:  # fmt: skip
    """Queries of this stream, keys and values of another (``memory``) of its own width."""
    s, stream = shape, style.stream
    kv = s.kv_heads * (s.qk_dim + s.v_dim)
    own = f"{prefix}kv" if prefix != "cross_" else "kv"
    ops: list[Op] = [
        linear(f"{prefix}q", "attention", Shard.COLUMN, hidden, s.heads * s.qk_dim, bias=s.qkv_bias, stream=stream),
        linear(own, "attention", Shard.COLUMN, memory_width, kv, bias=s.qkv_bias, stream=memory),
    ]
    if s.qk_norm:
        q, k = s.heads * s.qk_dim, s.kv_heads * s.qk_dim
        each = {"head": (s.qk_dim, s.qk_dim), "full": (q, k), "plain": (0, 0)}[s.qk_norm]
        away = Style(norm=style.norm, stream=memory)
        ops.append(norm(f"{prefix}q_norm", q, style, shard=Shard.HEADS, of=each[0]))
        ops.append(norm(f"{prefix}k_norm", k, away, shard=Shard.HEADS, of=each[1]))
    ops.append(
        Attention(
            name=f"{prefix}attention", role="attention", shard=Shard.HEADS, stream=stream, heads=s.heads,
            kv_heads=s.kv_heads, qk_dim=s.qk_dim, v_dim=s.v_dim, causal=False, memory=memory, cached=cached,
        )
    )  # fmt: skip
    out_width = out or hidden
    ops.append(
        linear(
            f"{prefix}out", "attention", Shard.ROW, s.heads * s.v_dim, out_width, bias=s.out_bias, stream=stream
        )
    )  # fmt: skip
    return ops


@dataclass(frozen=True, kw_only=True)
class Compressed:
    """DeepSeek-V4's layer: a window of plain keys, and (``ratio`` > 0) one compressed key per ``ratio`` tokens."""

    heads: int
    dim: int
    q_rank: int
    window: int
    out_groups: int
    out_rank: int
    rope: int
    ratio: int = 0
    index: Index | None = None
    """Set where the compressed keys are chosen (small ratios); else all of them are attended."""


def compressed_attention(hidden: int, shape: Compressed, style: Style) -> list[Op]:
    """One key-value vector for all heads, low-rank queries and grouped low-rank output (transformers deepseek_v4)."""
    s, stream = shape, style.stream
    local = Heads(heads=s.heads, kv_heads=1, qk_dim=s.dim, v_dim=s.dim, window=s.window, sinks=True)
    ops: list[Op] = [
        linear("q_down", "attention", Shard.REPLICATED, hidden, s.q_rank, stream=stream),
        norm("q_norm", s.q_rank, style),
        linear("q_up", "attention", Shard.COLUMN, s.q_rank, s.heads * s.dim, stream=stream),
        norm("q_head_norm", s.heads * s.dim, Style(norm="plain", stream=stream), shard=Shard.HEADS),
        linear("kv", "attention", Shard.COLUMN, hidden, s.dim, stream=stream),
        norm("kv_norm", s.dim, style), rotary("rope", (s.heads + 1) * s.rope, style),
        core("attention", local, style, latent=s.dim),
    ]  # fmt: skip
    if s.ratio:
        ops += _compressor("compress", hidden, s.dim, s, style)
        if s.index:
            ops += _compressor("index_compress", hidden, s.index.dim, s, style)
            ops.append(
                linear("index_q", "attention", Shard.REPLICATED, s.q_rank, s.index.heads * s.index.dim, stream=stream)
            )
            ops.append(
                linear("index_weights", "attention", Shard.REPLICATED, hidden, s.index.heads, stream=stream)
            )  # fmt: skip
        far = Heads(heads=s.heads, kv_heads=1, qk_dim=s.dim, v_dim=s.dim, index=s.index)
        ops.append(core("compressed_attention", far, style, latent=s.dim, stride=s.ratio))
    per_group = s.heads * s.dim // s.out_groups
    return [
        *ops,
        linear("out_down", "attention", Shard.COLUMN, per_group, s.out_groups * s.out_rank, stream=stream),
        linear("attention_out", "attention", Shard.ROW, s.out_groups * s.out_rank, hidden, stream=stream),
    ]


def _compressor(name: str, hidden: int, dim: int, s: Compressed, style: Style) -> list[Op]:
    """Weighted pooling of ``ratio`` tokens into one; where keys are chosen the pools overlap and are twice as wide."""
    width = dim * (2 if s.index else 1)
    held = s.ratio * width + dim
    return [
        linear(name, "attention", Shard.REPLICATED, hidden, 2 * width, stream=style.stream),
        norm(f"{name}_norm", width, style, of=held, shard=Shard.REPLICATED),
    ]
