"""Attention of every published shape as operators: MHA, GQA, MQA, windows, sinks, latent (MLA), gated, cross."""

from __future__ import annotations

from dataclasses import dataclass

from trainshed.core.op import Attention, Elementwise, Op, Shard
from trainshed.models.pieces import Style, linear, norm


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
    sinks: bool = False


def self_attention(hidden: int, shape: Heads, style: Style) -> list[Op]:
    """Query, key, value in one product; norms and rotation of queries and keys; softmax; output projection."""
    s = shape
    queries, values = s.heads * s.qk_dim, s.heads * s.v_dim
    kv = s.kv_heads * (s.qk_dim + s.v_dim)
    turned = queries + s.kv_heads * s.qk_dim
    ops: list[Op] = [
        linear("qkv", "attention", Shard.COLUMN, hidden, queries + kv, bias=s.qkv_bias, stream=style.stream)
    ]
    if s.qk_norm:
        held = {"head": 2 * s.qk_dim, "full": turned, "heads": turned}[s.qk_norm]
        ops.append(norm("qk_norm", turned, style, shard=Shard.HEADS, of=held))
    if s.rotary:
        ops.append(rotary(int(turned * s.rotary), style))
    ops.append(
        Attention(
            name="attention", role="attention", shard=Shard.HEADS, stream=style.stream, heads=s.heads,
            kv_heads=s.kv_heads, qk_dim=s.qk_dim, v_dim=s.v_dim, causal=s.causal, window=s.window, sinks=s.sinks,
            cached=s.causal, parameters=s.heads if s.sinks else 0,
        )
    )  # fmt: skip
    ops.append(linear("attention_out", "attention", Shard.ROW, values, hidden, bias=s.out_bias, stream=style.stream))
    return ops


def rotary(width: int, style: Style) -> Op:
    """Rotation of queries and keys by their position: two products and a sum per element."""
    return Elementwise(
        name="rope", role="position", shard=Shard.HEADS, stream=style.stream, width=width, reads=1, writes=1, vector=3
    )
