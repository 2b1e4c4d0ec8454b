"""Reads a Hugging Face ``config.json`` by what its fields mean, not by what they are called.

Every quantity has one name here and many spellings out there (``hidden_size``, ``n_embd``, ``d_model`` …). A missing
or senseless field is a UserError that names the file, the field and what would be right.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from trainshed.core.errors import UserError

#: Our name of a quantity → the spellings in use, the most telling first.
SPELLINGS: dict[str, tuple[str, ...]] = {
    "hidden": ("hidden_size", "n_embd", "d_model", "dim", "n_embed"),
    "layers": ("num_hidden_layers", "n_layer", "n_layers", "num_layers", "num_decoder_layers"),
    "encoder_layers": ("num_encoder_layers", "encoder_layers", "num_layers"),
    "decoder_layers": ("num_decoder_layers", "decoder_layers", "num_layers"),
    "heads": ("num_attention_heads", "n_head", "n_heads", "num_heads", "attention_heads"),
    "kv_heads": ("num_key_value_heads", "num_kv_heads", "n_head_kv", "kv_n_heads", "multi_query_group_num"),
    "head_dim": ("head_dim", "d_kv", "kv_channels", "attention_head_dim"),
    "inner": ("intermediate_size", "ffn_hidden_size", "n_inner", "ffn_dim", "d_ff", "hidden_dim"),
    "dense_inner": ("dense_intermediate_size", "intermediate_size_mlp"),
    "vocab": ("vocab_size", "n_vocab", "padded_vocab_size"),
    "positions": ("max_position_embeddings", "n_positions", "max_seq_len", "seq_length", "max_sequence_length"),
    "experts": ("num_local_experts", "n_routed_experts", "num_experts", "moe_num_experts"),
    "top_k": ("num_experts_per_tok", "experts_per_token", "top_k_experts", "moe_topk", "moe_k"),
    "expert_inner": ("moe_intermediate_size", "expert_intermediate_size"),
    "shared_experts": ("n_shared_experts", "num_shared_experts", "moe_num_shared_experts", "num_shared_expert"),
    "shared_inner": (
        "shared_expert_intermediate_size", "moe_shared_expert_intermediate_size", "shared_intermediate_size",
    ),
    "moe_period": ("interleave_moe_layer_step", "decoder_sparse_step", "moe_layer_interval", "moe_layer_freq"),
    "first_dense": ("first_k_dense_replace", "num_dense_layers", "moe_layer_start_index"),
    "activation": ("hidden_act", "hidden_activation", "activation_function", "activation", "mlp_hidden_act"),
    "window": ("sliding_window", "attention_window_size", "sliding_window_size"),
    "window_period": ("sliding_window_pattern", "global_attn_every_n_layers", "full_attention_interval"),
    "rotary_factor": ("partial_rotary_factor", "rotary_pct", "rotary_percentage"),
    "v_dim": ("v_head_dim",),
    "mtp_layers": ("num_nextn_predict_layers", "mtp_num_hidden_layers", "num_mtp_modules"),
    "state_heads": ("mamba_num_heads", "mamba_n_heads"),
    "state_head_dim": ("mamba_head_dim", "mamba_d_head"),
    "state_size": ("ssm_state_size", "mamba_d_state"),
    "state_groups": ("n_groups", "mamba_n_groups"),
    "conv_width": ("conv_kernel", "mamba_d_conv", "linear_conv_kernel_dim", "conv1d_width"),
    "text_dim": ("text_embed_dim", "joint_attention_dim", "text_dim", "caption_channels"),
    "single_layers": ("num_single_layers",),
    "tied": ("tie_word_embeddings",),
}  # fmt: skip


class Fields:
    """A config with one spelling: ``fields.count("hidden")``; text parts of multimodal configs are lifted up."""

    def __init__(self, config: Mapping[str, Any], *, where: str) -> None:
        self.where = where
        self.config = dict(config)

    def part(self, name: str) -> Fields:
        """A nested config (``vision_config``) as Fields of its own."""
        inner = self.config.get(name)
        if not isinstance(inner, Mapping):
            raise self.missing(name, "an object with the fields of that part")
        return Fields(inner, where=f"{self.where} ({name})")

    def lifted(self, name: str) -> Fields:
        """This config with the fields of a nested one laid over it."""
        inner = self.config[name]
        return Fields({**self.config, **{k: v for k, v in inner.items() if v is not None}}, where=self.where)

    def replaced(self, **changes: Any) -> Fields:
        """This config with some fields (by their spelling in the file) changed."""
        return Fields({**self.config, **changes}, where=self.where)

    def get(self, name: str, default: Any = None) -> Any:
        """The first spelling that is present and not null."""
        for spelling in SPELLINGS.get(name, (name,)):
            if self.config.get(spelling) is not None:
                return self.config[spelling]
        return default

    def has(self, name: str) -> bool:
        """Whether any spelling is present and not null."""
        return self.get(name) is not None

    def count(self, name: str, default: int | None = None, *, least: int = 1) -> int:
        """A whole number of at least ``least``."""
        value = self.get(name)
        expected = f"a whole number of at least {least}"
        if value is None:
            if default is None:
                raise self.missing(name, expected)
            return default
        if isinstance(value, bool) or not isinstance(value, int | float) or value != int(value) or value < least:
            raise UserError(f"field {self.spelling(name)}", where=self.where, value=value, expected=expected)
        return int(value)

    def number(self, name: str, default: float) -> float:
        """A number."""
        value = self.get(name, default)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise UserError(f"field {self.spelling(name)}", where=self.where, value=value, expected="a number")
        return float(value)

    def flag(self, name: str, default: bool) -> bool:
        """A truth value."""
        value = self.get(name, default)
        if not isinstance(value, bool):
            raise UserError(f"field {self.spelling(name)}", where=self.where, value=value, expected="true or false")
        return value

    def listing(self, name: str, length: int) -> Sequence[Any] | None:
        """A list with one entry per layer; None if absent."""
        value = self.get(name)
        if value is None:
            return None
        if not isinstance(value, list | str) or len(value) != length:
            expected = f"{length} entries, one per layer"
            raise UserError(f"field {self.spelling(name)}", where=self.where, value=value, expected=expected)
        return value

    def spelling(self, name: str) -> str:
        """How this file spells the quantity (or the usual spelling if it is absent)."""
        names = SPELLINGS.get(name, (name,))
        return next((s for s in names if self.config.get(s) is not None), names[0])

    def missing(self, name: str, expected: str) -> UserError:
        """The error for a field that is needed and not there."""
        first, *others = SPELLINGS.get(name, (name,))
        also = f" (also spelled {', '.join(others)})" if others else ""
        return UserError("missing field", where=self.where, value=first, expected=f"{expected}{also}")
