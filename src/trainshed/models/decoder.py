"""Decoder-only language models: fields and family facts → embedding, layers, head."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from trainshed.core.errors import UserError
from trainshed.core.op import Block, Graph, Lookup, Op, Shard
from trainshed.models import attention as attn
from trainshed.models import pieces
from trainshed.models.families import Family
from trainshed.models.fields import Fields
from trainshed.models.layout import Layer, layout


@dataclass(frozen=True)
class Decoder:
    """A decoder config under reading."""

    fields: Fields
    family: Family

    @property
    def hidden(self) -> int:
        """Width of the residual stream."""
        return self.fields.count("hidden")

    @property
    def style(self) -> pieces.Style:
        """Norm and MLP of the family."""
        f = self.family
        bias = f.mlp_bias if f.mlp_bias is not None else self.fields.flag("mlp_bias", False)
        return pieces.Style(norm=f.norm, gated=f.gated, mlp_bias=bias)

    @property
    def tied(self) -> bool:
        """Whether the head uses the embedding's table."""
        return self.fields.flag("tied", self.family.tied)

    def graph(self) -> Graph:
        """The whole model."""
        layers = layout(self.fields)
        names = {kind: _name(kind, set(layers)) for kind in dict.fromkeys(layers)}
        counts = Counter(layers)
        blocks = [Block(name="embedding", kind="embedding", ops=tuple(self.embedding()))]
        blocks += [Block(name=names[k], kind="layer", ops=tuple(self.layer(k)), count=counts[k]) for k in names]
        blocks.append(Block(name="head", kind="head", ops=tuple(self.head())))
        if mtp := self.fields.count("mtp_layers", 0, least=0):
            blocks.append(Block(name="mtp", kind="head", ops=tuple(self.mtp(layers[-1])), count=mtp, train_only=True))
        return Graph(blocks=tuple(blocks), order=tuple(names[k] for k in layers))

    def embedding(self) -> list[Op]:
        """Token table, learned positions."""
        vocab, hidden = self.fields.count("vocab"), self.hidden
        ops: list[Op] = [
            Lookup(
                name="embedding", role="embedding", shard=Shard.VOCAB, rows=vocab, width=hidden,
                parameters=vocab * hidden,
            )
        ]  # fmt: skip
        if self.family.positions == "learned":
            rows = self.fields.count("positions", self.family.position_rows) + self.family.position_offset
            ops.append(
                Lookup(
                    name="positions", role="position", shard=Shard.REPLICATED, rows=rows, width=hidden,
                    parameters=rows * hidden,
                )
            )  # fmt: skip
        return ops

    def head(self) -> list[Op]:
        """Final norm and the projection to the vocabulary."""
        ops: list[Op] = [pieces.norm("final_norm", self.hidden, self.style)] if self.family.final_norm else []
        vocab = self.fields.count("vocab")
        ops.append(
            pieces.linear(
                "head", "head", Shard.VOCAB, self.hidden, vocab, bias=self.family.head_bias, tied=self.tied
            )
        )  # fmt: skip
        return ops

    def mtp(self, kind: Layer) -> list[Op]:
        """A multi-token-prediction module (DeepSeek-V3, arXiv:2412.19437): norms, a projection, a layer, the head."""
        h, style = self.hidden, self.style
        shared_head = pieces.linear("mtp_head", "head", Shard.VOCAB, h, self.fields.count("vocab"), tied=True)
        return [
            pieces.norm("mtp_norm_hidden", h, style), pieces.norm("mtp_norm_embedding", h, style),
            pieces.linear("mtp_join", "mlp", Shard.REPLICATED, 2 * h, h), *self.layer(kind),
            pieces.norm("mtp_norm_head", h, style), shared_head,
        ]  # fmt: skip

    def layer(self, kind: Layer) -> list[Op]:
        """Norms, mixer, residual, MLP, residual."""
        h, style = self.hidden, self.style
        return [
            pieces.norm("attention_norm", h, style), *self.attention(kind),
            pieces.residual("attention_residual", h, style), pieces.norm("mlp_norm", h, style), *self.mlp(kind),
            pieces.residual("mlp_residual", h, style),
        ]  # fmt: skip

    def attention(self, kind: Layer) -> list[Op]:
        """The mixer of a layer."""
        f, facts = self.fields, self.family
        bias = f.flag("attention_bias", False)
        heads = f.count("heads")
        head_dim = self.head_dim(heads)
        shape = attn.Heads(
            heads=heads, kv_heads=f.count("kv_heads", heads), qk_dim=head_dim, v_dim=head_dim,
            window=f.count("window") if kind.mixer == "window" else None,
            rotary=f.number("rotary_factor", 1.0) if facts.positions == "rope" else 0.0,
            qkv_bias=bias if facts.qkv_bias is None else facts.qkv_bias,
            out_bias=bias if facts.out_bias is None else facts.out_bias, qk_norm=facts.qk_norm, sinks=facts.sinks,
        )  # fmt: skip
        return attn.self_attention(self.hidden, shape, style=self.style)

    def head_dim(self, heads: int) -> int:
        """Width of a head: its own field, else hidden / heads."""
        if not self.fields.has("head_dim") and self.hidden % heads:
            raise UserError(
                "hidden size does not divide by the heads", where=self.fields.where, value=f"{self.hidden}/{heads}",
                expected="a head_dim field or heads that divide it",
            )  # fmt: skip
        return self.fields.count("head_dim", self.hidden // heads)

    def mlp(self, kind: Layer) -> list[Op]:
        """Dense or routed MLP."""
        f, h, style = self.fields, self.hidden, self.style
        if kind.mlp == "dense":
            return pieces.mlp(h, self.inner(), style)
        number, facts = f.count("experts"), self.family
        inner = f.count("expert_inner", f.count("inner"))
        return [
            pieces.linear("router", "router", Shard.REPLICATED, h, number, bias=facts.router_bias),
            pieces.experts(h, inner, number, f.count("top_k"), style, bias=facts.expert_bias),
        ]

    def inner(self) -> int:
        """Width of the dense MLP; a multiple of hidden where only a ratio (or nothing, as in GPT-2) is given."""
        if self.fields.has("inner") or self.family.gated:
            return self.fields.count("inner")
        return self.fields.count("expansion_ratio", 4) * self.hidden


def _name(kind: Layer, kinds: set[Layer]) -> str:
    """``layer`` where all are equal, else what tells them apart."""
    words = []
    if len({k.mixer for k in kinds}) > 1:
        words.append(kind.mixer)
    if len({k.mlp for k in kinds}) > 1:
        words.append(kind.mlp)
    return "_".join(words) or "layer"
