"""One quantity, many spellings; and one sentence for what is missing or makes no sense."""

from __future__ import annotations

from typing import Any

import pytest

from trainshed.core import UserError
from trainshed.models.fields import SPELLINGS, Fields


@pytest.mark.parametrize(("name", "spelling"), [(n, s) for n, all_ in SPELLINGS.items() for s in all_])
def test_every_spelling_is_read(name: str, spelling: str) -> None:
    assert Fields({spelling: 12}, where="x").get(name) == 12


def test_null_is_absent() -> None:
    fields = Fields({"num_local_experts": None, "n_routed_experts": 8}, where="x")
    assert fields.count("experts") == 8
    assert fields.count("window", 0) == 0


@pytest.mark.parametrize("value", [0, -1, 1.5, "many", True, [4]])
def test_a_count_is_a_whole_number(value: Any) -> None:
    with pytest.raises(UserError, match=r"config.json: field n_layer: .*; expected a whole number of at least 1"):
        Fields({"n_layer": value}, where="config.json").count("layers")


def test_a_missing_field_names_its_spellings() -> None:
    with pytest.raises(UserError) as caught:
        Fields({}, where="dir/config.json").count("hidden")
    assert str(caught.value) == (
        "dir/config.json: missing field: 'hidden_size'; expected a whole number of at least 1 "
        "(also spelled n_embd, d_model, dim, n_embed)."
    )


def test_flags_and_numbers_are_typed() -> None:
    fields = Fields({"attention_bias": "yes", "rotary_pct": "half"}, where="x")
    with pytest.raises(UserError, match="true or false"):
        fields.flag("attention_bias", False)
    with pytest.raises(UserError, match="a number"):
        fields.number("rotary_factor", 1.0)


def test_a_list_per_layer_has_one_entry_per_layer() -> None:
    fields = Fields({"layer_types": ["full_attention"] * 3}, where="x")
    assert fields.listing("layer_types", 3) == ["full_attention"] * 3
    with pytest.raises(UserError, match="4 entries, one per layer"):
        fields.listing("layer_types", 4)


def test_a_text_part_is_laid_over() -> None:
    fields = Fields({"a": 1, "tie_word_embeddings": True, "text_config": {"a": 2, "b": None}}, where="x")
    lifted = fields.lifted("text_config")
    assert lifted.get("a") == 2
    assert lifted.flag("tied", False)
    assert not lifted.has("b")
    with pytest.raises(UserError, match="vision_config"):
        fields.part("vision_config")
