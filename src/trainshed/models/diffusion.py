"""Diffusion transformers: one denoising step over picture (or video), text and sound tokens.

Two shapes of block are in use. ``joint`` (MM-DiT, arXiv:2403.03206): picture and text have weights of their own and
attend together (``joint`` stream: both), followed by blocks that treat all tokens alike, attention and MLP side by
side. ``cross`` (DiT, arXiv:2212.09748): picture tokens attend to themselves, then to the text. Each block is modulated
by the time step: by a projection of its own, by one projection for all blocks, or by that plus a table per block.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from trainshed.core import Attention, Block, Elementwise, Graph, Op, Shard
from trainshed.models import attention as attn
from trainshed.models import pieces
from trainshed.models.families import Family
from trainshed.models.fields import Fields
from trainshed.models.pieces import block

#: Width of the sinusoidal code of a time step, a guidance scale or a size (diffusers ``Timesteps``).
TIME_CODE = 256


def diffusion(fields: Fields, family: Family) -> Graph:
    """The denoiser's graph."""
    reader = Denoiser(fields, family)
    joint = reader.facts["blocks"] == "joint"
    layers = reader.joint_blocks() if joint else [reader.cross_block()]
    order = [b.name for b in layers for _ in range(b.count)]
    blocks = [*reader.embeddings(), *layers, block("output", "head", reader.output())]
    return Graph(blocks=tuple(blocks), order=tuple(order))


@dataclass(frozen=True)
class Denoiser:
    """A diffusion transformer's config under reading."""

    fields: Fields
    family: Family

    @property
    def facts(self) -> Mapping[str, Any]:
        """What the family says beyond the fields."""
        return self.family.diffusion

    @cached_property
    def heads(self) -> int:
        """Attention heads."""
        return self.fields.count("heads")

    @cached_property
    def head_dim(self) -> int:
        """Width of a head."""
        return self.fields.count("head_dim")

    @cached_property
    def hidden(self) -> int:
        """Width of the residual stream."""
        return self.fields.count("hidden", self.heads * self.head_dim)

    @cached_property
    def bias(self) -> bool:
        """Whether linear layers have biases."""
        return bool(self.facts.get("bias", True))

    @cached_property
    def inner(self) -> int:
        """Width of the MLP."""
        f = self.fields
        return f.count("inner") if f.has("inner") else int(f.number("mlp_ratio", 4.0) * self.hidden)

    def style(self, stream: str, norm: str = "plain") -> pieces.Style:
        """Norms without parameters (the modulation scales and shifts), MLPs with the family's biases."""
        return pieces.Style(norm=norm, gated=self.family.gated, mlp_bias=self.bias, stream=stream)

    def linear(self, name: str, role: str, shard: Shard, k: int, n: int, stream: str, *, once: bool = False) -> Op:
        """A linear layer with the family's bias; ``once`` per step instead of per token."""
        return pieces.linear(name, role, shard, k, n, bias=self.bias, stream=stream, per_sequence=once)

    def code(self, name: str, width: int, out: int = 0, stream: str = "image") -> list[Op]:
        """Two layers that turn a code or a pooled vector into the conditioning vector."""
        out = out or self.hidden
        return [
            self.linear(f"{name}_in", "conditioning", Shard.REPLICATED, width, out, stream, once=True),
            self.linear(f"{name}_out", "conditioning", Shard.REPLICATED, out, out, stream, once=True),
        ]

    # ── ends ─────────────────────────────────────────────────────────────────────────────────────────────────────────

    def patch(self) -> int:
        """Latent values of one token: channels × patch."""
        f = self.fields
        patch = f.get("patch_size", 1)
        sides = patch if isinstance(patch, list) else [f.count("patch_size_t", 1), patch, patch]
        if self.facts.get("packed"):
            return f.count("in_channels")
        cells = 1
        for side in sides:
            cells *= int(side)
        return f.count("in_channels") * cells

    def embeddings(self) -> list[Block]:
        """Tokens of every stream to the hidden width, the conditioning vectors, what all blocks share."""
        f, h = self.fields, self.hidden
        first = [self.linear("patches", "embedding", Shard.REPLICATED, self.patch(), h, "image")]
        kind, width = self.facts["text"], f.count("text_dim")
        if kind == "linear":
            if self.facts.get("text_norm"):
                first.append(pieces.norm("text_norm", width, self.style("text", "rms")))
            first.append(self.linear("text_in", "embedding", Shard.REPLICATED, width, h, "text"))
        elif kind == "mlp":
            first += self.two("text", width, h, "text")
        elif kind == "refiner":
            first.append(self.linear("text_in", "embedding", Shard.REPLICATED, width, h, "text"))
        vectors = [op for name in self.facts["codes"] for op in self._code(name)]
        blocks = [block("embedding", "embedding", first), block("conditioning", "extra", vectors + self.shared())]
        if refiners := f.count("num_refiner_layers", 0, least=0):
            pooled = [
                op for name, n in (("refiner_time", TIME_CODE), ("refiner_text", width)) for op in self.code(name, n)
            ]
            blocks += [
                block("refiner_conditioning", "extra", pooled),
                block("refiner", "extra", self.refiner(), refiners),
            ]
        if "audio" in self.facts:
            blocks.append(block("audio_embedding", "embedding", self.audio_in()))
        return blocks

    def two(self, name: str, width: int, out: int, stream: str) -> list[Op]:
        """A two-layer text projection, per token."""
        return [
            self.linear(f"{name}_in", "embedding", Shard.REPLICATED, width, out, stream),
            self.linear(f"{name}_out", "embedding", Shard.REPLICATED, out, out, stream),
        ]

    def _code(self, name: str) -> list[Op]:
        if name == "pooled":
            return self.code(name, self.fields.count("pooled_projection_dim", 768))
        if name == "guidance" and self.fields.get("guidance_embeds") is False:
            return []
        return self.code(name, TIME_CODE, self.hidden // 3 if name in ("resolution", "aspect") else 0)

    def shared(self) -> list[Op]:
        """Modulations that all blocks share: of each stream (FLUX.2), or one beside a table per block."""
        h, kind = self.hidden, self.facts["modulation"]
        if kind == "shared":
            sizes = {"image": 6, "text": 6, "single": 3}
        elif kind == "table":
            sizes = {"image": 6}
        else:
            return []
        return [
            self.linear(f"{name}_modulation", "conditioning", Shard.COLUMN, h, n * h, "image", once=True)
            for name, n in sizes.items()
        ]

    def output(self) -> list[Op]:
        """Last modulation, norm and projection to latent values."""
        h, out = self.hidden, self.patch()
        if self.fields.has("out_channels"):
            out = self.fields.count("out_channels") * self.fields.count("patch_size", 1) ** 2
        table = 2 * h if self.facts["modulation"] == "table" else 0
        ops: list[Op] = []
        if not table:
            ops.append(self.linear("output_modulation", "conditioning", Shard.COLUMN, h, 2 * h, "image", once=True))
        ops.append(self.modulated("output_norm", h, "image", held=table))
        ops.append(self.linear("output", "head", Shard.REPLICATED, h, out, "image"))
        return ops + (self.audio_out() if "audio" in self.facts else [])

    # ── parts of blocks ──────────────────────────────────────────────────────────────────────────────────────────────

    def modulated(self, name: str, width: int, stream: str, held: int = 0, norm: str = "plain") -> Op:
        """A norm with the time step's scale and shift; ``held``: parameters of a table beside it."""
        op = pieces.norm(name, width, self.style(stream, norm))
        return replace(op, vector=op.vector + 2, parameters=op.parameters + held)

    def gated_residual(self, name: str, width: int, stream: str) -> Op:
        """x + gate · f(x)."""
        return Elementwise(
            name=name, role="residual", shard=Shard.SEQUENCE, stream=stream, width=width, reads=2, writes=1, vector=2
        )

    def own_modulation(self, name: str, vectors: int, stream: str) -> list[Op]:
        """The block's own projection of the time step, where blocks have one."""
        if self.facts["modulation"] != "own":
            return []
        h = self.hidden
        return [self.linear(name, "conditioning", Shard.COLUMN, h, vectors * h, stream, once=True)]

    def shape(self, heads: int = 0, dim: int = 0) -> attn.Heads:
        """Full bidirectional attention."""
        heads, dim = heads or self.heads, dim or self.head_dim
        return attn.Heads(
            heads=heads, kv_heads=heads, qk_dim=dim, v_dim=dim, causal=False, qkv_bias=self.bias, out_bias=self.bias,
            qk_norm=self.facts.get("qk_norm", ""),
        )  # fmt: skip

    def refiner(self) -> list[Op]:
        """A transformer layer over the text alone (HunyuanVideo)."""
        h, style = self.hidden, self.style("text", "layer")
        shape = replace(self.shape(), qk_norm="", rotary=0.0)
        return [
            pieces.norm("attention_norm", h, style), *attn.self_attention(h, shape, style),
            pieces.residual("attention_residual", h, style), pieces.norm("mlp_norm", h, style),
            *pieces.mlp(h, self.inner, style), pieces.residual("mlp_residual", h, style),
            self.linear("modulation", "conditioning", Shard.COLUMN, h, 2 * h, "text", once=True),
        ]  # fmt: skip

    # ── joint blocks ─────────────────────────────────────────────────────────────────────────────────────────────────

    def joint_blocks(self) -> list[Block]:
        """Blocks of two streams, then blocks of one."""
        double = self.fields.count("layers", least=0)
        single = self.fields.count("single_layers", 0, least=0)
        blocks = [block("double", "layer", self.double(), double)] if double else []
        return [*blocks, block("single", "layer", self.single(), single)] if single else blocks

    def double(self) -> list[Op]:
        """Picture and text with weights of their own, attention over both."""
        before = [op for stream in ("image", "text") for op in self._half(stream)]
        after = [op for stream in ("image", "text") for op in self._other_half(stream)]
        return [*before, self.joint_attention(), *after]

    def joint_attention(self) -> Attention:
        """Attention over the tokens of both streams."""
        return attn.core("attention", self.shape(), self.style("joint"))

    def _half(self, stream: str) -> list[Op]:
        h, width, style = self.hidden, self.heads * self.head_dim, self.style(stream)
        prefix = "" if stream == "image" else "text_"
        ops = self.own_modulation(f"{prefix}modulation", 6, stream)
        ops += [
            self.modulated(f"{prefix}attention_norm", h, stream),
            self.linear(f"{prefix}qkv", "attention", Shard.COLUMN, h, 3 * width, stream),
        ]
        return ops + self._turn(prefix, width, style)

    def _turn(self, prefix: str, width: int, style: pieces.Style) -> list[Op]:
        ops: list[Op] = []
        if self.facts.get("qk_norm"):
            held = {"head": 2 * self.head_dim, "full": 2 * width}[self.facts["qk_norm"]]
            rms = replace(style, norm="rms")
            ops.append(pieces.norm(f"{prefix}qk_norm", 2 * width, rms, shard=Shard.HEADS, of=held))
        return [*ops, attn.rotary(f"{prefix}rope", 2 * width, style)]

    def _other_half(self, stream: str) -> list[Op]:
        h, width, prefix = self.hidden, self.heads * self.head_dim, "" if stream == "image" else "text_"
        return [
            self.linear(f"{prefix}attention_out", "attention", Shard.ROW, width, h, stream),
            self.gated_residual(f"{prefix}attention_residual", h, stream),
            self.modulated(f"{prefix}mlp_norm", h, stream),
            *pieces.mlp(h, self.inner, self.style(stream), prefix=f"{prefix}mlp"),
            self.gated_residual(f"{prefix}mlp_residual", h, stream),
        ]

    def single(self) -> list[Op]:
        """All tokens alike; attention and MLP side by side, one output projection for both."""
        h, width, style = self.hidden, self.heads * self.head_dim, self.style("joint")
        up = self.inner * (2 if self.family.gated else 1)
        return [
            *self.own_modulation("modulation", 3, "joint"), self.modulated("attention_norm", h, "joint"),
            self.linear("qkv", "attention", Shard.COLUMN, h, 3 * width, "joint"), *self._turn("", width, style),
            self.joint_attention(),
            self.linear("mlp_up", "mlp", Shard.COLUMN, h, up, "joint"),
            pieces.activation("mlp_activation", self.inner, style, gated=self.family.gated),
            self.linear("mlp_down", "mlp", Shard.ROW, width + self.inner, h, "joint"),
            self.gated_residual("residual", h, "joint"),
        ]  # fmt: skip

    # ── cross blocks ─────────────────────────────────────────────────────────────────────────────────────────────────

    def cross_block(self) -> Block:
        """Self-attention, attention to the text, MLP; with sound, the same again and attention between the two."""
        ops = self.cross_ops("image", "", self.hidden, self.shape(), self.inner)
        if "audio" in self.facts:
            ops += self.sound()
        return block("layer", "layer", ops, self.fields.count("layers"))

    def cross_ops(self, stream: str, prefix: str, h: int, shape: attn.Heads, inner: int) -> list[Op]:
        """One stream's part of a block."""
        plain, held = self.style(stream), self.facts.get("cross_norm", "plain")
        rms = replace(plain, norm="rms")
        to_text = attn.cross_attention(h, shape, rms, memory="text", memory_width=h, prefix=f"{prefix}cross_")
        if prefix:
            to_text = [replace(op, name=op.name.replace("kv", "text_kv")) for op in to_text]
        norm = [pieces.norm(f"{prefix}cross_norm", h, replace(plain, norm=held))] if held != "none" else []
        return [
            self.modulated(f"{prefix}attention_norm", h, stream, held=6 * h),
            *attn.self_attention(h, shape, rms, prefix=prefix), self.gated_residual(f"{prefix}residual", h, stream),
            *norm, *to_text, pieces.residual(f"{prefix}cross_residual", h, plain),
            self.modulated(f"{prefix}mlp_norm", h, stream), *pieces.mlp(h, inner, plain, prefix=f"{prefix}mlp"),
            self.gated_residual(f"{prefix}mlp_residual", h, stream),
        ]  # fmt: skip

    # ── sound beside video (LTX-2) ───────────────────────────────────────────────────────────────────────────────────

    @cached_property
    def audio_shape(self) -> attn.Heads:
        """Heads of the sound stream."""
        f = self.fields
        return self.shape(f.count("audio_num_attention_heads"), f.count("audio_attention_head_dim"))

    @cached_property
    def audio_hidden(self) -> int:
        """Width of the sound stream."""
        return self.audio_shape.heads * self.audio_shape.qk_dim

    def sound(self) -> list[Op]:
        """The sound stream's part, and attention from each stream to the other."""
        h, a, shape = self.hidden, self.audio_hidden, self.audio_shape
        ops = self.cross_ops("audio", "audio_", a, shape, self.inner * a // h)
        for stream, other, prefix, own, far in (
            ("image", "audio", "to_audio_", h, a), ("audio", "image", "to_video_", a, h),
        ):  # fmt: skip
            style = replace(self.style(stream), norm="rms")
            ops.append(self.modulated(f"{prefix}norm", own, stream, held=5 * own))
            ops += attn.cross_attention(own, shape, style, memory=other, memory_width=far, prefix=prefix)
            ops.append(self.gated_residual(f"{prefix}residual", own, stream))
        return ops

    def audio_in(self) -> list[Op]:
        """Sound latents and the text at the sound stream's width; its time codes and those of the mixed attention."""
        f, a, h = self.fields, self.audio_hidden, self.hidden
        ops = [self.linear("audio_patches", "embedding", Shard.REPLICATED, f.count("in_channels"), a, "audio")]
        ops += self.two("audio_text", f.count("text_dim"), a, "text")
        for name, width, vectors in (
            ("audio_time", a, 6), ("video_mix", h, 4), ("audio_mix", a, 4), ("video_gate", h, 1), ("audio_gate", a, 1),
        ):  # fmt: skip
            ops += self.code(name, TIME_CODE, width)
            ops.append(
                self.linear(f"{name}_vectors", "conditioning", Shard.COLUMN, width, vectors * width, "audio", once=True)
            )  # fmt: skip
        return ops

    def audio_out(self) -> list[Op]:
        """Sound latents of the step."""
        a = self.audio_hidden
        return [
            self.modulated("audio_output_norm", a, "audio", held=2 * a),
            self.linear("audio_output", "head", Shard.REPLICATED, a, self.fields.count("in_channels"), "audio"),
        ]
