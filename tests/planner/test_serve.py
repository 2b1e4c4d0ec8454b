"""The search over serving plans against pricing each plan alone."""

from __future__ import annotations

import numpy as np
import pytest

from trainshed import serving
from trainshed.core import Plan, UserError
from trainshed.hardware import Catalogue
from trainshed.models import load
from trainshed.planner.serve import best_serve, candidates
from trainshed.serving import Deployment, Workload
from trainshed.software import Software

SYSTEM = Catalogue().system("p5")
ENGINE = Software().default_engine("nvidia")
WORK = Workload(mode="closed", isl=1000.0, osl=200.0, concurrency=32.0)


def alone(plan: str, users: float) -> tuple[float, float]:
    """Tokens per second and time per token of one plan, priced by itself."""
    model = load("llama-3.1-8b")
    worker = serving.worker(model, SYSTEM, Plan.parse(plan), serving.default_dtypes(model), ENGINE)
    work = Workload(mode="closed", isl=1000.0, osl=200.0, concurrency=users)
    found = serving.run(Deployment.of(worker), work)
    assert found.tpot is not None
    return float(np.asarray(found.tokens_per_s)), float(np.asarray(found.tpot.value))


def test_the_search_gives_what_each_plan_gives_alone() -> None:
    found = best_serve(load("llama-3.1-8b"), SYSTEM, chips=8, work=WORK, engine=ENGINE)
    assert found.priced == 20 * 14
    for option in (*found.ranked[:3], found.pareto[0], found.pareto[-1]):
        tokens, tpot = alone(option.plan, float(option.users))
        assert option.tokens_per_s == pytest.approx(tokens, rel=1e-9)
        assert option.tpot_s == pytest.approx(tpot, rel=1e-9)


def test_the_best_is_first_and_has_the_users_asked_for() -> None:
    found = best_serve(load("llama-3.1-8b"), SYSTEM, chips=8, work=WORK, engine=ENGINE)
    rates = [o.tokens_per_s for o in found.ranked]
    assert rates == sorted(rates, reverse=True)
    assert {o.users for o in found.ranked} == {32}
    assert {o.chips for o in found.ranked} == {8}


def test_nothing_on_the_front_is_beaten() -> None:
    found = best_serve(load("llama-3.1-8b"), SYSTEM, chips=8, work=WORK, engine=ENGINE)
    front = [(o.tokens_per_s_per_chip, o.tokens_per_s_per_user) for o in found.pareto]
    for a in front:
        assert not any(b[0] >= a[0] and b[1] >= a[1] and b != a for b in front)


def test_options_that_miss_the_slo_come_last() -> None:
    strict = best_serve(load("llama-3.1-8b"), SYSTEM, chips=8, work=WORK, engine=ENGINE, slo={"tpot": 0.0045})
    met = [o.meets_slo for o in strict.ranked]
    assert met == sorted(met, reverse=True)
    assert all(o.tpot_s <= 0.0045 for o in strict.ranked if o.meets_slo)


def test_the_fewest_chips() -> None:
    few = best_serve(load("llama-3.1-8b"), SYSTEM, chips=8, work=WORK, engine=ENGINE, minimise="chips")
    assert few.ranked[0].chips == 1


def test_plans_divide() -> None:
    for plan in candidates(load("gpt-oss-120b"), SYSTEM, 8):
        assert int(plan.ranks) * int(plan.replicas) <= 8
        assert int(plan.tp) % int(plan.dpa) == 0
        assert int(plan.ep) * int(plan.etp) == int(plan.tp)


def test_unknown_aims_and_figures_are_refused() -> None:
    model = load("llama-3.1-8b")
    with pytest.raises(UserError, match="unknown aim"):
        best_serve(model, SYSTEM, chips=8, work=WORK, engine=ENGINE, minimise="watts")  # type: ignore[arg-type]
    with pytest.raises(UserError, match="unknown figure"):
        best_serve(model, SYSTEM, chips=8, work=WORK, engine=ENGINE, slo={"latency": 1.0})
