"""Claims: the verdict's words, the data, and what the arithmetic ones must give."""

from __future__ import annotations

import pytest

from trainshed.core import UserError
from trainshed.validate.claims import Claim, check, entries, verdict
from trainshed.validate.measures import MEASURES, Found


@pytest.mark.parametrize(
    ("values", "cannot", "expected"),
    [
        ({"a": 4.0, "b": 5.0}, "", "holds"),
        ({"a": 3.9, "b": 2.0}, "", "holds for a"),
        ({"a": 3.8}, "", "does not hold"),
        ({}, "", "cannot be tested: nothing was found to compare"),
        ({"a": 9.0}, "no price", "cannot be tested: no price"),
    ],
)
def test_the_verdicts_words(values: dict[str, float], cannot: str, expected: str) -> None:
    assert verdict(Found(values=values, how="", cannot=cannot), 4.0, 0.03) == expected


def test_every_claim_has_its_measure_and_a_source() -> None:
    assert len({e["id"] for e in entries()}) == len(entries())
    for entry in entries():
        assert entry["measure"] in MEASURES
        assert entry["source"]
        assert entry["claim"]


def only(name: str) -> Claim:
    (claim,) = check(only=[name])
    return claim


def test_data_sheet_ratios() -> None:
    assert only("ultraserver-memory-capacity").simulated == pytest.approx(144 * 144 / (64 * 96))
    assert only("ultraserver-memory-capacity").verdict == "does not hold"
    assert only("ultraserver-memory-bandwidth").simulated == pytest.approx(144 * 4.9 / (64 * 2.9))
    assert only("ultraserver-peak").readings["8-bit"] == pytest.approx(144 * 2517 / (64 * 1299))
    assert only("ultraserver-peak").verdict == "holds for 8-bit"
    for name in ("ultraserver-memory-capacity", "ultraserver-memory-bandwidth", "ultraserver-peak"):
        assert "data-sheet" in only(name).how
    assert (only("ultraserver-chips").simulated, only("ultraserver-chips").verdict) == (144, "holds")


def test_a_claim_without_a_price_names_the_price_that_it_needs() -> None:
    claim = only("inference-cost-trn3")
    assert claim.simulated is None
    assert claim.verdict.startswith("cannot be tested: no price of a Trainium3 chip is published")
    assert "USD per chip-hour against p5en" in claim.verdict


def test_announced_chips_are_not_judged() -> None:
    claim = only("trn4-bandwidth")
    assert claim.verdict.startswith("cannot be tested")
    assert claim.simulated is not None


def test_the_energy_claim_is_tried_at_both_powers() -> None:
    at_1000, at_700 = only("energy-1000w"), only("energy-700w")
    assert "1,000 W" in at_1000.how
    assert "700 W" in at_700.how
    for name, value in at_1000.readings.items():
        assert at_700.readings[name] == pytest.approx(value * 1000 / 700)


def test_json_has_the_keys_of_the_design() -> None:
    keys = {"id", "claim", "source", "claimed", "simulated", "unit", "ratio", "verdict", "how", "evidence"}
    assert keys <= only("hlat-tokens").to_json().keys()


def test_an_unknown_claim_is_an_error() -> None:
    with pytest.raises(UserError, match="trn4-fp4"):
        check(only=["trn4-fp5"])
