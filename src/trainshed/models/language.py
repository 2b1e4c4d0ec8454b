"""Language models: embedding, one stack (decoder or encoder) or two (encoder-decoder), head."""

from __future__ import annotations

from dataclasses import replace

from trainshed.core import Block, Graph, Op, Shard
from trainshed.models import pieces
from trainshed.models.families import Family
from trainshed.models.fields import Fields
from trainshed.models.layout import LETTERS
from trainshed.models.pieces import block
from trainshed.models.stack import Stack


def decoder(fields: Fields, family: Family) -> Graph:
    """A decoder-only language model."""
    stack = Stack(fields, family)
    blocks, order = stack.blocks()
    blocks = [
        block("embedding", "embedding", embedding(stack)),
        *blocks,
        block("head", "head", head(stack)),
    ]
    if mtp := fields.count("mtp_layers", 0, least=0):
        blocks.append(Block(name="mtp", kind="head", ops=tuple(prediction(stack)), count=mtp, train_only=True))
    return Graph(blocks=tuple(blocks), order=tuple(order))


def encoder(fields: Fields, family: Family) -> Graph:
    """A BERT-like encoder; layers that share their weights (ALBERT) hold them once."""
    stack = Stack(fields, family, causal=False)
    blocks, order = stack.blocks()
    groups = fields.count("num_hidden_groups", len(order))
    if groups < len(order):
        blocks, order = _sharing(blocks[0], groups)
    ops = pooler(stack)
    tail = [block("pooler", "head", ops)] if ops else []
    return Graph(blocks=(block("embedding", "embedding", embedding(stack)), *blocks, *tail), order=tuple(order))


def encoder_decoder(fields: Fields, family: Family) -> Graph:
    """T5: an encoder over its own stream, a decoder that attends to it; one embedding table for both."""
    layers = fields.count("encoder_layers"), fields.count("decoder_layers")
    reading = Stack(
        fields.replaced(num_hidden_layers=layers[0]), family, stream="encoder", causal=False, prefix="encoder_"
    )
    writing = Stack(fields.replaced(num_hidden_layers=layers[1]), family, memory="encoder", prefix="decoder_")
    first, order = reading.blocks()
    second, then = writing.blocks()
    looked_up = [replace(op, parameters=0) for op in embedding(writing)[:1]]
    blocks = [
        block("encoder_embedding", "embedding", embedding(reading) + relative(reading)), *first,
        block("encoder_norm", "extra", [reading.norm("encoder_final_norm")]),
        block("decoder_embedding", "embedding", looked_up + relative(writing)), *second,
        block("head", "head", head(writing)),
    ]  # fmt: skip
    return Graph(blocks=tuple(blocks), order=(*order, *then))


def music(fields: Fields, family: Family) -> Graph:
    """MusicGen: a decoder over audio tokens that attends to the text; every step fills one token of each codebook."""
    inner = fields.part("decoder")
    stack = Stack(inner, family, memory="text")
    books, vocab, h = inner.count("num_codebooks"), inner.count("vocab"), stack.hidden
    blocks, order = stack.blocks()
    first = [
        pieces.table(f"codebook{i}", "embedding", vocab + 1, h, stack.style, shard=Shard.VOCAB) for i in range(books)
    ]
    width = fields.part("text_encoder").count("hidden")
    project = pieces.linear("text_projection", "embedding", Shard.REPLICATED, width, h, bias=True, stream="text")
    last = [stack.norm("final_norm"), pieces.linear("head", "head", Shard.VOCAB, h, books * vocab)]
    ends = block("embedding", "embedding", [*first, project]), block("head", "head", last)
    return Graph(blocks=(ends[0], *blocks, ends[1]), order=tuple(order))


def _sharing(block: Block, groups: int) -> tuple[list[Block], list[str]]:
    """``groups`` layers with weights, the others compute with the same ones."""
    again = tuple(replace(op, parameters=0) for op in block.ops)
    own = replace(block, count=groups)
    shared = Block(name=f"{block.name}_again", kind="layer", ops=again, count=block.count - groups)
    return [own, shared], [own.name] * groups + [shared.name] * shared.count


def embedding(stack: Stack) -> list[Op]:
    """Token table; learned positions, token types, a norm and a projection where the family has them."""
    f, facts, style = stack.fields, stack.family, stack.style
    width = f.count("embedding_size", stack.hidden)
    ops = [pieces.table("embedding", "embedding", f.count("vocab"), width, style, shard=Shard.VOCAB)]
    if f.get("position_embedding_type", facts.positions) in ("learned", "absolute"):
        rows = f.count("positions", facts.position_rows) + facts.position_offset
        ops.append(pieces.table("positions", "position", rows, width, style))
    if facts.token_types:
        ops.append(
            pieces.table("token_types", "embedding", f.count("type_vocab_size", facts.token_types), width, style)
        )
    if facts.embedding_norm:
        ops.append(pieces.norm("embedding_norm", width, style))
    if width != stack.hidden:
        name, role, stream = "embedding_up", "embedding", style.stream
        ops.append(pieces.linear(name, role, Shard.REPLICATED, width, stack.hidden, bias=True, stream=stream))
    return ops + _per_layer_table(stack)


def _per_layer_table(stack: Stack) -> list[Op]:
    """Gemma 3n/4: a second table with a slice per layer, joined with a projection of the first."""
    f, width = stack.fields, stack.fields.count("hidden_size_per_layer_input", 0, least=0)
    if not width:
        return []
    every = width * f.count("layers")
    rows = f.count("vocab_size_per_layer_input", f.count("vocab"))
    return [
        pieces.table("layer_inputs", "embedding", rows, every, stack.style, shard=Shard.VOCAB),
        pieces.linear("layer_projection", "embedding", Shard.REPLICATED, stack.hidden, every),
        pieces.norm("layer_projection_norm", every, stack.style, of=width),
    ]


def relative(stack: Stack) -> list[Op]:
    """T5's table of relative positions, one per stack."""
    f = stack.fields
    buckets = f.count("relative_attention_num_buckets", 32)
    return [pieces.table("relative_positions", "position", buckets, stack.heads, stack.style)]


def head(stack: Stack) -> list[Op]:
    """Final norm and the projection to the vocabulary."""
    f, facts = stack.fields, stack.family
    tied = f.flag("tied", facts.tied)
    ops = [stack.norm("final_norm")] if facts.final_norm else []
    mult = f.count("hc_mult", 0, least=0)
    if mult and facts.stream_head:
        mix = pieces.linear("head_streams", "residual", Shard.REPLICATED, mult * stack.hidden, mult, bias=True)
        ops.insert(0, replace(mix, parameters=mix.parameters + 1))
    vocab = f.count("vocab")
    return [*ops, pieces.linear("head", "head", Shard.VOCAB, stack.hidden, vocab, bias=facts.head_bias, tied=tied)]


def prediction(stack: Stack) -> list[Op]:
    """A multi-token-prediction module (DeepSeek-V3, arXiv:2412.19437): norms, a projection, a layer, the head."""
    h, style = stack.hidden, stack.style
    pattern = stack.fields.get("mtp_hybrid_override_pattern")
    kinds = [LETTERS[letter] for letter in pattern] if pattern else stack.layers[-1:]
    layer = [replace(op, name=f"{op.name}_{i}") for i, k in enumerate(kinds) for op in stack.layer(k)]
    shared_head = pieces.linear("mtp_head", "head", Shard.VOCAB, h, stack.fields.count("vocab"), tied=True)
    return [
        pieces.norm("mtp_norm_hidden", h, style), pieces.norm("mtp_norm_embedding", h, style),
        pieces.linear("mtp_join", "mlp", Shard.REPLICATED, 2 * h, h), *layer,
        pieces.norm("mtp_norm_head", h, style), shared_head,
    ]  # fmt: skip


def pooler(stack: Stack) -> list[Op]:
    """BERT's pooler: a projection of the first token; or a classifier where one is stated."""
    h, facts = stack.hidden, stack.family
    ops: list[Op] = []
    if facts.pooler:
        ops.append(pieces.linear("pooler", "head", Shard.REPLICATED, h, h, bias=True, per_sequence=True))
    if facts.labels:
        ops.append(pieces.linear("classifier", "head", Shard.REPLICATED, h, facts.labels, bias=True, per_sequence=True))
    return ops
