"""Bytes that data parallelism moves, by ZeRO stage (arXiv:1910.02054, section 7)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from trainshed.core import Dtypes, Plan
from trainshed.models import load
from trainshed.parallel import block_exchanges, held, step_exchanges

#: Volume per parameter relative to one pass over the gradients: an all-reduce is two.
PASSES = {"all_reduce": 2.0, "reduce_scatter": 1.0, "all_gather": 1.0}


def volume(collectives: list[Any]) -> float:
    return sum(PASSES[c.kind] * float(c.size) for c in collectives if float(np.max(c.ranks)) > 1)


@pytest.mark.parametrize(("zero", "passes"), [(0, 2.0), (1, 2.0), (2, 2.0), (3, 3.0)])
def test_the_zero_paper_s_volumes(train: Callable[..., Any], zero: int, passes: float) -> None:
    # equal dtypes: ZeRO 0 to 2 move twice the parameters, 3 half as much again
    dtypes = Dtypes(gradients="bf16")
    work = train(load("llama-3.1-8b"), f"dp8 zero{zero}", dtypes=dtypes)
    once = volume(step_exchanges(held(work), work.plan, dtypes))
    each = sum(b.block.count * volume(block_exchanges(b, work.plan, dtypes)) for b in work.blocks)
    assert once + each == pytest.approx(passes * 2.0 * 8.03e9, rel=0.01)


def test_experts_meet_over_their_own_copies(train: Callable[..., Any]) -> None:
    dtypes = Dtypes()
    work = train(load("qwen3-30b-a3b"), "dp16 ep4 zero1", dtypes=dtypes)
    found = {(c.axis, c.kind): c for c in step_exchanges(held(work), work.plan, dtypes)}
    assert {k: float(c.ranks) for k, c in found.items()} == {
        ("dp", "reduce_scatter"): 16, ("dp", "all_gather"): 16,
        ("expert_dp", "reduce_scatter"): 4, ("expert_dp", "all_gather"): 4,
    }  # fmt: skip


def test_frozen_weights_are_gathered_and_never_scattered(train: Callable[..., Any]) -> None:
    work = train(load("llama-3.1-8b"), "dp8 zero3", frozen=True)
    kinds = {c.kind for b in work.blocks for c in block_exchanges(b, work.plan, Dtypes(), frozen=True)}
    assert kinds == {"all_gather"}


def test_a_table_has_a_group_of_one_where_a_plan_exchanges_nothing(train: Callable[..., Any]) -> None:
    plan = Plan.stack([Plan.parse(p) for p in ("dp8", "dp8 zero1", "tp8")])
    work = train(load("llama-3.1-8b"), plan)
    found = {c.kind: list(np.asarray(c.ranks)) for c in step_exchanges(held(work), plan, Dtypes())}
    assert found == {"all_reduce": [8, 1, 1], "reduce_scatter": [1, 8, 1], "all_gather": [1, 8, 1]}
