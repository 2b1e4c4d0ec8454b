"""The answer of ``trainshed collective`` on systems of the catalogue."""

from __future__ import annotations

import json
import math

import pytest

from trainshed.core import UserError
from trainshed.fabric import KINDS
from trainshed.fabric.answer import answer
from trainshed.hardware.catalogue import Catalogue

CATALOGUE = Catalogue()
KEYS = {"time_s", "algorithm", "algbw_bytes_per_s", "busbw_bytes_per_s", "lower_bound_s", "bytes_on_links"}


@pytest.mark.parametrize("system", ["trn1", "trn2-ultra", "trn3-gen1", "trn3-gen2", "p5", "gb200-nvl72"])
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_on_every_sort_of_system(system: str, kind: str) -> None:
    found = answer(kind, 2**26, CATALOGUE.system(system), 64)
    result = found.to_json("0")["result"]
    assert set(result) >= KEYS
    assert 0 < result["lower_bound_s"] <= result["time_s"]
    assert result["algorithms_s"][result["algorithm"]] == pytest.approx(result["time_s"])
    assert found.cost is not None
    assert float(found.cost.value) == result["time_s"]
    json.dumps(found.to_json("0"), allow_nan=False)


def test_bandwidths_are_those_of_nccl_tests() -> None:
    result = answer("all_reduce", 2**30, CATALOGUE.system("p5"), 8).to_json("0")["result"]
    assert result["algbw_bytes_per_s"] == pytest.approx(2**30 / result["time_s"])
    assert result["busbw_bytes_per_s"] == pytest.approx(2 * 7 / 8 * 2**30 / result["time_s"])
    permute = answer("permute", 2**30, CATALOGUE.system("p5"), 8).to_json("0")["result"]
    assert permute["busbw_bytes_per_s"] == permute["algbw_bytes_per_s"]


def test_the_algorithm_asked_for_is_taken() -> None:
    system = CATALOGUE.system("trn2")
    for name in ("ring", "mesh", "rhd", "kangaring", "hierarchical"):
        result = answer("all_reduce", 2**20, system, 16, name).to_json("0")["result"]
        assert result["algorithm"] == name
        assert result["time_s"] == pytest.approx(result["algorithms_s"][name])


def test_one_chip_sends_nothing_and_has_no_bandwidth() -> None:
    result = answer("all_reduce", 1e9, CATALOGUE.system("trn3-gen2"), 1).to_json("0")["result"]
    assert (result["time_s"], result["algorithm"], result["algbw_bytes_per_s"]) == (0.0, "none", None)


def test_a_million_chips() -> None:
    found = answer("all_reduce", 2**30, CATALOGUE.system("trn3-gen2"), 999_936)
    result = found.to_json("0")["result"]
    assert result["ranks"] == 999_936
    assert 0.003 < result["time_s"] < 0.1
    assert set(result["bytes_on_links"]) == {"sled", "rack", "ultraserver", "network"}


def test_ranks_are_said_in_the_assumptions() -> None:
    system = CATALOGUE.system("trn3-gen2")
    one = answer("all_reduce", 1e6, system, 4)
    four = answer("all_reduce", 1e6, system, 4, ranks_per_chip=4)
    assert one.assumptions[0].value == "one rank per chip"
    assert four.assumptions[0].value.startswith("4 ranks per chip")
    assert four.to_json("0")["result"]["ranks"] == 16
    weak = {a.what for a in one.assumptions[2:]}
    assert any(name.startswith("interconnect/neuronlink-v4") for name in weak)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"bytes": 0.0}, "a collective needs bytes"),
        ({"bytes": math.nan}, "a collective needs bytes"),
        ({"chips": 0}, "a collective needs chips"),
        ({"chips": 10**9}, "group larger than the system"),
        ({"ranks_per_chip": 0}, "ranks per chip"),
        ({"kind": "allreduce"}, "unknown collective: 'allreduce'"),
        ({"algorithm": "nvls"}, "unknown algorithm of all_reduce: 'nvls'"),
    ],
)
def test_mistakes_are_one_sentence(change: dict[str, object], said: str) -> None:
    options: dict[str, object] = {"kind": "all_reduce", "bytes": 1e6, "chips": 16, "system": CATALOGUE.system("trn2")}
    with pytest.raises(UserError, match=said):
        answer(**(options | change))  # type: ignore[arg-type]
