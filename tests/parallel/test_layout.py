"""Shares of tokens, heads, pairs and experts against brute force."""

from __future__ import annotations

import itertools
import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainshed.core import Attention, Block, Experts, Matmul, Plan, Shard, UserError
from trainshed.parallel.layout import Layout


def layout(plan: str, *, phase: str = "train", tokens: float = 64, sequences: float = 1, context: float | None = None,
           **streams: float) -> Layout:  # fmt: skip
    return Layout(
        plan=Plan.parse(plan), phase=phase, streams={"tokens": tokens, **streams},  # type: ignore[arg-type]
        sequences=sequences, context=context,
    )  # fmt: skip


def attention(**changes: object) -> Attention:
    fields = {
        "name": "attention", "role": "attention", "shard": Shard.HEADS, "heads": 32, "kv_heads": 8, "qk_dim": 128,
        "v_dim": 128,
    }  # fmt: skip
    return Attention(**{**fields, **changes})  # type: ignore[arg-type]


def count_pairs(queries: int, keys: int, window: int | None) -> int:
    """Pairs that a causal mask with a window leaves, one by one; the queries are the last tokens."""
    before = keys - queries
    return sum(
        1 for q, k in itertools.product(range(queries), range(keys))
        if k <= before + q and (window is None or k > before + q - window)
    )  # fmt: skip


@given(queries=st.integers(1, 24), before=st.integers(0, 24), window=st.one_of(st.none(), st.integers(1, 60)))
def test_pairs_are_those_the_mask_leaves(queries: int, before: int, window: int | None) -> None:
    share = layout("tp1", phase="prefill", tokens=queries, context=queries + before)
    assert float(share.pairs(attention(window=window))) == count_pairs(queries, queries + before, window)


def test_context_parallelism_splits_the_pairs_evenly() -> None:
    assert float(layout("cp4").pairs(attention())) == pytest.approx(count_pairs(64, 64, None) / 4)


def test_without_a_mask_every_pair_counts() -> None:
    assert float(layout("tp1", text=16).pairs(attention(causal=False, also=("text",)))) == 80 * 80
    assert float(layout("tp1", text=16).pairs(attention(memory="text"))) == 64 * 16


@pytest.mark.parametrize(
    ("tp", "dpa", "heads", "kv"), [(1, 1, 32, 8), (8, 1, 4, 1), (16, 1, 2, 1), (24, 1, 2, 1), (16, 16, 32, 8),
                                   (16, 4, 8, 2)],
)  # fmt: skip
def test_heads_are_padded_and_kv_heads_replicated(tp: int, dpa: int, heads: int, kv: int) -> None:
    found = layout(f"tp{tp} dpa{dpa}").heads(attention())
    assert [float(x) for x in found] == [heads, kv]


@pytest.mark.parametrize(("tp", "columns"), [(1, 6144), (8, 768), (16, 2 * 128 + 256), (32, 128 + 256)])
def test_qkv_columns_keep_whole_kv_heads(tp: int, columns: int) -> None:
    qkv = Matmul(name="qkv", role="attention", shard=Shard.COLUMN, k=4096, n=6144)
    block = Block(name="layer", kind="layer", ops=(qkv, attention()))
    assert float(layout(f"tp{tp}").columns(qkv, block)) == columns


def experts(**changes: object) -> tuple[Experts, Block]:
    fields = {"name": "experts", "role": "experts", "shard": Shard.EXPERTS, "experts": 16, "top_k": 2, "k": 64, "n": 32}
    op = Experts(**{**fields, **changes})  # type: ignore[arg-type]
    return op, Block(name="layer", kind="layer", ops=(op,))


@pytest.mark.parametrize(
    "plan", ["tp1", "tp4 sp1 ep4", "tp4 etp4 dp2 ep2 sp1", "dp8 ep8", "tp2 dp4 ep8", "cp2 dp2 ep4"]
)
def test_the_ranks_of_an_expert_group_do_its_tokens_once(plan: str) -> None:
    share, (op, block) = layout(plan, tokens=256, sequences=2), experts()
    p = share.plan
    all_ranks = p.tp * p.cp * p.dp
    copies = float(share.expert_copies(op, block)) / p.etp * all_ranks
    assert copies == pytest.approx(256 * 2 * p.dp * op.top_k)


def test_distinct_experts_are_what_random_routing_hits() -> None:
    share, (op, block) = layout("dp4 ep4", phase="decode", tokens=1, sequences=3), experts()
    rng = random.Random(7)
    hit = [
        len({e for _ in range(12) for e in rng.sample(range(16), 2) if e < 4}) for _ in range(20000)
    ]  # 12 tokens in the group of four ranks, experts 0 to 3 on this one
    assert float(share.active_experts(op, block)) == pytest.approx(np.mean(hit), rel=0.01)


def test_a_missing_stream_is_named() -> None:
    with pytest.raises(UserError, match="audio"):
        layout("tp1").length("audio")
