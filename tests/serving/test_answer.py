"""The answer's figures agree with each other and with what they follow from."""

from __future__ import annotations

from typing import Any

import pytest

from trainshed.core import Constant, Result, UserError
from trainshed.core.explain import tree
from trainshed.hardware import Catalogue
from trainshed.models import load
from trainshed.serving import Workload, answer
from trainshed.software import Software

CATALOGUE, SOFTWARE = Catalogue(), Software()
PRICE = Constant(name="price/test", value=4.0, unit="USD/h", status="given", source="this test")


def ask(model: str = "llama-3.1-8b", on: str = "p5", **changes: Any) -> Result:
    system = CATALOGUE.system(on)
    fields: dict[str, Any] = {
        "engine": SOFTWARE.default_engine(system.chip.vendor), "chips": 8, "plan": "tp8", "price": PRICE,
    }  # fmt: skip
    work = changes.pop("work", Workload(mode="closed", isl=1000.0, osl=200.0, concurrency=16.0))
    return answer(load(model), system, work, **{**fields, **changes})


def figures(**changes: Any) -> dict[str, Any]:
    found = ask(**changes).result
    assert isinstance(found, dict)
    return found


def test_rates_and_times_agree() -> None:
    r = figures()
    assert r["e2e_s"]["mean"] == pytest.approx(r["ttft_s"]["mean"] + 199 * r["tpot_s"]["mean"])
    assert r["tokens_per_s"] == pytest.approx(16 * 200 / r["e2e_s"]["mean"])
    assert r["tokens_per_s_per_chip"] == pytest.approx(r["tokens_per_s"] / 8)
    assert r["requests_per_s"] == pytest.approx(r["tokens_per_s"] / 200)


def test_money_and_energy_follow_from_rates() -> None:
    r = figures()
    assert r["usd_per_million_tokens"] == pytest.approx(8 * 4.0 / 3600 / r["tokens_per_s"] * 1e6)
    assert r["energy_per_token_j"] == pytest.approx(r["power_w"] / r["tokens_per_s"])
    assert r["tokens_per_s_per_mw"] == pytest.approx(1e6 / r["energy_per_token_j"])
    parts = r["power_breakdown_w"]
    assert r["power_w"] == pytest.approx(parts["chips"] + parts["hosts_and_switches"])


def test_what_nobody_knows_is_null() -> None:
    r = figures(price=None)
    assert r["usd_per_million_tokens"] is None
    assert r["ttft_s"]["p99"] is None
    assert r["slo_attainment"] is None


def test_memory_is_weights_and_caches() -> None:
    r = figures(plan="tp1 x8")
    assert r["memory_breakdown_bytes"]["weights"] == pytest.approx(2 * 8_030_261_248)
    assert r["memory_per_chip_bytes"] == pytest.approx(sum(r["memory_breakdown_bytes"].values()))


def test_the_tree_is_the_headline_and_rests_on_constants() -> None:
    result = ask()
    assert result.cost is not None
    assert isinstance(result.result, dict)
    headline = result.result["ttft_s"]["mean"] + result.result["tpot_s"]["mean"]
    assert float(result.cost.value) == pytest.approx(headline)
    assert "chip/h100-sxm.hbm_bandwidth" in result.cost.used_constants()
    assert tree(result.cost)["how"] == "sum"


def test_slo_attainment_is_per_figure() -> None:
    assert figures(slo={"ttft": 60.0, "tpot": 1e-9})["slo_attainment"] == {"ttft": True, "tpot": False}
    with pytest.raises(UserError, match="unknown figure of an SLO"):
        ask(slo={"latency": 1.0})


def test_a_model_that_does_not_fit_says_how_much_it_needs() -> None:
    with pytest.raises(UserError, match=r"does not fit.*GB of weights per rank"):
        ask("llama-3.1-405b", plan="tp8")


@pytest.mark.parametrize(
    "work",
    [
        Workload(mode="static", isl=500.0, osl=100.0, batch=8.0), Workload(mode="offline", isl=500.0, osl=100.0),
        Workload(mode="open", isl=500.0, osl=100.0, rate_per_s=5.0), Workload(mode="prefill", isl=500.0, batch=2.0),
        Workload(mode="decode", batch=8.0, context=1000.0),
    ],
)  # fmt: skip
@pytest.mark.parametrize("on", ["p5", "trn2", "trn3-gen2", "p6-b200"])
def test_every_mode_answers_on_every_kind_of_chip(work: Workload, on: str) -> None:
    assert figures(work=work, on=on, plan="tp4")["tokens_per_s"] > 0


def test_a_mixed_rack_answers_without_a_plan() -> None:
    rack = CATALOGUE.system("trn4-nvl")
    engines = {"engine": SOFTWARE.engine("vllm"), "prefill_engine": SOFTWARE.default_engine("aws")}
    result = ask("gpt-oss-120b", "trn4-nvl", plan="", chips=rack.ultraserver_chips, **engines)
    assert any(a.what == "pools" and "trn4" in str(a.value) for a in result.assumptions)
    assert any("undisclosed" in a.what for a in result.assumptions)
