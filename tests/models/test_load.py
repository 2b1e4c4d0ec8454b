"""Names, paths, directories; every mistake is one sentence."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from trainshed.core import UserError
from trainshed.models import from_config, load

QWEN: dict[str, Any] = {
    "model_type": "qwen2", "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2,
    "num_attention_heads": 4, "vocab_size": 100,
}  # fmt: skip


def test_names_are_forgiving() -> None:
    assert load("Llama-3.1-8B") is load("llama-3.1-8b")
    assert load("meta-llama/Llama-3.1-8B").name == "llama-3.1-8b"


def test_an_unknown_name_gets_the_nearest() -> None:
    with pytest.raises(UserError, match=r"unknown model: 'llama-3.1-8c'; expected one of .*llama-3.1-8b"):
        load("llama-3.1-8c")


def test_paths_and_directories(tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(QWEN))
    assert load(folder).name == load(folder / "config.json").name == "mine"
    assert load(folder).published is None
    assert load(folder).parameters == from_config(QWEN, name="mine", where="x").parameters


@pytest.mark.parametrize(
    ("text", "sentence"),
    [("{", "not readable as JSON"), ("[1]", "not a JSON object"), ("{}", "missing field: 'model_type'")],
)
def test_broken_files(tmp_path: Path, text: str, sentence: str) -> None:
    path = tmp_path / "config.json"
    path.write_text(text)
    with pytest.raises(UserError, match=sentence) as caught:
        load(path)
    assert str(path) in str(caught.value)


def test_a_path_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file"):
        load(tmp_path / "config.json")


@pytest.mark.parametrize("field", ["hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads",
                                   "vocab_size"])  # fmt: skip
def test_each_needed_field_is_named(field: str) -> None:
    config = {k: v for k, v in QWEN.items() if k != field}
    with pytest.raises(UserError, match=f"here: missing field: '{field}'"):
        from_config(config, name="x", where="here")


def test_heads_that_do_not_divide() -> None:
    with pytest.raises(UserError, match="hidden size does not divide by the heads"):
        from_config({**QWEN, "num_attention_heads": 5}, name="x", where="x")


def test_experts_without_a_width() -> None:
    config = {k: v for k, v in QWEN.items() if k != "intermediate_size"} | {"num_experts": 4, "num_experts_per_tok": 1}
    with pytest.raises(UserError, match="missing field: 'moe_intermediate_size'"):
        from_config(config, name="x", where="x")


def test_an_unknown_architecture_is_read_like_llama_and_says_so() -> None:
    model = from_config({**QWEN, "model_type": "qwen99"}, name="x", where="x")
    assert model.parameters == from_config({**QWEN, "model_type": "llama"}, name="x", where="x").parameters
    assert "qwen99" in model.assumptions[0].what


def test_a_language_model_inside_a_multimodal_one_is_lifted_out() -> None:
    outer = {"model_type": "some_vl", "text_config": QWEN, "vision_config": {"hidden_size": 7}}
    assert from_config(outer, name="x", where="x").parameters == from_config(QWEN, name="x", where="x").parameters


def test_mpt_switches() -> None:
    config = {
        "model_type": "mpt", "d_model": 64, "n_layers": 2, "n_heads": 4, "vocab_size": 100, "expansion_ratio": 4,
        "max_seq_len": 32,
    }  # fmt: skip
    learned = from_config(config, name="x", where="x")
    plain = from_config({**config, "no_bias": True, "attn_config": {"alibi": True}}, name="x", where="x")
    biases = 2 * (3 * 64 + 64 + 256 + 64 + 2 * 64) + 64
    assert learned.parameters - plain.parameters == 32 * 64 + biases


@pytest.mark.parametrize("model_type", ["mamba2", "jamba", "lfm2", "whisper", "cnn"])
def test_what_is_not_read_is_refused_and_not_guessed(model_type: str) -> None:
    with pytest.raises(UserError, match=f"x: architecture not read: '{model_type}'; expected .* not read"):
        from_config({**QWEN, "model_type": model_type}, name="x", where="x")


def test_unknown_encoders_and_encoder_decoders() -> None:
    config = {**QWEN, "model_type": "new_bert", "type_vocab_size": 2}
    model = from_config(config, name="x", where="x")
    assert model.kv_bytes(100.0) == 0
    assert "bert" in str(model.assumptions[0].value)
    with pytest.raises(UserError, match="other encoder-decoders are not read"):
        from_config({**QWEN, "model_type": "new_t5", "is_encoder_decoder": True}, name="x", where="x")
