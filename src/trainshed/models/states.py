"""Layers that carry a state instead of a cache: Mamba-2, gated delta net and its kin, RG-LRU."""

from __future__ import annotations

from dataclasses import dataclass, replace

from trainshed.core import Op, Scan, Shard
from trainshed.models.pieces import Style, linear, norm

_ROLE = "state_space"


@dataclass(frozen=True, kw_only=True)
class Mamba:
    """Mamba-2 (arXiv:2405.21060)."""

    heads: int
    head_dim: int
    state: int
    groups: int
    conv: int
    normed: bool = True
    """A gated norm before the output projection."""


def mamba(hidden: int, shape: Mamba, style: Style) -> list[Op]:
    """One input projection (gate, x, B, C, dt), convolution and scan, gate, output projection."""
    s, stream = shape, style.stream
    inner, mixed = s.heads * s.head_dim, s.heads * s.head_dim + 2 * s.groups * s.state
    held = mixed * (s.conv + 1) + 3 * s.heads  # convolution with bias; A, D and the step's bias
    return [
        linear("state_in", _ROLE, Shard.COLUMN, hidden, inner + mixed + s.heads, stream=stream),
        Scan(
            name="scan", role=_ROLE, shard=Shard.HEADS, stream=stream, heads=s.heads, key_dim=s.state,
            value_dim=s.head_dim, groups=s.groups, conv_width=s.conv, conv_channels=mixed, parameters=held,
        ),
        _gated_norm(inner, inner if s.normed else 0, style),
        linear("state_out", _ROLE, Shard.ROW, inner, hidden, stream=stream),
    ]  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Delta:
    """Gated delta net (arXiv:2412.06464); ``low_rank``: Kimi delta attention (arXiv:2510.26692)."""

    key_heads: int
    key_dim: int
    value_heads: int
    value_dim: int
    conv: int
    low_rank: bool = False
    """Decay per channel and output gate come from two low-rank projections."""


def delta(hidden: int, shape: Delta, style: Style) -> list[Op]:
    """Projections of q, k, v, gates and decays; convolution and delta rule; gated norm per head; output."""
    s, stream = shape, style.stream
    keys, values = s.key_heads * s.key_dim, s.value_heads * s.value_dim
    mixed = 2 * keys + values
    if s.low_rank:
        inputs: list[Op] = [
            linear("state_in", _ROLE, Shard.COLUMN, hidden, mixed + s.value_heads, stream=stream),
            linear("decay_down", _ROLE, Shard.REPLICATED, hidden, s.value_dim, stream=stream),
            linear("decay_up", _ROLE, Shard.COLUMN, s.value_dim, values, stream=stream),
            linear("gate_down", _ROLE, Shard.REPLICATED, hidden, s.value_dim, stream=stream),
            linear("gate_up", _ROLE, Shard.COLUMN, s.value_dim, values, stream=stream),
        ]
        decay = values + s.value_heads
    else:
        inputs = [linear("state_in", _ROLE, Shard.COLUMN, hidden, mixed + values + 2 * s.value_heads, stream=stream)]
        decay = 2 * s.value_heads
    return [
        *inputs,
        Scan(
            name="scan", role=_ROLE, shard=Shard.HEADS, stream=stream, heads=s.value_heads, key_dim=s.key_dim,
            value_dim=s.value_dim, groups=s.key_heads, conv_width=s.conv, conv_channels=mixed,
            parameters=mixed * s.conv + decay,
        ),
        _gated_norm(values, s.value_dim, style),
        linear("state_out", _ROLE, Shard.ROW, values, hidden, stream=stream),
    ]  # fmt: skip


def recurrent(hidden: int, width: int, heads: int, conv: int, style: Style) -> list[Op]:
    """Griffin's recurrent block (arXiv:2402.19427): two branches, convolution, RG-LRU with block-diagonal gates."""
    stream, block = style.stream, width // heads
    gates = linear("lru_gates", _ROLE, Shard.COLUMN, block, 2 * width, bias=True, stream=stream)
    return [
        linear("state_in", _ROLE, Shard.COLUMN, hidden, 2 * width, bias=True, stream=stream),
        gates,
        Scan(
            name="scan", role=_ROLE, shard=Shard.HEADS, stream=stream, heads=heads, key_dim=1, value_dim=block,
            conv_width=conv, conv_channels=width, parameters=width * (conv + 1) + width,
        ),
        _gated_norm(width, 0, Style(norm="plain", stream=stream)),
        linear("state_out", _ROLE, Shard.ROW, width, hidden, bias=True, stream=stream),
    ]  # fmt: skip


def _gated_norm(width: int, held: int, style: Style) -> Op:
    """silu(z) · norm(x); ``held`` 0: the gate alone, or a norm without parameters."""
    own = Style(norm="rms" if held else "plain", stream=style.stream)
    plain = norm("state_norm", width, own, shard=Shard.HEADS, of=held)
    return replace(plain, reads=2, vector=plain.vector + 1, transcendental=1)
