"""Which kind each layer of a stack is: its mixer (full, window, linear, mamba …) and its MLP, read from the fields."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from trainshed.core import UserError
from trainshed.models.families import Family
from trainshed.models.fields import Fields


@dataclass(frozen=True)
class Layer:
    """One layer's kind; layers of equal kind form one block of the graph."""

    mixer: str = "full"
    """``full``, ``window``, ``linear``, ``mamba``, ``recurrent``, ``both`` (attention beside Mamba) or ``none``."""
    mlp: str = "dense"
    """``dense``, ``moe``, ``dense_moe`` (both beside each other) or ``none``."""
    own_kv: bool = True
    own_index: bool = True
    sparse: bool = False
    """Keys are chosen by an indexer."""
    ratio: int = 0
    """Tokens per compressed key (DeepSeek-V4)."""

    def name(self, kinds: Iterable[Layer]) -> str:
        """``layer`` where all are equal, else what tells this one from the others."""
        others = list(kinds)
        words = [self.mixer] if len({k.mixer for k in others}) > 1 else []
        words += [self.mlp] if len({k.mlp for k in others}) > 1 else []
        words += ["shared_kv"] if not self.own_kv else []
        words += ["shared_index"] if self.sparse and not self.own_index else []
        words += ["sparse"] if self.sparse and len({k.sparse for k in others}) > 1 else []
        words += [f"compressed{self.ratio}"] if self.ratio else []
        return "_".join(w for w in words if w != "none") or "layer"


#: Words of ``layer_types``, ``block_types`` and ``layers_block_type`` → mixer.
MIXERS = {
    "full_attention": "full", "attention": "full", "global": "full", "indexed_attention": "full", "full": "full",
    "sliding_attention": "window", "local": "window", "chunked_attention": "window", "sliding": "window",
    "linear_attention": "linear", "mamba": "mamba", "mamba2": "mamba", "recurrent": "recurrent",
}  # fmt: skip
#: Letters of ``hybrid_override_pattern`` (Nemotron-H): one mixer or one MLP per layer.
LETTERS = {
    "M": Layer("mamba", "none"), "*": Layer("full", "none"), "-": Layer("none", "dense"), "E": Layer("none", "moe"),
}  # fmt: skip
BLOCKS = {
    "mamba": "M", "linear_attention": "M", "attention": "*", "full_attention": "*", "mlp": "-", "moe": "E",
}  # fmt: skip


def layout(fields: Fields, family: Family) -> list[Layer]:
    """One Layer per layer of the model."""
    if (pattern := fields.get("hybrid_override_pattern") or fields.get("layers_block_type")) is not None:
        return _single(fields, pattern)
    n = fields.count("layers")
    layers = [Layer(mixer, mlp) for mixer, mlp in zip(_mixers(fields, family, n), _mlps(fields, n), strict=True)]
    return _shared(fields, _compressed(fields, _sparse(fields, layers)))


def _single(fields: Fields, pattern: object) -> list[Layer]:
    """Layers that hold one mixer or one MLP each; the pattern also says how many there are."""
    name = "hybrid_override_pattern" if fields.has("hybrid_override_pattern") else "layers_block_type"
    letters = [BLOCKS.get(str(w), str(w)) for w in pattern] if isinstance(pattern, list | str) else []
    unknown = [letter for letter in letters if letter not in LETTERS]
    n = fields.count("layers", len(letters))
    if unknown or not letters or len(letters) != n:
        raise UserError(
            f"field {name}", where=fields.where, value=unknown[0] if unknown else len(letters),
            expected=f"{n} of M (mamba), * (attention), - (mlp), E (moe)",
        )  # fmt: skip
    return [LETTERS[letter] for letter in letters]


def _mixers(fields: Fields, family: Family, n: int) -> list[str]:
    if family.hybrid == "parallel":
        return ["both"] * n
    window = fields.has("window") or fields.has("attention_chunk_size")
    if (words := fields.listing("layer_types", n)) is not None:
        return [_mixer(fields, "layer_types", word) for word in words]
    if (cycle := fields.get("block_types")) is not None:
        kinds = [_mixer(fields, "block_types", word) for word in cycle]
        return ["window" if (kind := kinds[i % len(kinds)]) == "full" and window else kind for i in range(n)]
    if (flags := fields.listing("hybrid_layer_pattern", n)) is not None:
        return ["window" if flag else "full" for flag in flags]
    if not window or fields.get("use_sliding_window") is False:
        return ["full"] * n
    period = fields.count("window_period", family.window_period, least=0)
    mixers = ["full" if period and (i + 1) % period == 0 else "window" for i in range(n)]
    return [*mixers[:-1], "full"] if family.last_full else mixers


def _mixer(fields: Fields, name: str, word: object) -> str:
    if word not in MIXERS:
        expected = ", ".join(sorted(MIXERS))
        raise UserError(f"field {name}", where=fields.where, value=word, expected=f"words among {expected}")
    mixer = MIXERS[str(word)]
    return "mamba" if mixer == "linear" and fields.has("state_heads") else mixer


def _mlps(fields: Fields, n: int) -> list[str]:
    if not fields.count("experts", 0, least=0) or fields.get("enable_moe_block") is False:
        return ["dense"] * n
    routed = "dense_moe" if fields.get("enable_moe_block") else "moe"
    if (words := fields.listing("mlp_layer_types", n)) is not None:
        return [routed if w in ("sparse", "moe") else "dense" for w in words]
    if isinstance(fields.get("moe_layer_freq"), list):
        return [routed if f else "dense" for f in fields.listing("moe_layer_freq", n) or ()]
    every = fields.count("moe_period", 1)
    first = fields.count("first_dense", 0, least=0)
    dense = set(fields.get("mlp_only_layers", ()))
    return ["dense" if i < first or i in dense or (i + 1) % every else routed for i in range(n)]


def _sparse(fields: Fields, layers: list[Layer]) -> list[Layer]:
    """Which attention layers choose their keys, and which of them by an indexer of their own."""
    n = len(layers)
    nested = fields.get("sparse_attention_config") or {}
    if not fields.has("index_topk") and not nested.get("use_sparse_attention"):
        return layers
    flags = nested.get("sparse_attention_freq") or [1] * n
    own = fields.listing("indexer_types", n) or ["full"] * n
    return [
        replace(layer, sparse=True, own_index=own[i] != "shared") if flags[i] and layer.mixer == "full" else layer
        for i, layer in enumerate(layers)
    ]


def _compressed(fields: Fields, layers: list[Layer]) -> list[Layer]:
    """DeepSeek-V4: a compression ratio per layer (a further entry belongs to the multi-token-prediction module)."""
    ratios = fields.get("compress_ratios")
    if ratios is None:
        return layers
    if not isinstance(ratios, list) or len(ratios) < len(layers):
        raise UserError(
            "field compress_ratios", where=fields.where, value=ratios, expected=f"{len(layers)} ratios, one per layer"
        )
    return [replace(layer, mixer="window", ratio=int(r)) for layer, r in zip(layers, ratios, strict=False)]


def _shared(fields: Fields, layers: list[Layer]) -> list[Layer]:
    """Gemma 3n/4: the last layers use keys and values of an earlier one."""
    shared = fields.count("num_kv_shared_layers", 0, least=0)
    first = len(layers) - shared
    return [replace(layer, own_kv=False) if i >= first else layer for i, layer in enumerate(layers)]
