"""``trainshed collective`` on real links: models, faults, networks of one's own, traces and pages."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from trainshed.fabric.chakra import Builder, Call, write

Runner = Callable[[str], Any]

LAB = """
name = "lab"
[chips]
count = 4
[[switches]]
name = "rack"
[[links]]
from = "chip 0..3"
to = "rack"
bandwidth = "50 GB/s"
latency = "1 us"
"""


@pytest.fixture
def lab(tmp_path: Path) -> Path:
    path = tmp_path / "lab.toml"
    path.write_text(LAB)
    return path


def test_links_stand_beside_the_closed_form(trainshed: Runner) -> None:
    """A two-level mesh without contention: both say the same, and bytes add up over the links of each level."""
    result = trainshed("collective all_reduce --bytes 64MiB --on trn3-gen2 --chips 4 --json").json["result"]
    network = result["network"]
    assert network["time_s"] == pytest.approx(result["time_s"], rel=0.01)
    sled = network["levels"]["sled"]
    # Each rank sends 2 (n - 1) / n of the buffer, over the link to the switch and the one from it.
    assert sled["carried_bytes"] == pytest.approx(4 * 2 * 0.75 * 2**26 * 2)
    assert 0 < sled["peak_utilisation"] <= 1
    assert (
        "network"
        not in trainshed("collective all_reduce --bytes 64MiB --on trn3-gen2 --chips 4 --model closed --json").json[
            "result"
        ]
    )


@pytest.mark.parametrize("model", ["flow", "packet"])
def test_a_network_model_alone(trainshed: Runner, model: str) -> None:
    found = trainshed(f"collective all_gather --bytes 4MiB --on trn2 --chips 4 --model {model} --json").json["result"]
    assert found["network"]["model"] == model
    assert found["time_s"] == found["network"]["time_s"] == min(found["algorithms_s"].values())
    assert found["time_s"] >= found["lower_bound_s"]


def test_a_failed_link_takes_the_way_round_and_says_what_is_left(trainshed: Runner) -> None:
    command = "collective permute --bytes 64MiB --on trn2 --chips 16 --model flow --json"
    whole = trainshed(command).json["result"]
    broken = trainshed(f'{command} --fail "chip 0 -> chip 1"').json["result"]
    assert broken["time_s"] > whole["time_s"]
    left = broken["network"]["left"]["server"]
    assert 0 < left["part"] < 1
    assert left["worst_chip"] in ("chip 0", "chip 1")
    assert broken["network"]["failed"] == ["chip 0 -> chip 1"]


def test_a_network_of_ones_own(trainshed: Runner, lab: Path) -> None:
    found = trainshed(f"collective all_to_all --bytes 40MB --topology {lab} --json").json["result"]
    # Three quarters of the buffer leave each chip over one link, which is as fast as its way back; two hops of latency.
    assert found["time_s"] == pytest.approx(0.75 * 40e6 / 50e9 + 2e-6, rel=1e-3)
    assert found["lower_bound_s"] is None
    assert "launch" in str(trainshed(f"collective all_to_all --bytes 40MB --topology {lab} --json").json["assumptions"])


def test_trace_and_page_are_written(trainshed: Runner, lab: Path, tmp_path: Path) -> None:
    trace, page, svg = tmp_path / "out" / "t.pftrace", tmp_path / "links.html", tmp_path / "bars.svg"
    ran = trainshed(f"collective all_reduce --bytes 1MB --topology {lab} --trace {trace} --plot {page}")
    assert ran.code == 0
    assert "Levels of links" in ran.out
    assert b"to chip 1" in trace.read_bytes()
    assert "Busiest links" in page.read_text()
    assert trainshed(f"collective all_reduce --bytes 1MB --on trn2 --chips 4 --plot {svg}").code == 0
    assert svg.read_text().startswith("<svg")


def test_a_failed_chip_leaves_its_ranks_to_others(trainshed: Runner) -> None:
    """15 of 16 chips: nobody can step in. Of 72 chips of a rack one that the group does not need takes over."""
    alone = trainshed('collective all_gather --bytes 1MB --on trn2 --chips 16 --fail "chip 3" --json').json
    assert alone["result"]["ranks"] == 15
    assert any("15, on chips that have not failed" in str(each["value"]) for each in alone["assumptions"])
    spare = trainshed('collective all_gather --bytes 1MB --on trn3-gen2 --chips 8 --fail "chip 3" --json').json
    assert spare["result"]["ranks"] == 8


@pytest.mark.parametrize("option", ["--order spread", "--routing ecmp"])
def test_what_closed_forms_do_not_know_is_answered_by_the_links(trainshed: Runner, option: str) -> None:
    result = trainshed(f"collective all_to_all --bytes 64MB --on trn3-gen2 --chips 8 {option} --json").json["result"]
    assert result["time_s"] == result["network"]["time_s"]


def test_links_count_bytes_and_constants_as_closed_forms_do(trainshed: Runner) -> None:
    command = "collective all_gather --bytes 64MiB --on trn3-gen2 --chips 8 --algorithm mesh --json"
    closed = trainshed(f"{command} --model closed --set chip.hbm_bandwidth=6TB/s").json
    links = trainshed(f"{command} --model flow --set chip.hbm_bandwidth=6TB/s").json
    assert links["result"]["bytes_on_links"] == pytest.approx(closed["result"]["bytes_on_links"])
    assert links["assumptions"] == closed["assumptions"]
    assert "neuronlink-v4.efficiency" in str(links["assumptions"])
    for said in (closed, links):
        assert said["inputs"]["set_values"] == ["chip.hbm_bandwidth=6TB/s"]
        assert any(each["source"] == "--set" for each in said["assumptions"])


def test_a_million_chips_are_not_spelled_out(trainshed: Runner) -> None:
    result = trainshed("collective all_reduce --bytes 1GiB --on trn3-gen2 --chips 999936 --json").json["result"]
    assert "network" not in result
    assert result["time_s"] > result["lower_bound_s"]


def test_replay(trainshed: Runner, tmp_path: Path) -> None:
    builder = Builder(name="two", ranks=2)
    pair = builder.group([0, 1])
    for rank in (0, 1):
        first = builder.compute(rank, "matmul", 1e-3)
        builder.collective(rank, "sum", Call(kind="all_reduce"), 1e6, pair, after=[first])
    write(builder.trace(), tmp_path / "et")
    found = trainshed(f"collective replay {tmp_path / 'et'} --on trn2 --json").json["result"]
    assert found["ranks"] == 2
    assert found["time_s"] > 1e-3
    assert found["collectives"]["all_reduce"]["calls"] == 1
    assert "all_reduce" in trainshed(f"collective replay {tmp_path / 'et'} --on trn2").out


def test_a_step_is_written_and_replayed(trainshed: Runner, tmp_path: Path) -> None:
    """Without a pipeline the replay of a step's trace takes the step's own time."""
    step = trainshed(
        "train llama-3.1-8b --on trn2 --chips 4 --plan 'tp16 sp1' --global-batch 4 --seq 2048 --json "
        f"--chakra {tmp_path}"
    ).json["result"]
    replayed = trainshed(f"collective replay {tmp_path} --on trn2 --ranks-per-chip 4 --json").json["result"]
    assert replayed["time_s"] == pytest.approx(step["step_time_s"], rel=0.01)


def test_answers_carry_the_evidence_of_measured_collectives(trainshed: Runner) -> None:
    def evidence(where: str) -> Any:
        return trainshed(f"collective all_reduce --bytes 64MiB --model closed --json --on {where}").json["evidence"]

    own = evidence("p5 --chips 8")
    assert own["carried_from"] is None
    assert own["comparable_points"] > 40
    low, high = own["range"]
    assert low < high
    trn3 = evidence("trn3-gen2 --chips 144")
    assert "none was published on trn3's links" in trn3["why"]
    assert "trn1" in trn3["carried_from"] or "gb200" in trn3["carried_from"]
    assert "graph" not in trn3["why"]


def test_a_million_chips_by_symmetry(trainshed: Runner) -> None:
    command = (
        "collective all_reduce --bytes 1GiB --on trn3-gen2 --chips {} --model flow --algorithm hierarchical --json"
    )
    large = trainshed(command.format(999_936)).json["result"]
    assert large["scale"]["fans"] == {"sled": 4, "rack": 18, "ultraserver": 2, "network": 6944}
    assert large["time_s"] == pytest.approx(sum(large["scale"]["stages_s"].values()))
    assert large["lower_bound_s"] < large["time_s"] < 2 * large["scale"]["closed_form_s"]
    few = trainshed(command.format(4608)).json["result"]
    assert few["lower_bound_s"] < few["time_s"] <= large["time_s"]


MISTAKES = [
    ("collective all_reduce --bytes 1MiB", "--topology"),
    ("collective all_reduce --bytes 1MiB --on trn2 --topology x.toml", "one of them"),
    ("collective all_reduce --bytes 1MiB --topology missing.toml", "missing.toml"),
    ("collective all_reduce --on trn2", "--bytes"),
    ("collective all_reduce --bytes 0B --on trn2", "more than 0"),
    ("collective all_reduce --bytes 1MiB --on trn2 --model xyz", "closed"),
    ("collective all_reduce --bytes 1MiB --on trn2 --model closed --fail 'chip 3'", "flow or packet"),
    ("collective all_reduce --bytes 1MiB --on trn2 --fail 'chip 99'", "chip 99"),
    ("collective all_reduce --bytes 1MiB --on trn2 --routing xyz --model flow", "spray"),
    ("collective all_reduce --bytes 1MiB --on trn2 --order xyz --model flow", "packed"),
    ("collective all_reduce --bytes 1MiB --on trn2 --chips 17000000", "1,000,000"),
    ("collective all_reduce --bytes 1MiB --on trn2 --plot x.png", ".html"),
    ("collective all_reduce --bytes 1MiB --on trn2 --trace x.json", ".pftrace"),
    ("collective all_reduce --bytes 1MiB --on trn2 --model closed --order spread", "flow or packet"),
    ("collective all_reduce --bytes 1MiB --on trn2 --model closed --routing ecmp", "flow or packet"),
    ("collective all_reduce --bytes 1MiB --topology x.toml --set chip.hbm_bandwidth=1TB/s", "--set"),
    ("collective all_to_all --bytes 1GiB --on trn3-gen2 --chips 999936 --model flow", "50,000"),
    (
        "collective all_reduce --bytes 1MiB --on trn3-gen2 --chips 3001 --model flow --algorithm hierarchical",
        "whole domains",
    ),
    ("collective all_reduce --bytes 1MiB --on trn2 --ranks-per-chip 9", "at most 8"),
    ("collective replay --on trn2", "no DIR"),
    ("collective replay missing --on trn2 --order spread --chips 4", "--chips, --order"),
    ("collective replay missing --on trn2", "missing"),
    ("collective replay missing", "no --on"),
]


@pytest.mark.parametrize(("command", "says"), MISTAKES)
def test_a_mistake_is_one_sentence_and_exit_code_2(trainshed: Runner, command: str, says: str) -> None:
    ran = trainshed(command)
    assert ran.code == 2, ran.err
    assert says in ran.err
    assert ran.err.count("\n") == 1
    assert "Traceback" not in ran.err
