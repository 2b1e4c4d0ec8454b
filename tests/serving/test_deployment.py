"""Plans of pools, what is filled in, and what is refused."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from trainshed.core import Dtypes, Plan, PlanError, UserError
from trainshed.hardware import Catalogue
from trainshed.models import load
from trainshed.serving import deploy, parse_plan
from trainshed.serving.deployment import check, experts_split
from trainshed.serving.worker import Worker
from trainshed.software import Software

CATALOGUE, SOFTWARE = Catalogue(), Software()


def test_one_plan_or_one_per_phase() -> None:
    assert parse_plan("tp8 x2") == {"": Plan(tp=8, replicas=2)}
    found = parse_plan("prefill: tp8 x2; decode: tp16 dpa16 x1")
    assert found == {"prefill": Plan(tp=8, replicas=2), "decode": Plan(tp=16, dpa=16)}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("prefill: tp8", "a pool has no plan"), ("prefil: tp8; decode: tp8", "unknown phase of a plan"),
        ("prefill: tp8; prefill: tp4", "given twice"), ("prefill: tp8; decode: xp4", "unknown plan key"),
    ],
)  # fmt: skip
def test_a_wrong_plan_is_told_in_a_sentence(text: str, message: str) -> None:
    with pytest.raises(PlanError, match=message) if "phase" not in message else pytest.raises(UserError, match=message):
        parse_plan(text)


def test_experts_fill_the_ranks_that_expert_parallelism_leaves() -> None:
    sparse = load("gpt-oss-120b")
    assert experts_split(Plan(tp=8, ep=2), sparse).etp == 4
    table = experts_split(Plan(tp=np.array([8, 8]), ep=np.array([1, 8])), sparse)
    assert experts_split(Plan(tp=8), load("llama-3.1-8b")).etp == 1
    assert np.asarray(table.etp).tolist() == [8, 1]


def test_plans_that_do_not_divide(worker: Callable[..., Worker]) -> None:
    assert check(worker(plan="tp8 dpa3")) == ["dpa3 does not divide tp8"]
    assert check(worker(plan="tp8 ep3")) == ["ep3 does not divide the 8 ranks of a replica"]
    assert check(worker(plan="pp64")) == ["pp64 is more than the 32 layers"]
    assert check(worker(plan="tp8 pp2 dpa4 ep8")) == []


def test_without_a_plan_replicas_fill_the_chips() -> None:
    model, system = load("llama-3.1-8b"), CATALOGUE.system("p5")
    found = deploy(model, system, plan="", dtypes=Dtypes(), engine=SOFTWARE.engine("vllm"), chips=8)
    assert float(found.chips) == 8
    assert found.decode.plan.tp == 1


def test_a_mixed_rack_prefills_where_there_is_most_compute_per_byte() -> None:
    model, rack = load("gpt-oss-120b"), CATALOGUE.system("trn4-nvl")
    assert model.dtypes is not None
    found = deploy(
        model, rack, plan="", dtypes=model.dtypes, engine=SOFTWARE.engine("vllm"),
        prefill_engine=SOFTWARE.default_engine("aws"),
    )  # fmt: skip
    assert found.decode.chip.name == "trn4"
    assert found.decode.engine.family.startswith("neuronx")
    assert found.prefill.chip.name != "trn4"
    assert found.prefill.engine.family == "vllm"
    assert found.plan.startswith("prefill: ")


def test_more_chips_than_there_are_is_refused() -> None:
    model, system = load("llama-3.1-8b"), CATALOGUE.system("p5")
    with pytest.raises(PlanError, match="more chips than there are"):
        deploy(model, system, plan="tp16", dtypes=Dtypes(), engine=SOFTWARE.engine("vllm"), chips=8)
