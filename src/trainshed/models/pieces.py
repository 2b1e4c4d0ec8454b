"""The small operators that every architecture is made of: projections, norms, activations, MLPs, routed experts."""

from __future__ import annotations

from dataclasses import dataclass

from trainshed.core import Block, Elementwise, Experts, Lookup, Matmul, Op, Shard

#: Elementary vector operations per element (ours): RMS norm squares, sums, scales twice; layer norm also centres.
NORM_VECTOR = {"rms": 4.0, "layer": 6.0}
#: Parameters per element of width.
NORM_VECTORS_HELD = {"rms": 1, "layer": 2, "layer_no_bias": 1, "plain": 0}


@dataclass(frozen=True, kw_only=True)
class Style:
    """What a family does everywhere: its norm, its MLP, its stream."""

    norm: str = "rms"
    """``rms``, ``layer`` (weight and bias), ``layer_no_bias``, ``plain`` (no parameters)."""
    gated: bool = True
    mlp_bias: bool = False
    stream: str = "tokens"


def block(name: str, kind: str, ops: list[Op], count: int = 1) -> Block:
    """``count`` equal blocks."""
    return Block(name=name, kind=kind, ops=tuple(ops), count=count)


def linear(
    name: str, role: str, shard: Shard, k: int, n: int, *, bias: bool = False, tied: bool = False,
    stream: str = "tokens", per_sequence: bool = False,
) -> Matmul:  # fmt: skip
    """A projection k → n."""
    held = 0 if tied else k * n + (n if bias else 0)
    return Matmul(
        name=name, role=role, shard=shard, k=k, n=n, bias=bias, parameters=held, stream=stream,
        per_sequence=per_sequence,
    )  # fmt: skip


def norm(name: str, width: int, style: Style, *, shard: Shard = Shard.SEQUENCE, of: int | None = None) -> Elementwise:
    """A normalisation over ``width`` elements per token; its vectors have ``of`` elements (default: ``width``)."""
    return Elementwise(
        name=name, role="norm", shard=shard, stream=style.stream, width=width, reads=1, writes=1,
        vector=NORM_VECTOR["rms" if style.norm == "rms" else "layer"],
        parameters=NORM_VECTORS_HELD[style.norm] * (width if of is None else of),
    )  # fmt: skip


def residual(name: str, width: int, style: Style) -> Op:
    """x + f(x)."""
    return Elementwise(
        name=name, role="residual", shard=Shard.SEQUENCE, stream=style.stream, width=width, reads=2, writes=1
    )


def activation(name: str, width: int, style: Style, *, gated: bool, shard: Shard = Shard.COLUMN) -> Op:
    """silu/gelu/relu², times the up projection where the MLP is gated."""
    return Elementwise(
        name=name, role="activation", shard=shard, stream=style.stream, width=width, reads=2 if gated else 1, writes=1,
        vector=2 if gated else 1, transcendental=1,
    )  # fmt: skip


def table(name: str, role: str, rows: int, width: int, style: Style, *, shard: Shard = Shard.REPLICATED) -> Op:
    """An embedding table: one row per token."""
    return Lookup(
        name=name, role=role, shard=shard, stream=style.stream, rows=rows, width=width, parameters=rows * width
    )


def mlp(hidden: int, inner: int, style: Style, *, prefix: str = "mlp", role: str = "mlp") -> list[Op]:
    """Up (and gate, fused into one product), activation, down."""
    if not inner:
        return []
    width = 2 * inner if style.gated else inner
    return [
        linear(f"{prefix}_up", role, Shard.COLUMN, hidden, width, bias=style.mlp_bias, stream=style.stream),
        activation(f"{prefix}_activation", inner, style, gated=style.gated),
        linear(f"{prefix}_down", role, Shard.ROW, inner, hidden, bias=style.mlp_bias, stream=style.stream),
    ]


def experts(hidden: int, inner: int, number: int, top_k: int, style: Style, *, bias: bool = False) -> Op:
    """The routed experts."""
    up = 2 * inner if style.gated else inner
    each = hidden * up + inner * hidden + ((up + hidden) if bias else 0)
    return Experts(
        name="experts", role="experts", shard=Shard.EXPERTS, stream=style.stream, experts=number, top_k=top_k, k=hidden,
        n=inner, gated=style.gated, bias=bias, parameters=number * each,
    )  # fmt: skip
