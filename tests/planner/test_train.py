"""The search over training plans: it prices what divides, ranks by the objective, agrees with pricing one plan."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from trainshed.core import Constant, UserError
from trainshed.hardware.catalogue import Catalogue
from trainshed.models import load
from trainshed.parallel import check
from trainshed.planner.train import Ranked, best_train
from trainshed.software.catalogue import Software
from trainshed.training import TrainingJob, step

FRAMEWORK = Software().framework("neuronx-distributed")


def search(model: str = "llama-3.1-8b", chips: int = 16, system: str = "trn3-gen2", **more: Any) -> Ranked:
    job = TrainingJob(sequence=4096.0, **more.pop("job", {}))
    return best_train(load(model), Catalogue().system(system), chips, job, FRAMEWORK, **more)


def test_every_plan_divides_and_uses_all_chips() -> None:
    found = search()
    system = Catalogue().system("trn3-gen2")
    assert set(found.chips) == {16.0}
    for i in range(0, found.priced, max(found.priced // 25, 1)):
        plan = found.plan(i)
        batch = float(found.tokens[i]) / 4096
        assert check(load("llama-3.1-8b"), plan, system, 16, global_batch=batch, sequence=4096) == []


def test_the_best_plans_fit_and_come_in_order() -> None:
    found = search()
    best = found.best()
    assert len(best) == 10
    assert all(found.fits[i] for i in best)
    assert list(found.objective[best]) == sorted(found.objective[best])
    assert found.objective[best[0]] == found.objective[found.fits].min()


def test_a_priced_row_equals_the_step_of_its_plan() -> None:
    found = search()
    i = found.best()[3]
    one = step(load("llama-3.1-8b"), found.system, found.plan(i), found.job, FRAMEWORK)
    assert float(np.asarray(one.time.value)) == pytest.approx(found.step_time_s[i], rel=1e-12)


def test_the_front_trades_time_for_memory() -> None:
    found = search()
    front = found.front()
    assert list(found.objective[front]) == sorted(found.objective[front])
    assert list(found.memory_bytes[front]) == sorted(found.memory_bytes[front], reverse=True)


def test_experts_are_an_axis() -> None:
    found = search("qwen3-30b-a3b", chips=8, width="narrow")
    assert {int(np.max(np.asarray(t.ep))) for t in found.tables} - {1}


@pytest.mark.parametrize("model", ["llama-3.1-405b", "gpt-oss-120b"])
def test_narrow_searches_stay_small(model: str) -> None:
    assert search(model, chips=1008, width="narrow").priced <= 5000


def test_one_chip_has_plans_too() -> None:
    found = search("llama-3.1-8b", chips=1, width="narrow", system="p5")
    assert {int(np.max(np.asarray(t.zero))) for t in found.tables} == {0}


def test_cheaper_objectives_may_leave_chips_unused() -> None:
    price = Constant(name="price/x", value=2.0, unit="USD/h", status="given", source="this test")
    found = search(minimise="usd", price=price)
    assert len(set(found.chips)) > 1
    best = found.best()[0]
    per_token = found.step_time_s[best] / found.tokens[best] * found.chips[best]
    assert found.objective[best] == pytest.approx(per_token * 2.0 / 3600.0)


def test_a_model_that_fits_nowhere_lists_the_nearest() -> None:
    found = search("llama-3.1-405b", chips=2, job={"global_batch": 8.0})
    assert not found.fits.any()
    assert found.best(1) == [int(np.argmin(found.memory_bytes))]


@pytest.mark.parametrize(
    ("more", "words"),
    [({"minimise": "usd"}, "price"), ({"job": {"global_batch": 7.0}, "chips": 37}, "no plan divides")],
)
def test_what_cannot_be_searched_is_told(more: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words):
        search(**more)


def test_a_narrow_search_that_finds_nothing_widens() -> None:
    # 28 ranks and a batch of 5: only a pipeline of 7 stages divides, which a narrow search does not try
    found = search("llama-3.1-8b", chips=7, width="narrow", job={"global_batch": 5.0})
    assert {found.plan(i).pp for i in range(found.priced)} <= {7, 14, 28}
