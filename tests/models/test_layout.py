"""Which layer is what, from the many ways in which configs say it."""

from __future__ import annotations

from typing import Any

import pytest

from trainshed.core import UserError
from trainshed.models.families import Family, family
from trainshed.models.fields import Fields
from trainshed.models.layout import Layer, layout


def layers(n: int, model_type: str = "llama", **fields: Any) -> list[Layer]:
    facts = family(model_type)
    assert isinstance(facts, Family)
    return layout(Fields({"num_hidden_layers": n, **fields}, where="x"), facts)


def mixers(n: int, model_type: str = "llama", **fields: Any) -> str:
    return "".join(layer.mixer[0] for layer in layers(n, model_type, **fields))


def mlps(n: int, **fields: Any) -> str:
    return "".join(layer.mlp[0] for layer in layers(n, num_experts=8, **fields))


def test_plain() -> None:
    assert layers(2) == [Layer("full", "dense")] * 2


def test_windows() -> None:
    assert mixers(4, sliding_window=128) == "wwww"
    assert mixers(4, sliding_window=128, use_sliding_window=False) == "ffff"
    assert mixers(7, sliding_window=128, sliding_window_pattern=3) == "wwfwwfw"
    assert mixers(6, sliding_window=128, global_attn_every_n_layers=2) == "wfwfwf"
    assert mixers(4, sliding_window=128, layer_types=["sliding_attention", "full_attention"] * 2) == "wfwf"
    assert mixers(4, sliding_window=128, hybrid_layer_pattern=[0, 1, 1, 0]) == "fwwf"
    assert mixers(8, "llama4_text", attention_chunk_size=8192) == "wwwfwwwf"
    assert mixers(8, "gemma4_text", sliding_window=512) == "wwwwwfwf"


def test_states() -> None:
    assert mixers(4, layer_types=["linear_attention"] * 3 + ["full_attention"]) == "lllf"
    assert mixers(5, block_types=["recurrent", "recurrent", "attention"], attention_window_size=64) == "rrwrr"
    assert mixers(3, "falcon_h1") == "bbb"


def test_one_mixer_or_mlp_per_layer() -> None:
    found = layers(4, hybrid_override_pattern="M*-E", n_routed_experts=8)
    assert found == [Layer("mamba", "none"), Layer("full", "none"), Layer("none", "dense"), Layer("none", "moe")]
    facts = family("nemotron_h")
    assert facts is not None
    listed = layout(Fields({"layers_block_type": ["mamba", "attention", "mlp", "moe"]}, where="x"), facts)
    assert listed == found
    with pytest.raises(UserError, match="hybrid_override_pattern"):
        layers(4, hybrid_override_pattern="M*X-")
    with pytest.raises(UserError, match="hybrid_override_pattern"):
        layers(3, hybrid_override_pattern="M*-E")


def test_experts() -> None:
    assert mlps(4) == "mmmm"
    assert mlps(4, first_k_dense_replace=2) == "ddmm"
    assert mlps(4, interleave_moe_layer_step=2) == "dmdm"
    assert mlps(4, mlp_only_layers=[1]) == "mdmm"
    assert mlps(4, moe_layer_freq=[0, 1, 1, 0]) == "dmmd"
    assert mlps(4, mlp_layer_types=["dense", "sparse", "sparse", "sparse"]) == "dmmm"
    assert mlps(4, enable_moe_block=False) == "dddd"
    assert {layer.mlp for layer in layers(4, num_experts=8, enable_moe_block=True)} == {"dense_moe"}


def test_sparse_attention_and_shared_choices() -> None:
    found = layers(3, index_topk=2048, indexer_types=["full", "shared", "shared"])
    assert [layer.own_index for layer in found] == [True, False, False]
    nested = {"use_sparse_attention": True, "sparse_attention_freq": [0, 1, 1]}
    assert [layer.sparse for layer in layers(3, sparse_attention_config=nested)] == [False, True, True]


def test_shared_keys_and_compressed_keys() -> None:
    assert [layer.own_kv for layer in layers(4, num_kv_shared_layers=2)] == [True, True, False, False]
    ratios = layers(3, sliding_window=128, compress_ratios=[0, 4, 128, 0])
    assert [layer.ratio for layer in ratios] == [0, 4, 128]
    with pytest.raises(UserError, match="compress_ratios"):
        layers(3, compress_ratios=[0, 4])


def test_an_unknown_word_is_named() -> None:
    with pytest.raises(UserError, match="layer_types: 'quantum_attention'"):
        layers(2, layer_types=["full_attention", "quantum_attention"])


def test_names_say_what_differs() -> None:
    kinds = [Layer("full", "dense"), Layer("full", "moe"), Layer("window", "moe")]
    assert [k.name(kinds) for k in kinds] == ["full_dense", "full_moe", "window_moe"]
    assert Layer().name([Layer()]) == "layer"
