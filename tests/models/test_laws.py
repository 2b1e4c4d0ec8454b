"""Laws that hold for every config: more layers, wider layers, more experts never make a model smaller."""

from __future__ import annotations

from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st

from trainshed.models import Model, from_config

LLAMA: dict[str, Any] = {
    "model_type": "llama", "hidden_size": 256, "intermediate_size": 512, "num_hidden_layers": 4,
    "num_attention_heads": 8, "num_key_value_heads": 2, "vocab_size": 1000,
}  # fmt: skip


def model(**changes: Any) -> Model:
    return from_config({**LLAMA, **changes}, name="test", where="test")


@given(layers=st.integers(1, 40))
def test_parameters_are_linear_in_layers(layers: int) -> None:
    each = 256 * (256 * 2 + 64 * 2) + 3 * 256 * 512 + 2 * 256
    assert model(num_hidden_layers=layers).parameters == 2 * 256 * 1000 + 256 + layers * each


@given(inner=st.integers(1, 4096), more=st.integers(1, 4096))
def test_wider_is_larger(inner: int, more: int) -> None:
    assert model(intermediate_size=inner + more).parameters > model(intermediate_size=inner).parameters


@given(number=st.integers(2, 64), chosen=st.integers(1, 2))
def test_experts_idle_but_are_held(number: int, chosen: int) -> None:
    few = model(num_experts=number, num_experts_per_tok=chosen, moe_intermediate_size=128)
    more = model(num_experts=number + 1, num_experts_per_tok=chosen, moe_intermediate_size=128)
    router = 4 * 256
    assert more.parameters == few.parameters + 4 * 3 * 256 * 128 + router
    assert more.active_parameters == few.active_parameters + router
    assert few.forward_flops(1.0, 1.0) == more.forward_flops(1.0, 1.0) - 2 * router


@example(context=1.5, more=1.0, window=1)
@given(context=st.floats(1, 1e6), more=st.floats(0, 1e6), window=st.one_of(st.none(), st.integers(1, 100000)))
def test_longer_contexts_never_take_less(context: float, more: float, window: int | None) -> None:
    windowed = model(sliding_window=window)
    assert windowed.kv_bytes(context + more) >= windowed.kv_bytes(context)
    assert windowed.forward_flops(1.0, context + more) >= windowed.forward_flops(1.0, context)


@given(kv_heads=st.sampled_from([1, 2, 4, 8]))
def test_kv_bytes_follow_kv_heads(kv_heads: int) -> None:
    assert model(num_key_value_heads=kv_heads).kv_bytes(100.0) == 4 * 2 * kv_heads * 32 * 2 * 100
