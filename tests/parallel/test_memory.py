"""State bytes per rank against arXiv:1910.02054 and the plan's degrees."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainshed.core import Dtypes, Plan
from trainshed.models import load
from trainshed.parallel import training_memory

MIXED = Dtypes(weights="fp16", activations="fp16", gradients="fp16", optimizer="fp32")


def states(train: Callable[..., Any], model: Any, plan: str) -> float:
    memory = training_memory(train(model, plan, dtypes=MIXED), MIXED, micro_batches=1.0)
    return float(np.asarray(memory.weights + memory.gradients + memory.optimizer))


def test_the_zero_paper_s_figure_1(gpt: Callable[..., Any], train: Callable[..., Any]) -> None:
    # 7.5B parameters on 64 ranks, fp16 with Adam: 120, 31.4, 16.6 and 1.9 GB
    model = gpt(4096, 36, 32)
    scale = 7.5e9 / model.parameters
    for zero, published in enumerate((120e9, 31.4e9, 16.6e9, 1.9e9)):
        found = states(train, model, f"dp64 zero{zero}") * scale
        assert found == pytest.approx(published, rel=0.02), zero


def test_the_trillion_parameter_model_s_states(gpt: Callable[..., Any], train: Callable[..., Any]) -> None:
    # row t01602 of validation/training.csv: 18 bytes per parameter (fp32 gradients) over 512 ranks, an even share
    dtypes = Dtypes(weights="fp16", activations="fp16", gradients="fp32")
    model = gpt(25600, 128, 160)
    memory = training_memory(train(model, "tp8 pp64", dtypes=dtypes), dtypes, micro_batches=512.0)
    found = float(np.asarray(memory.weights + memory.gradients + memory.optimizer))
    assert found == pytest.approx(35389440000, rel=0.15)  # the first stage holds the embedding as well


def test_experts_are_sharded_over_their_own_copies(train: Callable[..., Any]) -> None:
    model = load("qwen3-30b-a3b")
    whole, split = states(train, model, "dp16 ep4"), states(train, model, "dp16 ep4 zero1")
    experts = sum(b.count * o.parameters for b in model.graph.blocks for o in b.ops if o.role == "experts")
    dense = model.parameters - experts
    assert whole == pytest.approx(16 * (dense + experts / 4), rel=1e-6)
    assert split == pytest.approx(4 * (dense + experts / 4) + 12 * (dense / 16 + experts / 16), rel=1e-6)


def test_adapters_alone_have_states(train: Callable[..., Any]) -> None:
    work = train(load("llama-3.1-8b"), "tp1", frozen=True)
    memory = training_memory(work, MIXED, micro_batches=1.0, trainable=0.01)
    assert float(memory.optimizer) == pytest.approx(0.12 * 8.03e9, rel=0.01)


@settings(max_examples=25, deadline=None)
@given(tp=st.sampled_from([1, 2, 4, 8]), pp=st.sampled_from([1, 2, 4]), dp=st.sampled_from([1, 4]),
       zero=st.integers(0, 3), recompute=st.integers(0, 2), mb=st.sampled_from([1, 2]))  # fmt: skip
def test_classes_add_up_and_more_ranks_never_hold_more(
    train: Callable[..., Any], tp: int, pp: int, dp: int, zero: int, recompute: int, mb: int
) -> None:
    model = load("llama-3.1-8b")
    plan = Plan(tp=tp, pp=pp, dp=dp, zero=zero, recompute=recompute, mb=mb, sp=int(tp > 1))
    memory = training_memory(train(model, plan), Dtypes(), micro_batches=8.0)
    assert float(memory.total) == pytest.approx(sum(float(v) for v in memory.by_class().values()))
    wider = training_memory(train(model, plan.replace(tp=2 * tp, sp=1)), Dtypes(), micro_batches=8.0)
    assert float(wider.weights) <= float(memory.weights)
    assert float(wider.activations) <= float(memory.activations) * (1 + 1e-9)
