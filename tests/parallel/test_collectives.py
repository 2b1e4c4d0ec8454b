"""Bytes of the collectives of a block against Megatron-LM's published counts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from trainshed.models import load

S, H = 2048, 6144


def moving(work: Any, direction: str) -> Counter[tuple[str, str, float]]:
    """(axis, kind, bytes) of a layer's collectives among more than one rank."""
    (block,) = work.kind("layer")
    return Counter(
        (c.axis, c.kind, float(c.size)) for c in block.collectives
        if c.direction == direction and float(np.max(c.ranks)) > 1
    )  # fmt: skip


def test_plain_tensor_parallelism_reduces_twice_each_way(gpt: Callable[..., Any], train: Callable[..., Any]) -> None:
    # arXiv:1909.08053, figure 4: two all-reduces of s b h in the forward and two in the backward pass
    work = train(gpt(H, 2, 64), "tp8 mb2")
    expected = {("tp", "all_reduce", 2.0 * 2 * S * H): 2}
    assert moving(work, "forward") == expected
    assert moving(work, "backward") == expected


def test_sequence_parallelism_gathers_and_scatters(gpt: Callable[..., Any], train: Callable[..., Any]) -> None:
    # arXiv:2205.05198, section 4.2.2: the same bytes as plain, plus one more gather in the backward pass
    work = train(gpt(H, 2, 64), "tp8 sp1")
    size = 2.0 * S * H
    assert moving(work, "forward") == {("tp", "all_gather", size): 2, ("tp", "reduce_scatter", size): 2}
    assert moving(work, "backward") == {("tp", "all_gather", size): 4, ("tp", "reduce_scatter", size): 2}


def test_one_rank_needs_nothing(gpt: Callable[..., Any], train: Callable[..., Any]) -> None:
    work = train(gpt(H, 2, 64), "pp2 dp4 zero1")
    assert moving(work, "forward") == {}


def test_experts_send_each_copy_and_get_it_back(train: Callable[..., Any]) -> None:
    model = load("qwen3-30b-a3b")
    work = train(model, "dp8 ep8")
    routed = float(S * 8 * 2048 * 2)  # top-8 copies of 2,048 wide bf16 tokens
    expected = {("ep", "moe_dispatch", routed): 1, ("ep", "moe_combine", routed): 1}
    assert moving(work, "forward") == expected
    assert moving(work, "backward") == expected


def test_context_parallelism_passes_keys_and_values_round(train: Callable[..., Any]) -> None:
    work = train(load("llama-3.1-70b"), "cp4 tp2 sp1", sequence=8192)
    size = 8192 * 4 * 2 * 128 * 2.0  # four KV heads per rank, K and V
    assert moving(work, "forward")["cp", "all_gather", size] == 1
    assert moving(work, "backward")["cp", "reduce_scatter", size] == 1


@pytest.mark.parametrize("plan", ["tp1", "tp8 sp1"])
def test_serving_has_no_backward(plan: str, decode: Callable[..., Any]) -> None:
    work = decode(load("llama-3.1-70b"), plan, batch=8)
    assert all(c.direction == "forward" for b in work.blocks for c in b.collectives)


def test_attention_data_parallelism_gathers_before_the_mlp(decode: Callable[..., Any]) -> None:
    work = decode(load("llama-3.1-70b"), "tp8 dpa8", batch=64)
    moved = moving(work, "forward")
    assert moved["dpa", "all_gather", 64 * 8192 * 2.0] == 1
    assert moved["tp", "all_reduce", 64 * 8192 * 2.0] == 1
