"""The command as a user types it: answers, JSON keys of the design, and one sentence for every mistake."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from trainshed.app.cli import main
from trainshed.app.inventory import hardware_show
from trainshed.hardware import Catalogue, parse_set

Runner = Callable[[str], Any]

TRAIN = "train llama-3.1-8b --on trn2-ultra --chips 16 --plan 'tp4 sp1 zero1' --seq 4096 --global-batch 64"
SERVE = "serve llama-3.1-8b --on trn2 --chips 4 --isl 1000 --osl 100 --concurrency 8"


def numbers(value: Any) -> list[float]:
    if isinstance(value, dict):
        return [n for v in value.values() for n in numbers(v)]
    if isinstance(value, list):
        return [n for v in value for n in numbers(v)]
    return [float(value)] if isinstance(value, int | float) and not isinstance(value, bool) else []


def test_train_answers_with_the_keys_of_the_design(trainshed: Runner) -> None:
    answer = trainshed(f"{TRAIN} --json").json
    assert {"trainshed", "command", "inputs", "result", "assumptions", "evidence"} <= answer.keys()
    result = answer["result"]
    assert {
        "step_time_s", "tokens_per_s", "tokens_per_s_per_chip", "mfu", "memory_per_chip_bytes", "memory_fits",
        "memory_breakdown_bytes", "time_breakdown_s", "power_w", "energy_per_token_j", "usd_per_million_tokens",
        "chips", "ultraservers", "plan",
    } <= result.keys()  # fmt: skip
    assert sum(result["time_breakdown_s"].values()) == pytest.approx(result["step_time_s"])
    assert sum(result["memory_breakdown_bytes"].values()) == pytest.approx(result["memory_per_chip_bytes"])
    assert result["tokens_per_s"] == pytest.approx(64 * 4096 / result["step_time_s"])
    assert 0 < result["mfu"] < 1
    assert {"comparable_points", "median_abs_error", "p90_abs_error", "range", "carried_from", "why"} <= answer[
        "evidence"
    ].keys()
    assert all(math.isfinite(n) for n in numbers(answer))


def test_serve_answers_with_the_keys_of_the_design(trainshed: Runner) -> None:
    result = trainshed(f"{SERVE} --json").json["result"]
    assert {
        "ttft_s", "tpot_s", "e2e_s", "tokens_per_s", "tokens_per_s_per_chip", "requests_per_s", "concurrency",
        "memory_per_chip_bytes", "kv_cache_bytes", "power_w", "energy_per_token_j", "tokens_per_s_per_mw",
        "usd_per_million_tokens", "chips", "plan", "slo_attainment",
    } <= result.keys()  # fmt: skip
    assert result["ttft_s"]["p99"] is None


def test_people_get_tables_assumptions_and_evidence(trainshed: Runner) -> None:
    ran = trainshed(TRAIN)
    assert ran.code == 0
    assert "step time" in ran.out
    assert "Assumed, since not said" in ran.out
    assert "Evidence" in ran.out


def test_a_mixed_rack_prefills_on_gpus_and_decodes_on_trainium4(trainshed: Runner) -> None:
    answer = trainshed("serve gpt-oss-120b --on trn4-nvl --json").json
    assert "prefill" in answer["result"]["plan"]
    assert "decode" in answer["result"]["plan"]
    assert any("trn4" in a["what"] for a in answer["assumptions"])


def test_an_override_changes_the_answer_and_is_said(trainshed: Runner) -> None:
    slow, fast = (
        trainshed(f"{SERVE} --set chip.hbm_bandwidth={bandwidth} --json").json for bandwidth in ("1TB/s", "9TB/s")
    )
    assert slow["result"]["tpot_s"]["mean"] > fast["result"]["tpot_s"]["mean"]
    assert any(a["what"] == "chip/trn2.hbm_bandwidth" and a["status"] == "given" for a in fast["assumptions"])


@pytest.mark.parametrize("kind", ["chip/trn2", "chip/h100-sxm", "system/trn2-ultra", "system/trn3-gen2"])
def test_any_number_that_is_shown_can_be_set(kind: str) -> None:
    shown: Any = hardware_show(kind).result
    system = Catalogue().system({"chip/h100-sxm": "p5", "system/trn3-gen2": "trn3-gen2"}.get(kind, "trn2-ultra"))
    for number in shown["hardware"][0]["numbers"]:
        unit = number["unit"] if number["unit"] not in ("1", "count") else ""
        (value,) = set(
            parse_set(f"{kind.split('/')[0]}.{number['what']}={number['value']:.17g} {unit}", system).values()
        )
        assert value == pytest.approx(number["value"])


@pytest.mark.parametrize(
    "setting", ["framework/neuronx-distributed-2.24.gemm_share=0.5", "system.server.fitted.efficiency=0.1"]
)
def test_software_and_links_can_be_set_too(trainshed: Runner, setting: str) -> None:
    slower = trainshed(f"{TRAIN} --set {setting} --json").json
    assert slower["result"]["step_time_s"] > trainshed(f"{TRAIN} --json").json["result"]["step_time_s"]


def test_a_chip_of_ones_own(trainshed: Runner, tmp_path: Path) -> None:
    own = tmp_path / "own.toml"
    own.write_text('[set]\n"chip/trn2.tdp" = "450 W"\n')
    shown = trainshed(f"hardware show chip/trn2 --hardware {own} --json").json
    tdp = next(n for n in shown["result"]["hardware"][0]["numbers"] if n["what"].endswith("tdp"))
    assert tdp["value"] == 450.0
    assert tdp["status"] == "given"


def test_a_price_of_ones_own_gives_dollars(trainshed: Runner) -> None:
    without = trainshed("train llama-3.1-8b --on trn3-gen2 --chips 16 --plan tp4 --json").json["result"]
    priced = trainshed("train llama-3.1-8b --on trn3-gen2 --chips 16 --plan tp4 --price 3USD/h --json").json["result"]
    assert without["usd_per_million_tokens"] is None
    assert priced["usd_per_million_tokens"] == pytest.approx(3 * 16 / 3600 / priced["tokens_per_s"] * 1e6)


@pytest.mark.parametrize("command", ["plan train llama-3.1-8b --on trn2 --chips 16", "plan serve llama-3.1-8b --on p5"])
def test_plan_ranks_and_draws_a_front(trainshed: Runner, command: str) -> None:
    result = trainshed(f"{command} --json").json["result"]
    assert 1 <= len(result["best"]) <= 10
    assert result["pareto"]
    assert result["plans_priced"] > 50


@pytest.mark.parametrize("command", [TRAIN, SERVE])
def test_carbon_follows_the_meter_and_the_grid(trainshed: Runner, command: str) -> None:
    us, world = (trainshed(f"{command} --grid {region} --json").json["result"] for region in ("us", "world"))
    joules = us["power_breakdown_w"]["facility"] / us["tokens_per_s"] * 1e6
    assert us["carbon_kg_per_million_tokens"] == pytest.approx(joules / 3.6e6 * 0.373)
    assert world["carbon_kg_per_million_tokens"] / us["carbon_kg_per_million_tokens"] == pytest.approx(0.473 / 0.373)


def test_collective(trainshed: Runner) -> None:
    result = trainshed("collective all_reduce --bytes 1GiB --on trn3-gen2 --chips 144 --json").json["result"]
    assert result["time_s"] >= result["lower_bound_s"] > 0
    assert result["algbw_bytes_per_s"] == pytest.approx(2**30 / result["time_s"])
    assert set(result["bytes_on_links"]) >= {"sled", "rack", "ultraserver"}


def test_compare_says_what_a_chip_without_a_price_may_cost(trainshed: Runner) -> None:
    result = trainshed("compare llama-3.1-8b --on trn3-gen2,trn2-ultra --chips 16 --json").json["result"]
    new, old = result["systems"]
    assert new["usd_per_million_tokens"] is None
    even = new["break_even_usd_per_chip_hour"]["trn2-ultra"]
    assert even / new["tokens_per_s_per_chip"] == pytest.approx(old["usd_per_chip_hour"] / old["tokens_per_s_per_chip"])


def independent(node: dict[str, Any]) -> float:
    """A printed node's value as an outsider computes it."""
    below = [independent(c) for c in node["children"]]
    if node["how"] == "sum":
        value = sum(below)
    elif node["how"] == "max":
        value = max(below)
    else:
        plain = {"max": max, "min": min, "ceil": math.ceil, "floor": math.floor, "sqrt": math.sqrt, "log2": math.log2,
                 "exp": math.exp}  # fmt: skip
        children = {c["what"]: v for c, v in zip(node["children"], below, strict=True)}
        names = plain | children | {c["what"]: c["value"] for c in node["constants"]}
        value = float(eval(node["formula"], {"__builtins__": {}}, names))
    assert value == pytest.approx(node["value"], rel=1e-3, abs=1e-12), node["what"]
    return value


def leaves(node: dict[str, Any]) -> list[dict[str, Any]]:
    if not node["children"]:
        return [node]
    return [leaf for child in node["children"] for leaf in leaves(child)]


@pytest.mark.parametrize(
    "command",
    [
        TRAIN,
        SERVE,
        "serve gpt-oss-120b --on trn4-nvl",
        "serve musicgen-large --on trn2.3xlarge --seconds 10",
        "serve hunyuanvideo --on trn2.3xlarge --frames 61 --size 320x512 --steps 20",
        "train mixtral-8x7b --on p5 --chips 64 --plan 'tp2 sp1 pp4 ep4 zero1' --seq 4096 --global-batch 256",
    ],
)
def test_explain_goes_down_to_sourced_constants(trainshed: Runner, command: str) -> None:
    result = trainshed(f"explain {command} --json").json["result"]
    root = result["tree"]
    independent(root)
    for leaf in leaves(root):
        if leaf["unit"] == root["unit"] and leaf["value"] > 0.05 * root["value"]:
            assert leaf["constants"], leaf["what"]
        assert all(c["source"] and c["status"] for c in leaf["constants"])
    gains = result["sensitivity"]
    assert gains[0]["gain_for_10_percent"] > 0
    assert all(g["gain_for_10_percent"] < 0.2 for g in gains)


def test_a_gain_is_what_the_override_gives(trainshed: Runner) -> None:
    gains = trainshed(f"explain {TRAIN} --json").json["result"]["sensitivity"]
    gain = next(g for g in gains if g["what"] == "chip/trn2.hbm_bandwidth")
    base = trainshed(f"{TRAIN} --json").json["result"]["step_time_s"]
    better = f"{gain['value'] * 1.1 / 1e12:.12g}TB/s"
    changed = trainshed(f"{TRAIN} --set chip.hbm_bandwidth={better} --json").json["result"]["step_time_s"]
    assert 1 - changed / base == pytest.approx(gain["gain_for_10_percent"], abs=1e-6)


def test_a_trace_of_a_step_sums_to_its_time(trainshed: Runner, tmp_path: Path) -> None:
    file = tmp_path / "step.json"
    result = trainshed(f"{TRAIN} --trace {file} --json").json["result"]
    spans = [e for e in json.loads(file.read_text())["traceEvents"] if e["ph"] == "X"]
    top = [s for s in spans if s["name"] == "training step"]
    assert top[0]["dur"] == pytest.approx(result["step_time_s"] * 1e6)


MISTAKES = [
    ("train llama-3.1-9b --on trn2", "llama-3.1-8b"),
    ("train llama-3.1-8b --on trn5", "trn"),
    ("train llama-3.1-8b --on trn2 --plan tq4", "did you mean tp"),
    ("train llama-3.1-8b --on trn2 --plan tp3", "divide"),
    ("train llama-3.1-8b --on trn2 --chips 0", "chips"),
    ("train llama-3.1-8b --on trn2 --chips -4", "chips"),
    ("train llama-3.1-8b --on trn2 --chips 4 --ultraservers 1", "one of both"),
    ("train llama-3.1-8b --on trn2 --dtype fp7", "fp8"),
    ("train llama-3.1-8b --on trn2 --seq -1", "--seq"),
    ("train llama-3.1-8b --on trn2 --global-batch 0", "global"),
    ("train llama-3.1-8b --on trn2 --set chip.hbm_bandwidth=5", "unit"),
    ("train llama-3.1-8b --on trn2 --set chip.hbm_bandwidth=-5TB/s", "negative"),
    ("train llama-3.1-8b --on trn2 --set chip.hbm_bandwith=5TB/s", "hbm_bandwidth"),
    ("train llama-3.1-8b --on trn2 --set framework/neuronx-distributed-2.24.gem=1", "gemm_share"),
    ("train llama-3.1-8b --on trn2 --set engine/vlm-0.18.launch=1us", "vllm-0.18"),
    ("train llama-3.1-8b --on trn2 --framework megatrn", "megatron"),
    ("serve llama-3.1-8b --on trn2 --batch 4 --offline", "one of --concurrency"),
    ("serve llama-3.1-8b --on trn2 --slo ttft", "ttft<2s"),
    ("serve llama-3.1-8b --on trn2 --rate fast", "20/s"),
    ("serve llama-3.1-8b --on trn2 --engine vlm", "vllm"),
    ("collective all_reduce --bytes 1 --on trn2", "unit"),
    ("collective all_redcue --bytes 1MiB --on trn2", "all_reduce"),
    ("compare llama-3.1-8b --on trn2", "two or more"),
    ("hardware show chip/trn9", "trn"),
    ("models show missing.json", "missing.json"),
    ("validate nothing.csv", "training"),
    ("train llama-3.1-8b --on trn2 --plan tp4 --grid mars", "--grid"),
    ("train llama-3.1-8b", "--on"),
    ("trian llama-3.1-8b", "trian"),
]


@pytest.mark.parametrize(("command", "says"), MISTAKES)
def test_a_mistake_is_one_sentence_and_exit_code_2(trainshed: Runner, command: str, says: str) -> None:
    ran = trainshed(f"{command} --json")
    assert ran.code == 2
    assert says in ran.err
    assert ran.err.count("\n") == 1
    assert "Traceback" not in ran.err
    assert set(ran.json["error"]) == {"what", "where", "value", "expected"}


def test_broken_files_are_named(trainshed: Runner, tmp_path: Path) -> None:
    broken = tmp_path / "broken.toml"
    broken.write_text("[chip.x\n")
    ran = trainshed(f"train llama-3.1-8b --on trn2 --hardware {broken}")
    assert (ran.code, "broken.toml" in ran.err, ran.err.count("\n")) == (2, True, 1)
    config = tmp_path / "config.json"
    config.write_text(json.dumps({"model_type": "llama", "num_hidden_layers": 2}))
    ran = trainshed(f"train {config} --on trn2")
    assert (ran.code, "hidden_size" in ran.err, ran.err.count("\n")) == (2, True, 1)


def test_require_turns_a_plan_that_does_not_fit_into_exit_code_1(trainshed: Runner) -> None:
    command = "train llama-3.1-70b --on trn2 --chips 4 --plan tp4 --global-batch 16"
    assert trainshed(command).code == 0
    ran = trainshed(f"{command} --require")
    assert ran.code == 1
    assert "Does not fit" in ran.err


def test_help_has_examples(trainshed: Runner) -> None:
    for command in ("train", "serve", "plan train", "collective", "compare", "validate", "hardware show"):
        assert "trainshed" in trainshed(f"{command} --help").out


def test_a_failed_requirement_is_one_json_object(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["train", "llama-3.1-405b", "--on", "trn2", "--chips", "1", "--json", "--require"])
    assert stop.value.code == 1
    assert "Does not fit" in json.loads(capsys.readouterr().out)["error"]["what"]


def test_a_file_that_cannot_be_written_is_one_sentence(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    plot = str(tmp_path / "file" / "x.svg")
    with pytest.raises(SystemExit) as stop:
        main(["collective", "all_reduce", "--bytes", "1MiB", "--on", "trn2", "--plot", plot])
    assert stop.value.code == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
