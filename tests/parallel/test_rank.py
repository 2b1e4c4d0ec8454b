"""What a rank computes and holds: shares add up to the model, and a row of a table equals its plan."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from trainshed.core import Attention, Dtypes, Plan
from trainshed.models import load
from trainshed.parallel import held
from trainshed.parallel.work import add_up


def products(work: Any, *, backward: bool = False) -> float:
    """Multiply-accumulates of the products of all blocks on one rank (attention's own left out)."""
    total = 0.0
    for block in work.blocks:
        for w in block.ops:
            if isinstance(w.op, Attention):
                continue
            costs = w.backward if backward else (w.forward,)
            total += block.block.count * sum(float(np.sum(list(c.activity.macs.values()))) for c in costs)
    return total


@pytest.mark.parametrize("plan", ["tp1", "tp8", "tp4 sp1 cp2", "tp2 dp4 mb2"])
def test_the_ranks_share_the_products_of_the_model(train: Callable[..., Any], plan: str) -> None:
    model = load("llama-3.1-8b")
    work = train(model, plan)
    p = work.plan
    tokens = 2048 * p.mb
    embedding = model.vocab * model.hidden
    assert products(work) * p.tp * p.cp == pytest.approx(tokens * (model.parameters - embedding), rel=1e-3)


def test_the_backward_pass_has_two_products_for_each(train: Callable[..., Any]) -> None:
    work = train(load("llama-3.1-8b"), "tp2 sp1")
    assert products(work, backward=True) == pytest.approx(2 * products(work), rel=1e-9)


def test_frozen_weights_have_no_weight_gradient(train: Callable[..., Any]) -> None:
    work = train(load("llama-3.1-8b"), "tp2 sp1", frozen=True)
    assert products(work, backward=True) == pytest.approx(products(work), rel=1e-9)


@pytest.mark.parametrize(
    ("name", "plan"), [("llama-3.1-8b", "tp8"), ("qwen3-30b-a3b", "dp8 ep8"), ("gpt-oss-120b", "tp4 ep4 sp1"),
                       ("mixtral-8x7b", "tp2 ep2 etp2 dp2 sp1")],
)  # fmt: skip
def test_the_ranks_hold_the_parameters_of_the_model(train: Callable[..., Any], name: str, plan: str) -> None:
    model = load(name)
    work = train(model, plan)
    own, p = held(work), work.plan
    experts = add_up(
        b.count * op.parameters for b in model.graph.blocks if not b.train_only for op in b.ops if op.role == "experts"
    )
    assert float(own.experts) * p.ep * p.etp == pytest.approx(float(experts), rel=1e-9)
    # norms and routers are whole on every rank
    assert float(own.dense) * p.tp == pytest.approx(model.parameters - float(experts), rel=0.02)


def test_training_pads_the_vocabulary(train: Callable[..., Any]) -> None:
    model = load("gpt2")  # 50,257 rows
    work = train(model, "tp4", vocabulary_multiple=128)
    embedding = next(w for b in work.kind("embedding") for w in b.ops if w.op.role == "embedding")
    assert float(embedding.parameters) == 768 * 50688 / 4


def test_quantised_products_pass_over_their_operands(train: Callable[..., Any]) -> None:
    work = train(load("llama-3.1-8b"), "tp1", dtypes=Dtypes(matmul="fp8"))
    (layer,) = work.kind("layer")
    quantised = {w.op.name for w in layer.ops if w.quantise_forward is not None}
    assert {"qkv", "attention_out", "mlp_up", "mlp_down"} <= quantised
    (head,) = work.kind("head")
    assert all(w.quantise_forward is None for w in head.ops)


def test_a_row_of_a_table_equals_its_plan(train: Callable[..., Any]) -> None:
    model = load("qwen3-30b-a3b")
    plans = [Plan.parse(p) for p in ("tp1 dp8 ep8", "tp4 sp1 dp2 ep8 zero1", "tp2 dp4 ep2 etp2 cp2 sp1 mb2")]
    together = train(model, Plan.stack(plans))
    for i, plan in enumerate(plans):
        alone = train(model, plan)
        for a, b in zip(alone.blocks, together.blocks, strict=True):
            for x, y in zip(a.ops, b.ops, strict=True):
                pairs = [(x.forward, y.forward), *zip(x.backward, y.backward, strict=True)]
                for one, many in pairs:
                    row = np.broadcast_to(many.time.value, (3,))[i]
                    assert row == pytest.approx(float(one.time.value), rel=1e-12)
                assert np.broadcast_to(y.saved, (3,))[i] == pytest.approx(float(x.saved), rel=1e-12)


def test_decoding_reads_latent_caches(decode: Callable[..., Any]) -> None:
    # DeepSeek-V3 caches 576 values per token, whatever the number of heads on the rank
    work = decode(load("deepseek-v3"), "tp8", batch=8)
    assert not any(b.block.train_only for b in work.blocks)
    core = next(w for b in work.blocks for w in b.ops if isinstance(w.op, Attention))
    queries = 8 * 16 * (core.op.qk_dim + core.op.v_dim) * 2
    assert float(core.forward.activity.memory["hbm"]) == pytest.approx(8 * 1000 * 576 * 2 + queries, rel=0.05)


def test_a_prompt_reaches_the_head_once(prefill: Callable[..., Any]) -> None:
    work = prefill(load("llama-3.1-8b"), "tp1", tokens=4096)
    (head,) = work.kind("head")
    macs = sum(float(v) for w in head.ops for v in w.forward.activity.macs.values())
    assert macs == pytest.approx(4096 * 128256)


def test_naive_attention_computes_the_whole_square_in_one_pass_where_scores_stay_on_chip(
    gpt: Callable[..., Any], train: Callable[..., Any]
) -> None:
    model = gpt(1024, 2, 16)
    on_chip = train(model, "tp1", naive_attention=True, fused=("scores",))
    through_memory = train(model, "tp1", naive_attention=True)

    def core(work: Any, what: str) -> float:
        w = next(w for w in work.kind("layer")[0].ops if isinstance(w.op, Attention))
        return float(getattr(w.forward.activity, what)[{"macs": "fp16", "memory": "hbm"}[what]])

    assert core(on_chip, "macs") == pytest.approx(2 * 2048 * 2048 * 1024)
    assert core(through_memory, "macs") == pytest.approx(core(on_chip, "macs"))
    assert core(on_chip, "memory") < 0.2 * core(through_memory, "memory")
