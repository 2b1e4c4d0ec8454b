"""The answer of ``train``: stable keys, classes and terms that add up, plans that cannot run refused."""

from __future__ import annotations

from typing import Any

import pytest

from trainshed.core import Constant, Plan, PlanError, Result
from trainshed.hardware.catalogue import Catalogue
from trainshed.models import load
from trainshed.software.catalogue import Software
from trainshed.training import TrainingJob
from trainshed.training.answer import answer, filled_in

KEYS = {
    "step_time_s", "tokens_per_s", "tokens_per_s_per_chip", "mfu", "memory_per_chip_bytes", "memory_fits",
    "memory_breakdown_bytes", "time_breakdown_s", "power_w", "energy_per_token_j", "usd_per_million_tokens", "chips",
    "ultraservers", "plan",
}  # fmt: skip


def ask(plan: str, *, system: str = "trn3-gen2", **more: Any) -> Result:
    job = TrainingJob(sequence=8192.0, **more.pop("job", {}))
    framework = Software().framework("neuronx-distributed")
    return answer(load("llama-3.1-70b"), Catalogue().system(system), Plan.parse(plan), job, framework, **more)


def test_every_key_of_the_design_is_there() -> None:
    result = ask("tp32 sp1 pp2 dp9 zero1", job={"global_batch": 9.0 * 64}).result
    assert isinstance(result, dict)
    assert set(result) >= KEYS
    assert result["step_time_s"] == pytest.approx(sum(result["time_breakdown_s"].values()))
    assert result["memory_per_chip_bytes"] == pytest.approx(sum(result["memory_breakdown_bytes"].values()))
    assert set(result["memory_breakdown_bytes"]) == {"weights", "gradients", "optimizer", "activations", "workspace"}
    assert result["chips"] == 144
    assert result["ultraservers"] == 1.0
    assert "lnc2" in result["plan"]


def test_the_default_batch_is_said() -> None:
    said = {a.what: a for a in ask("tp32 sp1 dp18").assumptions}
    assert said["global batch"].value == 1026
    assert "placement of ranks" in said


def test_dollars_follow_the_price() -> None:
    price = Constant(name="price/x", value=2.0, unit="USD/h", status="given", source="--price")
    result = ask("tp32 sp1 dp18", price=price).result
    assert isinstance(result, dict)
    expected = 2.0 * 144 / 3600 / result["tokens_per_s"] * 1e6
    assert result["usd_per_million_tokens"] == pytest.approx(expected)


@pytest.mark.parametrize(
    ("plan", "chips", "words"),
    [
        ("tp32 sp1 dp18", 64, "takes 144 chips"),
        ("tp32 pp100 dp2", None, "more chunks"),
        ("tp32 dp18 ep2", None, "experts"),
    ],
)
def test_plans_that_cannot_run_say_why(plan: str, chips: int | None, words: str) -> None:
    with pytest.raises(PlanError, match=words):
        ask(plan, chips=chips)


def test_experts_are_split_over_tp_unless_the_plan_says_otherwise() -> None:
    system, dense, routed = Catalogue().system("p5"), load("llama-3.1-8b"), load("qwen3-30b-a3b")
    assert filled_in(Plan.parse("tp8 sp1"), system, routed).etp == 8
    assert filled_in(Plan.parse("tp8 sp1 ep8"), system, routed).etp == 1
    assert filled_in(Plan.parse("tp8 sp1"), system, dense).etp == 1
