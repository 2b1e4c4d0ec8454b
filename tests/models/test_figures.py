"""FLOPs, KV bytes and weight bytes against formulas written out by hand, and against counting one by one."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainshed.core import Attention, Dtypes, Shard
from trainshed.models import load
from trainshed.models.figures import mean_keys

K = 1024

# ── decode FLOPs of one token at a context of 4096, by hand: 2 × weights passed + 4 × heads × head_dim × keys ────────


def dense(
    h: int, inner: int, heads: int, kv: int, d: int, layers: int, vocab: int, keys: float, matrices: int = 3
) -> float:
    attention = h * heads * d * 2 + h * kv * d * 2
    return 2.0 * (layers * (attention + matrices * h * inner) + h * vocab) + 4.0 * layers * heads * d * keys


HAND_DECODE = {
    "llama-2-7b": dense(4096, 11008, 32, 32, 128, 32, 32000, 4096),
    "llama-3.1-8b": dense(4096, 14336, 32, 8, 128, 32, 128256, 4096),
    "llama-3.1-405b": dense(16384, 53248, 128, 8, 128, 126, 128256, 4096),
    "qwen2.5-72b": dense(8192, 29568, 64, 8, 128, 80, 152064, 4096),
    "qwen3-32b": dense(5120, 25600, 64, 8, 128, 64, 151936, 4096),
    "gpt3-175b": dense(12288, 49152, 96, 96, 128, 96, 51200, 4096, matrices=2),
    # two of eight experts and the router
    "mixtral-8x7b": 2 * (32 * (4096 * (4096 * 2 + 1024 * 2) + 2 * 3 * 4096 * 14336 + 4096 * 8) + 4096 * 32000)
    + 4 * 32 * 4096 * 4096,
    # half of the layers see 128 keys; four of 128 experts
    "gpt-oss-120b": 2 * (36 * (2880 * (64 * 64 * 2 + 8 * 64 * 2) + 4 * 3 * 2880 * 2880 + 2880 * 128) + 2880 * 201088)
    + 4 * 64 * 64 * (18 * 128 + 18 * 4096),
    # latent attention: low-rank products, heads of 192 + 128; three dense layers, then 8 + 1 experts of 2048
    "deepseek-v3": 2
    * (
        61 * (7168 * 1536 + 1536 * 128 * 192 + 7168 * 576 + 512 * 128 * 256 + 128 * 128 * 7168)
        + 3 * 3 * 7168 * 18432 + 58 * (9 * 3 * 7168 * 2048 + 7168 * 256) + 7168 * 129280
    )
    + 2 * 61 * 128 * (192 + 128) * 4096,
    # every other layer has a window of 4096, which a context of 4096 just fills
    "gemma-2-9b": dense(3584, 14336, 16, 8, 256, 42, 256000, 4096),
}  # fmt: skip


@pytest.mark.parametrize("name", sorted(HAND_DECODE))
def test_flops_of_a_token_by_hand(name: str) -> None:
    assert load(name).forward_flops(1.0, 4096.0) == pytest.approx(HAND_DECODE[name], rel=1e-12)


# ── KV bytes of a sequence of 8192 tokens in bf16, by hand: 2 × layers × KV heads × head_dim × 2 bytes × tokens ──────

HAND_KV = {
    "llama-2-7b": 2 * 32 * 32 * 128 * 2 * 8192, "llama-3.1-8b": 2 * 32 * 8 * 128 * 2 * 8192,
    "llama-3.1-405b": 2 * 126 * 8 * 128 * 2 * 8192, "qwen2.5-72b": 2 * 80 * 8 * 128 * 2 * 8192,
    "qwen3-32b": 2 * 64 * 8 * 128 * 2 * 8192, "gpt3-175b": 2 * 96 * 96 * 128 * 2 * 8192,
    "mixtral-8x7b": 2 * 32 * 8 * 128 * 2 * 8192, "gpt-oss-120b": 2 * 8 * 64 * 2 * (18 * 128 + 18 * 8192),
    "deepseek-v3": 61 * (512 + 64) * 2 * 8192, "gemma-2-9b": 2 * 8 * 256 * 2 * (21 * 4096 + 21 * 8192),
    "mistral-7b": 2 * 32 * 8 * 128 * 2 * 4096, "bert-large-uncased": 0,
}  # fmt: skip


@pytest.mark.parametrize("name", sorted(HAND_KV))
def test_kv_bytes_by_hand(name: str) -> None:
    model = load(name)
    assert model.kv_bytes(8192.0) == HAND_KV[name]
    assert sum(np.asarray(each) for each in model.kv_bytes(8192.0, per_layer=True)) == HAND_KV[name]
    assert model.kv_bytes(8192.0, "fp8") == HAND_KV[name] / 2


# ── training ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_training_flops_are_those_of_the_megatron_paper() -> None:
    """arXiv:2104.04473 counts 72 l h² (1 + s / 6h + V / 12lh) per token without recomputation, the whole square."""
    h, layers, vocab, seq = 12288, 96, 51200, 2048
    model = load("gpt3-175b")
    whole = 72 * layers * h * h * (1 + seq / (6 * h) + vocab / (12 * layers * h))
    unseen = 3 * 4 * layers * h * (seq - (seq + 1) / 2)  # keys that the causal mask hides, on average
    assert model.training_flops_per_token(seq) == pytest.approx(whole - unseen, rel=1e-12)


def test_training_counts_the_prediction_module_and_serving_does_not() -> None:
    model = load("deepseek-v3")
    assert model.training_flops_per_token(4096) > 3 * model.forward_flops(4096.0) / 4096
    assert not any(b.train_only for b in model.graph.blocks if b.kind == "layer")
    assert any(b.train_only for b in model.graph.blocks)


def test_a_forward_pass_is_its_tokens_one_by_one() -> None:
    for name in ("llama-3.1-8b", "gpt-oss-20b", "deepseek-v3"):
        model = load(name)
        positions = np.arange(1.0, 301.0)
        one_by_one = np.sum(model.forward_flops(1.0, positions))
        assert model.forward_flops(300.0) == pytest.approx(one_by_one, rel=1e-9)


@given(
    context=st.integers(1, 300), tokens=st.integers(1, 300), window=st.one_of(st.none(), st.integers(1, 200)),
    causal=st.booleans(),
)  # fmt: skip
def test_mean_keys_counts_what_a_mask_would(context: int, tokens: int, window: int | None, causal: bool) -> None:
    tokens = min(tokens, context)
    op = Attention(
        name="a", role="attention", shard=Shard.HEADS, heads=1, kv_heads=1, qk_dim=1, v_dim=1, window=window,
        causal=causal,
    )  # fmt: skip
    position = np.arange(context - tokens, context)[:, None]
    key = np.arange(context)[None, :]
    mask = (key <= position) & (key > position - (window or context)) if causal else np.ones((tokens, context), bool)
    seen = mask.sum(axis=1) if causal else np.minimum(mask.sum(axis=1), window or context)
    assert mean_keys(op, float(tokens), float(context)) == pytest.approx(seen.mean())


def test_figures_take_arrays() -> None:
    model = load("gpt-oss-120b")
    context = np.array([1.0, 128.0, 4096.0, 131072.0])
    assert np.allclose(model.forward_flops(1.0, context), [model.forward_flops(1.0, c) for c in context])
    assert np.allclose(np.asarray(model.kv_bytes(context)), [model.kv_bytes(c) for c in context])


# ── weights ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(("name", "gib"), [("gpt-oss-120b", 60.8), ("gpt-oss-20b", 12.8)])
def test_mxfp4_checkpoints_are_as_large_as_the_card_says(name: str, gib: float) -> None:
    """arXiv:2508.10925 Table 1: checkpoint sizes in GiB."""
    model = load(name)
    assert model.dtypes is not None
    assert model.dtypes.of("experts") == "mxfp4"
    assert model.weight_bytes(model.dtypes) / 2**30 == pytest.approx(gib, rel=0.005)


def test_fp8_weights_leave_embeddings_head_router_and_norms_in_bf16() -> None:
    model = load("deepseek-v3")
    assert model.dtypes is not None
    assert model.dtypes.weights == "fp8"
    wide = 2 * 7168 * 129280 + 58 * (7168 + 1) * 256 + 61 * (2 * 7168 + 1536 + 512) + 7168
    assert model.weight_bytes(model.dtypes) == pytest.approx(model.parameters + wide)


def test_a_decode_step_does_not_read_the_embedding_table_whole() -> None:
    model = load("llama-3.1-8b")
    table = model.weight_bytes(Dtypes()) - model.weight_bytes(Dtypes(), include_embedding=False)
    assert table == 2 * 128256 * 4096
