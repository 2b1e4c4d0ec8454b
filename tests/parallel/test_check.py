"""Each reason why a plan does not run, in words, and as a mask over tables."""

from __future__ import annotations

import dataclasses

import pytest

from trainshed.core import Plan
from trainshed.hardware.catalogue import Catalogue
from trainshed.models import load
from trainshed.parallel import Memory, check, divides

P5, TRN3 = "p5", "trn3-gen2"


@pytest.mark.parametrize(
    ("model", "plan", "chips", "more", "words"),
    [
        ("llama-3.1-8b", "tp8", 16, {}, "takes 8 chips"),
        ("llama-3.1-8b", "pp8 vpp8", 8, {}, "more chunks than there are layers"),
        ("llama-3.1-8b", "vpp2 dp8", 8, {}, "pp is 1"),
        ("llama-3.1-8b", "tp6", 6, {}, "does not divide 32 attention heads"),
        ("llama-3.1-8b", "ep2 dp8", 8, {}, "no routed experts"),
        ("qwen3-30b-a3b", "ep24 dp24", 24, {}, "does not divide 128 experts"),
        ("qwen3-30b-a3b", "ep16 dp8", 8, {}, "does not divide tp1 × cp1 × dp8"),
        ("llama-3.1-8b", "dp8 mb3", 8, {"global_batch": 64}, "not a multiple of dp8 × mb3"),
        ("llama-3.1-8b", "cp8", 8, {"sequence": 1000}, "does not split over cp8"),
        ("llama-3.1-8b", "tp8 dpa3", 8, {}, "dpa3 does not divide tp8"),
    ],
)
def test_each_reason_is_told(model: str, plan: str, chips: int, more: dict[str, float], words: str) -> None:
    reasons = check(load(model), Plan.parse(plan), Catalogue().system(P5), chips, **more)  # type: ignore[arg-type]
    assert any(words in r for r in reasons), reasons


def test_a_plan_that_runs_has_no_reason() -> None:
    plan = Plan.parse("tp8 sp1 pp4 vpp5 dp2 cp2 zero1 mb1")
    reasons = check(load("llama-3.1-70b"), plan, Catalogue().system(P5), 128, global_batch=256, sequence=8192)
    assert reasons == []


def test_neuron_pads_heads_and_counts_cores() -> None:
    system = Catalogue().system(TRN3)
    assert check(load("llama-3.1-8b"), Plan.parse("tp24 lnc2"), system, 6) == [
        "tp24 does not divide the MLP's 28672 columns"
    ]
    assert check(load("llama-3.1-8b"), Plan.parse("tp16 lnc2"), system, 4) == []


def test_too_many_bytes_name_the_largest_class() -> None:
    fields = dict.fromkeys(("weights", "gradients", "optimizer", "workspace"), 1e9)
    memory = Memory(**fields, activations=300e9)
    (reason,) = check(load("llama-3.1-8b"), Plan(), Catalogue().system(P5), 1, memory=memory)
    assert "activations" in reason
    assert "304 GB" in reason


def test_masks_agree_with_sentences() -> None:
    model, system = load("qwen3-30b-a3b"), Catalogue().system(P5)
    texts = ["tp4 dp2 ep8", "tp3 dp2", "pp96", "dp8 ep8 mb3", "tp8 sp1 etp8", "vpp2 dp4"]
    plans = [dataclasses.replace(Plan.parse(t), lnc=1) for t in texts]
    mask = divides(model, Plan.stack(plans), system.chip, global_batch=64.0, sequence=4096)
    for plan, good in zip(plans, mask, strict=True):
        reasons = check(model, plan, system, plan.ranks, global_batch=64, sequence=4096)
        assert (reasons == []) == bool(good), (plan, reasons)
