"""Encoders of pictures and speech: ViT, CLIP's two towers, wav2vec 2.0."""

from __future__ import annotations

from dataclasses import replace

from trainshed.core import Attention, Graph, Op, Shard
from trainshed.models import pieces
from trainshed.models.families import Family
from trainshed.models.fields import Fields
from trainshed.models.language import embedding, pooler
from trainshed.models.pieces import block
from trainshed.models.stack import Stack


def patches(stack: Stack) -> tuple[list[Op], int]:
    """Patch projection, class token and learned positions; and the tokens of a picture of the config's size."""
    f, style = stack.fields, stack.style
    side, patch = f.count("image_size"), f.count("patch_size")
    tokens = (side // patch) ** 2 + 1
    width = f.count("num_channels", 3) * patch * patch
    name, role = "patches", "embedding"
    bias = stack.family.patch_bias
    table = pieces.table("positions", "position", tokens, stack.hidden, style)
    return [
        pieces.linear(name, role, Shard.REPLICATED, width, stack.hidden, bias=bias, stream=stack.stream),
        replace(table, parameters=table.parameters + stack.hidden),
    ], tokens


def vision(fields: Fields, family: Family) -> Graph:
    """A ViT with a classifier."""
    stack = Stack(fields, family, causal=False)
    blocks, order = stack.blocks()
    first, _ = patches(stack)
    last = [stack.norm("final_norm"), *pooler(stack)]
    return Graph(
        blocks=(block("patches", "embedding", first), *blocks, block("head", "head", last)),
        order=tuple(order),
    )


def two_towers(fields: Fields, family: Family) -> Graph:
    """CLIP: a causal text tower and a picture tower, each projected to one vector."""
    text = Stack(fields.part("text_config"), family, stream="text", causal=True, prefix="text_")
    image = Stack(fields.part("vision_config"), family, stream="image", causal=False, prefix="image_")
    width = fields.count("projection_dim")
    read, spoken = text.blocks()
    seen, shown = image.blocks()
    pictures, _ = patches(image)

    def project(tower: Stack, name: str) -> Op:
        return pieces.linear(
            name, "head", Shard.REPLICATED, tower.hidden, width, stream=tower.stream, per_sequence=True
        )  # fmt: skip

    without_cache = [replace(b, ops=tuple(_uncached(op) for op in b.ops)) for b in read]
    blocks = (
        block("text_embedding", "embedding", embedding(text)), *without_cache,
        block("text_head", "head", [text.norm("text_final_norm"), project(text, "text_projection")]),
        block("image_embedding", "embedding", [*pictures, image.norm("image_norm")]), *seen,
        block("image_head", "head", [image.norm("image_final_norm"), project(image, "image_projection")]),
    )  # fmt: skip
    return Graph(blocks=blocks, order=(*spoken, *shown))


def _uncached(op: Op) -> Op:
    return replace(op, cached=False) if isinstance(op, Attention) else op


def speech(fields: Fields, family: Family) -> Graph:
    """wav2vec 2.0: convolutions over samples, then an encoder.

    A convolution is a product of kernel × channels rows. The early ones run on more frames than there are tokens: per
    token each computes ``frames`` times, which stands here in the width of its product.
    """
    stack = Stack(fields, family, causal=False)
    widths, kernels, strides = (list(fields.get(n) or ()) for n in ("conv_dim", "conv_kernel", "conv_stride"))
    if not widths or not len(widths) == len(kernels) == len(strides):
        raise fields.missing("conv_dim", "lists conv_dim, conv_kernel and conv_stride of one length")
    ops: list[Op] = []
    frames, channels = 1, 1
    for stride in strides:
        frames *= stride
    for i, (width, kernel, stride) in enumerate(zip(widths, kernels, strides, strict=True)):
        frames //= stride
        product = pieces.linear(f"conv{i}", "embedding", Shard.REPLICATED, kernel * channels, width * frames)
        ops.append(replace(product, parameters=kernel * channels * width))
        channels = width
    group, width = fields.count("num_conv_pos_embeddings", 128), stack.hidden // fields.count("conv_pos_groups", 16)
    positions = pieces.linear("position_conv", "position", Shard.REPLICATED, group * width, stack.hidden, bias=True)
    ops += [
        pieces.norm("conv_norm", channels, stack.style, of=2 * channels),
        pieces.linear("projection", "embedding", Shard.REPLICATED, channels, stack.hidden, bias=True),
        replace(positions, parameters=positions.parameters + group + stack.hidden),
    ]
    blocks, order = stack.blocks()
    head: list[Op] = [stack.norm("final_norm")]
    if family.labels:  # one decision per frame
        head.append(pieces.linear("classifier", "head", Shard.REPLICATED, stack.hidden, family.labels, bias=True))
    return Graph(
        blocks=(block("features", "embedding", ops), *blocks, block("head", "head", head)),
        order=tuple(order),
    )
