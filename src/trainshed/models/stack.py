"""A stack of transformer layers from fields and family facts: every decoder and encoder is made of one or two."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from functools import cached_property

from trainshed.core import Block, Elementwise, Op, Shard, UserError
from trainshed.models import attention as attn
from trainshed.models import pieces, states
from trainshed.models.families import Family
from trainshed.models.fields import Fields
from trainshed.models.layout import Layer, layout


@dataclass(frozen=True)
class Stack:
    """A config under reading, as layers over the tokens of one stream."""

    fields: Fields
    family: Family
    stream: str = "tokens"
    causal: bool = True
    memory: str = ""
    """Stream that each layer also attends to (cross-attention); "" is none."""
    prefix: str = ""
    """Of block names, where a model has two stacks."""

    @cached_property
    def hidden(self) -> int:
        """Width of the residual stream."""
        return self.fields.count("hidden")

    @cached_property
    def heads(self) -> int:
        """Query heads."""
        return self.fields.count("heads")

    @cached_property
    def style(self) -> pieces.Style:
        """Norm and MLP of the family."""
        f = self.family
        bias = f.mlp_bias if f.mlp_bias is not None else self.fields.flag("mlp_bias", False)
        gated = str(self.fields.get("feed_forward_proj", "")).startswith("gated") or f.gated
        return pieces.Style(norm=f.norm, gated=gated, mlp_bias=bias, stream=self.stream)

    @cached_property
    def layers(self) -> list[Layer]:
        """The kind of each layer."""
        return layout(self.fields, self.family)

    def blocks(self) -> tuple[list[Block], list[str]]:
        """Blocks of equal layers, and the name of each layer's block in order."""
        kinds = list(dict.fromkeys(self.layers))
        names = {kind: self.prefix + kind.name(kinds) for kind in kinds}
        counts = Counter(self.layers)
        beside = self.family.norms in ("shared", "parallel")
        blocks = [
            Block(name=names[k], kind="layer", ops=tuple(self.layer(k)), count=counts[k], side_by_side=beside)
            for k in kinds
        ]
        return blocks, [names[k] for k in self.layers]

    def norm(self, name: str) -> Op:
        """A norm of the residual stream."""
        return pieces.norm(name, self.hidden, self.style)

    def residual(self, name: str) -> Op:
        """A sum into the residual stream."""
        return pieces.residual(name, self.hidden, self.style)

    def layer(self, kind: Layer) -> list[Op]:
        """Norms, mixer, residual, cross-attention, norms, MLP, residual, and whatever else the fields ask for."""
        norms, ops = self.family.norms, list[Op]()
        if kind.mixer != "none":
            mixer = self.mixer(kind)
            if norms in ("pre", "sandwich", "shared", "parallel"):
                ops.append(self.norm("attention_norm"))
            ops += self.connection("attention_streams") + mixer
            if norms in ("post", "sandwich"):
                ops.append(self.norm("attention_post_norm"))
            ops.append(self.residual("attention_residual"))
        if self.memory:
            ops += [self.norm("cross_norm"), *self.cross(), self.residual("cross_residual")]
        if kind.mlp != "none":
            if norms in ("pre", "sandwich", "parallel"):
                ops.append(self.norm("mlp_norm"))
            ops += self.connection("mlp_streams") + self.mlp(kind)
            if norms in ("post", "sandwich"):
                ops.append(self.norm("mlp_post_norm"))
            ops.append(self.residual("mlp_residual"))
        return ops + self.per_layer_input()

    def mixer(self, kind: Layer) -> list[Op]:
        """Attention, a state-space layer, or both beside each other."""
        if kind.mixer == "mamba":
            return states.mamba(self.hidden, self.mamba(), self.style)
        if kind.mixer == "linear":
            return states.delta(self.hidden, self.delta(), self.style)
        if kind.mixer == "recurrent":
            f = self.fields
            width = f.count("lru_width", self.hidden)
            return states.recurrent(self.hidden, width, self.heads, f.count("conv_width"), self.style)
        if kind.mixer == "both":
            return [*self.attention(kind), *states.mamba(self.hidden, self.mamba(), self.style)]
        return self.attention(kind)

    def mamba(self) -> states.Mamba:
        """Shape of the Mamba layers."""
        f = self.fields
        return states.Mamba(
            heads=f.count("state_heads"), head_dim=f.count("state_head_dim"), state=f.count("state_size"),
            groups=f.count("state_groups", 1), conv=f.count("conv_width", 4), normed=self.family.state_norm,
        )  # fmt: skip

    def delta(self) -> states.Delta:
        """Shape of the linear-attention layers."""
        f = self.fields
        if f.has("linear_num_heads"):
            heads, dim = f.count("linear_num_heads"), f.count("linear_head_dim")
            return states.Delta(
                key_heads=heads, key_dim=dim, value_heads=heads, value_dim=dim, conv=f.count("conv_width"),
                low_rank=True,
            )  # fmt: skip
        return states.Delta(
            key_heads=f.count("linear_num_key_heads"), key_dim=f.count("linear_key_head_dim"),
            value_heads=f.count("linear_num_value_heads"), value_dim=f.count("linear_value_head_dim"),
            conv=f.count("conv_width"),
        )  # fmt: skip

    def attention(self, kind: Layer) -> list[Op]:
        """Self-attention in the form that the fields describe."""
        f = self.fields
        if f.has("compress_ratios"):
            return attn.compressed_attention(self.hidden, self.compressed(kind), self.style)
        if f.has("kv_lora_rank"):
            return attn.latent_attention(self.hidden, self.latent(kind), self.style)
        return attn.self_attention(self.hidden, self.shape(kind), self.style)

    def shape(self, kind: Layer) -> attn.Heads:
        """Heads of an ordinary attention layer; windowed layers may have heads of their own."""
        f, facts = self.fields, self.family
        window = kind.mixer == "window"
        own = "swa" if window and f.has("swa_num_attention_heads") else ""
        heads = f.count("swa_num_attention_heads") if own else self.heads
        kv_heads = f.count("swa_num_key_value_heads" if own else "kv_heads", facts.kv_heads or heads)
        dim = f.count("swa_head_dim") if own else self.head_dim()
        v_dim = f.count("swa_v_head_dim", dim) if own else f.count("v_dim", dim)
        kv_heads = facts.only_kv_heads or kv_heads
        value_is_key = False
        if not window and f.has("global_head_dim"):
            dim = v_dim = f.count("global_head_dim")
            kv_heads = f.count("num_global_key_value_heads", kv_heads)
            value_is_key = f.flag("attention_k_eq_v", False)
        bias = f.flag("attention_bias", False)
        return attn.Heads(
            heads=heads, kv_heads=kv_heads, qk_dim=dim, v_dim=v_dim, window=self.window() if window else None,
            causal=self.causal, rotary=f.number("rotary_factor", facts.rotary) if facts.positions == "rope" else 0.0,
            qkv_bias=bias if facts.qkv_bias is None else facts.qkv_bias,
            out_bias=bias if facts.out_bias is None else facts.out_bias, qk_norm=facts.qk_norm,
            sinks=facts.sinks == "all" or (facts.sinks == "window" and window),
            gate=f.flag("attn_output_gate", facts.attention_gate), own_kv=kind.own_kv, value_is_key=value_is_key,
            index=self.index(kind),
        )  # fmt: skip

    def window(self) -> int:
        """Tokens that a windowed layer sees: a sliding window or a chunk."""
        name = "window" if self.fields.has("window") else "attention_chunk_size"
        return self.fields.count(name)

    def head_dim(self) -> int:
        """Width of a head: its own field, else hidden / heads."""
        f = self.fields
        if not f.has("head_dim") and self.hidden % self.heads:
            raise UserError(
                "hidden size does not divide by the heads", where=f.where, value=f"{self.hidden}/{self.heads}",
                expected="a head_dim field or heads that divide it",
            )  # fmt: skip
        return f.count("head_dim", self.hidden // self.heads)

    def latent(self, kind: Layer) -> attn.Latent:
        """Shape of multi-head latent attention."""
        f = self.fields
        return attn.Latent(
            heads=self.heads, q_rank=f.count("q_lora_rank", 0, least=0), kv_rank=f.count("kv_lora_rank"),
            nope=f.count("qk_nope_head_dim"), rope=f.count("qk_rope_head_dim", least=0), v_dim=f.count("v_dim"),
            bias=f.flag("attention_bias", False), index=self.index(kind),
        )  # fmt: skip

    def compressed(self, kind: Layer) -> attn.Compressed:
        """Shape of DeepSeek-V4's layers: small ratios choose their compressed keys, large ones attend all."""
        f = self.fields
        chosen = kind.ratio and kind.ratio < f.count("window")
        return attn.Compressed(
            heads=self.heads, dim=self.head_dim(), q_rank=f.count("q_lora_rank"), window=f.count("window"),
            out_groups=f.count("o_groups"), out_rank=f.count("o_lora_rank"), rope=f.count("qk_rope_head_dim"),
            ratio=kind.ratio, index=self.index(replace(kind, sparse=True)) if chosen else None,
        )  # fmt: skip

    def index(self, kind: Layer) -> attn.Index | None:
        """The indexer of a sparse layer."""
        f = self.fields
        if not kind.sparse:
            return None
        if f.has("index_topk"):
            return attn.Index(
                heads=f.count("index_n_heads"), dim=f.count("index_head_dim"), top=f.count("index_topk"),
                own=kind.own_index, pooled=f.count("index_kpool", 1),
            )  # fmt: skip
        nested = f.part("sparse_attention_config")
        return attn.Index(
            heads=nested.count("sparse_num_index_heads"), dim=nested.count("sparse_index_dim"),
            top=nested.count("sparse_topk_blocks") * nested.count("sparse_block_size"), own=kind.own_index,
        )  # fmt: skip

    def cross(self) -> list[Op]:
        """Attention to the memory stream, whose keys and values decoding keeps."""
        shape = replace(self.shape(Layer()), causal=False, rotary=0.0)
        return attn.cross_attention(
            self.hidden, shape, self.style, memory=self.memory, memory_width=self.hidden, cached=self.causal
        )

    def mlp(self, kind: Layer) -> list[Op]:
        """Dense MLP, routed experts, or both."""
        if kind.mlp == "dense":
            return pieces.mlp(self.hidden, self.inner(kind), self.style)
        if kind.mlp == "moe":
            return self.moe()
        h, style = self.hidden, self.style  # Gemma 4: beside each other, with norms of their own
        norms = [pieces.norm(n, h, style) for n in ("mlp_inner_norm", "experts_norm", "experts_post_norm")]
        return [*pieces.mlp(h, self.inner(kind), style), norms[0], norms[1], *self.moe(), norms[2]]

    def inner(self, kind: Layer) -> int:
        """Width of the dense MLP; a multiple of hidden where only a ratio (or nothing, as in GPT-2) is given."""
        f = self.fields
        if self.family.gated or f.has("inner"):
            width = f.count("dense_inner", f.count("inner")) if f.has("experts") else f.count("inner")
        else:
            width = f.count("expansion_ratio", 4) * self.hidden
        wide = not kind.own_kv and f.flag("use_double_wide_mlp", False)
        return int(width * self.family.inner_share) * (2 if wide else 1)

    def moe(self) -> list[Op]:
        """Router, routed experts (in a narrower space where there is one), shared experts."""
        f, h, style, facts = self.fields, self.hidden, self.style, self.family
        number, inner = f.count("experts"), f.count("expert_inner", f.count("inner", 0))
        if not inner:
            raise f.missing("expert_inner", "a whole number of at least 1")
        latent = f.count("moe_latent_size", 0, least=0)
        ops: list[Op] = [self.router(number)]
        if latent:
            ops.append(pieces.linear("latent_down", "experts", Shard.REPLICATED, h, latent, stream=self.stream))
        ops.append(pieces.experts(latent or h, inner, number, f.count("top_k"), style, bias=facts.expert_bias))
        if latent:
            ops.append(pieces.linear("latent_up", "experts", Shard.REPLICATED, latent, h, stream=self.stream))
        shared = f.count("shared_experts", facts.shared_experts, least=0)
        width = f.count("shared_inner", 0, least=0) * max(shared, 1) or shared * inner
        ops += pieces.mlp(h, width, style, prefix="shared", role="shared_experts")
        if width and facts.shared_gate:
            ops.append(pieces.linear("shared_gate", "shared_experts", Shard.REPLICATED, h, 1, stream=self.stream))
        return ops

    def router(self, number: int) -> Op:
        """Scores of all experts; ``router_scale`` families also scale the input and each expert."""
        router = pieces.linear(
            "router", "router", Shard.REPLICATED, self.hidden, number, bias=self.family.router_bias, stream=self.stream
        )
        if self.family.router_scale:
            return replace(router, parameters=router.parameters + self.hidden + number)
        return router

    def connection(self, name: str) -> list[Op]:
        """Hyper-connections (arXiv:2409.19606): hc_mult residual streams, mixed by weights made from all of them."""
        mult = self.fields.count("hc_mult", 0, least=0)
        if not mult:
            return []
        wide, out = mult * self.hidden, mult * (2 + mult)
        mix = pieces.linear(f"{name}_weights", "residual", Shard.REPLICATED, wide, out, bias=True, stream=self.stream)
        return [
            replace(mix, parameters=mix.parameters + 3),
            Elementwise(
                name=name, role="residual", shard=Shard.SEQUENCE, stream=self.stream, width=wide, reads=1, writes=1,
                vector=2 * mult,
            ),
        ]  # fmt: skip

    def per_layer_input(self) -> list[Op]:
        """Gemma 3n/4: a small embedding per layer joins through a gate and a projection."""
        width = self.fields.count("hidden_size_per_layer_input", 0, least=0)
        if not width:
            return []
        h, style = self.hidden, self.style
        return [
            pieces.linear("input_gate", "mlp", Shard.REPLICATED, h, width, stream=self.stream),
            pieces.activation("input_activation", width, style, gated=True, shard=Shard.REPLICATED),
            pieces.linear("input_projection", "mlp", Shard.REPLICATED, width, h, stream=self.stream),
            pieces.norm("input_norm", h, style), pieces.residual("input_residual", h, style),
        ]  # fmt: skip
