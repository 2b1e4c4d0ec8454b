"""A step: its terms, its tree, its laws, and that tables and stacked constants equal one plan at a time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainshed.core import Cost, Plan
from trainshed.core.cost import evaluate
from trainshed.training import TERMS

PLANS = ["tp8 sp1 dp2 zero1", "tp4 sp1 pp2 vpp4 dp2 zero1 sel", "tp2 sp1 cp4 dp2 zero3", "pp4 dp4", "tp8 pp2 full",
         "dp16 zero3 full", "tp2 pp2 dp4 zero2 mb2"]  # fmt: skip


def number(value: Any) -> float:
    return float(np.asarray(value).reshape(-1)[0])


def nodes_add_up(cost: Cost) -> None:
    for node in cost.walk():
        children = [number(c.value) for _, c in node.children]
        if node.how == "sum":
            assert number(node.value) == pytest.approx(sum(children), rel=1e-9, abs=1e-18), node.what
        elif node.how == "max":
            assert number(node.value) == pytest.approx(max(children), rel=1e-9), node.what
        elif node.how == "formula":
            names = {n: number(c.value) for n, c in node.children} | {n: number(c.value) for n, c in node.constants}
            names |= {n: number(v) for n, v in node.inputs}
            assert number(evaluate(node.expression, names)) == pytest.approx(number(node.value), rel=1e-9), node.what


@pytest.mark.parametrize("plan", PLANS)
def test_the_tree_adds_up_to_its_terms(price: Callable[..., Any], plan: str) -> None:
    step = price("llama-3.1-8b", plan)
    tree = step.time.at(())
    nodes_add_up(tree)
    assert tuple(step.terms) == TERMS
    assert number(tree.value) == pytest.approx(sum(number(step.terms[t].value) for t in TERMS))
    assert all(number(step.terms[t].value) >= 0 for t in TERMS)


@pytest.mark.parametrize("plan", PLANS)
def test_no_large_leaf_is_without_constants(price: Callable[..., Any], plan: str) -> None:
    tree = price("llama-3.1-8b", plan).time.at(())
    for node in tree.walk():
        if not node.children and number(node.value) > 0.05 * number(tree.value):
            assert node.constants, node.what


def test_a_table_equals_its_plans(price: Callable[..., Any]) -> None:
    plans = [Plan.parse(p).replace(lnc=1) for p in PLANS]
    table = price("llama-3.1-8b", Plan.stack(plans))
    for i, plan in enumerate(plans):
        alone = price("llama-3.1-8b", plan)
        shape = table.time.value.shape
        assert table.time.value[i] == pytest.approx(number(alone.time.value), rel=1e-12)
        assert np.broadcast_to(table.memory.total, shape)[i] == pytest.approx(number(alone.memory.total), rel=1e-12)
        assert np.broadcast_to(table.mfu, shape)[i] == pytest.approx(number(alone.mfu), rel=1e-12)
        assert number(table.time.at(i).value) == pytest.approx(number(alone.time.value), rel=1e-12)


def test_stacked_constants_equal_one_at_a_time(price: Callable[..., Any]) -> None:
    name = "chip/h100-sxm.hbm_bandwidth"
    values = np.array([[2e12], [3e12], [4e12]])
    plan = Plan.stack([Plan.parse(p).replace(lnc=1) for p in PLANS])
    stacked = price("llama-3.1-8b", plan, overrides={name: values}).time.value
    assert stacked.shape == (3, len(PLANS))
    for row, value in zip(stacked, values[:, 0], strict=True):
        assert row == pytest.approx(price("llama-3.1-8b", plan, overrides={name: float(value)}).time.value, rel=1e-12)
    assert np.all(stacked[0] > stacked[2])


def test_the_bubble_of_equal_stages(price: Callable[..., Any]) -> None:
    # arXiv:2104.04473: (p - 1) / (v m) of the ideal time
    for vpp, m in ((1, 8), (1, 32), (4, 8)):
        step = price("llama-3.1-70b", f"tp8 sp1 pp4 vpp{vpp} dp1", global_batch=float(m))
        stage = number(step.terms["compute"].value) + number(step.terms["communication_exposed"].value)
        assert number(step.terms["pipeline_bubble"].value) / stage == pytest.approx(3 / (vpp * m), rel=0.10)


def test_full_recomputation_costs_one_more_forward_pass(price: Callable[..., Any]) -> None:
    plain, full = (number(price("llama-3.1-70b", p).terms["compute"].value) for p in ("tp8 sp1", "tp8 sp1 full"))
    assert 1.25 < full / plain < 1.40


def test_one_rank_communicates_nothing(price: Callable[..., Any]) -> None:
    step = price("gpt2", "tp1", sequence=1024.0, global_batch=8.0)
    assert number(step.terms["communication_exposed"].value) == 0
    assert number(step.terms["pipeline_bubble"].value) == 0


def test_overlap_hides_what_fits(price: Callable[..., Any]) -> None:
    def exposed(overlap: float) -> float:
        changed = {"framework/nemo-24.12.overlap_dp": overlap}
        step = price("llama-3.1-8b", "dp64", system="p5", overrides=changed)
        return number(step.terms["communication_exposed"].value)

    none, half, all_of_it = exposed(0.0), exposed(0.5), exposed(1.0)
    assert none > half > all_of_it
    assert half == pytest.approx(none / 2, rel=1e-6)


def test_sharded_data_parallelism_trades_memory_for_gathers(price: Callable[..., Any]) -> None:
    steps = [price("llama-3.1-8b", f"dp64 zero{z}", overrides={"framework/nemo-24.12.overlap_fsdp": 0.0})
             for z in range(4)]  # fmt: skip
    memory = [number(s.memory.total) for s in steps]
    assert memory == sorted(memory, reverse=True)
    exposed = [number(s.terms["communication_exposed"].value) for s in steps]
    assert exposed[3] > exposed[1]


def test_the_activity_counts_the_model_s_products(price: Callable[..., Any]) -> None:
    step = price("llama-3.1-70b", "tp8 sp1 pp2 dp2", global_batch=32.0)
    macs = sum(number(v) for v in step.activity.macs.values()) * 32
    assert 2 * macs == pytest.approx(number(step.flops), rel=0.03)


@pytest.mark.parametrize(
    ("model", "plan", "job"),
    [("qwen3-30b-a3b", "dp8 ep8 zero1", {}), ("gpt-oss-120b", "tp2 sp1 dp8 ep16 zero1", {}),
     ("mixtral-8x7b", "tp4 sp1 etp4 dp2 ep2 zero1", {"capacity_factor": 1.25}),
     ("llama-3.1-70b", "tp8 sp1 pp2", {"kind": "lora"}), ("gpt2", "dp8", {"attention": "naive", "dropout": True}),
     ("llama-3.1-405b", "tp8 sp1 pp9 vpp7 cp2 dp1 zero1", {"dtype": "fp8", "sequence": 8192.0})],
)  # fmt: skip
def test_every_family_and_job_is_priced(price: Callable[..., Any], model: str, plan: str, job: dict[str, Any]) -> None:
    step = price(model, plan, **job)
    assert 0 < number(step.mfu) < 1
    assert number(step.memory.total) > 0


def test_adapters_train_faster_than_all_weights(price: Callable[..., Any]) -> None:
    whole, adapters = price("llama-3.1-70b", "tp8 sp1"), price("llama-3.1-70b", "tp8 sp1", kind="lora")
    assert 0.6 < number(adapters.terms["compute"].value) / number(whole.terms["compute"].value) < 0.75
    assert number(adapters.memory.optimizer) < 0.02 * number(whole.memory.optimizer)


def test_low_precision_pays_for_its_copies(price: Callable[..., Any]) -> None:
    plan = "tp8 sp1"
    wide, narrow = (number(price("llama-3.1-70b", plan, dtype=d).time.value) for d in ("bf16", "fp8"))
    free = number(price("llama-3.1-70b", plan, dtype="fp8",
                        overrides={"framework/nemo-24.12.quantise_passes": 0.0}).time.value)  # fmt: skip
    assert free < narrow < wide


@settings(max_examples=20, deadline=None)
@given(tp=st.sampled_from([1, 2, 4]), pp=st.sampled_from([1, 2, 4]), dp=st.sampled_from([1, 2, 4]),
       axis=st.sampled_from(["tp", "pp", "dp"]))  # fmt: skip
def test_more_chips_never_mean_more_compute_per_chip(
    price: Callable[..., Any], tp: int, pp: int, dp: int, axis: str
) -> None:
    plan = Plan(tp=tp, pp=pp, dp=dp, sp=int(tp > 1))
    wider = plan.replace(**{axis: 2 * getattr(plan, axis)})
    wider = wider.replace(sp=int(wider.tp > 1))
    few, many = (price("llama-3.1-8b", p, global_batch=32.0) for p in (plan, wider))
    assert number(sum(many.activity.macs.values())) <= number(sum(few.activity.macs.values())) * (1 + 1e-9)
    assert number(many.memory.weights) <= number(few.memory.weights) * (1 + 1e-9)


def test_compiled_graphs_wait_between_matmuls(price: Callable[..., Any]) -> None:
    def compute(gap: float) -> float:
        changed = {"framework/neuronx-distributed-2.24.tensor_gap": gap}
        step = price("llama-3.1-8b", "tp8 sp1", system="trn1", framework="neuronx-distributed 2.24", overrides=changed)
        return number(step.terms["compute"].value)

    none, some, more = compute(0.0), compute(150e-9), compute(300e-9)
    assert more - some == pytest.approx(some - none, rel=0.2)
    assert some > 1.3 * none
