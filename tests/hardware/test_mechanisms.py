"""Fitted mechanisms: own, carried, estimated, overridden."""

from __future__ import annotations

from pathlib import Path

import pytest

from trainshed.core import UserError
from trainshed.hardware.mechanisms import Mechanisms, unit_of_mechanism
from trainshed.hardware.values import Values

FITTED = """
[chip.old]
gemm = { value = 0.5, source = "rows a", status = "fitted" }
launch = { value = "3 us", source = "rows b", status = "fitted" }

[interconnect.wire1]
hop = { value = "2 us", source = "rows c", status = "fitted" }
"""
ESTIMATES = """
[architecture.kind]
gemm = { value = 0.9, source = "e", status = "estimated" }
memory = { value = 0.8, source = "e", status = "estimated" }
launch = { value = "1 us", source = "e", status = "estimated" }

[carry]
wire2 = "wire1"

[interconnect.default]
hop = { value = "9 us", source = "e", status = "estimated" }
efficiency = { value = 0.7, source = "e", status = "estimated" }

[interconnect.wire1]
efficiency = { value = 0.6, source = "e", status = "estimated" }
"""


def make(tmp_path: Path, values: Values | None = None, fitted: str = FITTED) -> Mechanisms:
    (tmp_path / "fitted.toml").write_text(fitted)
    (tmp_path / "estimates.toml").write_text(ESTIMATES)
    return Mechanisms(values or Values(), tmp_path / "fitted.toml", tmp_path / "estimates.toml")


def test_own_then_carried_then_estimated(tmp_path: Path) -> None:
    new = make(tmp_path).of_chip(["new", "old"], "kind")
    assert (new["gemm"].value, new["memory"].value, new["launch"].value) == (0.5, 0.8, 3e-6)
    assert new["gemm"].name == "chip/new.fitted.gemm"
    assert new["gemm"].status == "estimated"
    assert new["gemm"].note == "carried from old"
    assert new["memory"].note == ""
    old = make(tmp_path).of_chip(["old"], "kind")
    assert old["gemm"].status == "fitted"
    assert old["launch"].unit == "s"


def test_overrides_reach_those_that_carry(tmp_path: Path) -> None:
    changed = {"chip/old.fitted.gemm": 0.4, "chip/old.fitted.memory": 0.3, "chip/new.fitted.launch": 7.0}
    values = Values(overrides=changed)
    new = make(tmp_path, values).of_chip(["new", "old"], "kind")
    assert (new["gemm"].value, new["memory"].value, new["launch"].value) == (0.4, 0.3, 7.0)


def test_a_mechanism_that_only_the_user_knows(tmp_path: Path) -> None:
    values = Values(given={"chip/new.fitted.idle": 5.0})
    assert make(tmp_path, values).of_chip(["new"], "kind")["idle"].status == "given"


def test_interconnects_carry(tmp_path: Path) -> None:
    wires = make(tmp_path)
    second = wires.of_interconnect("wire2")
    assert (second["hop"].value, second["efficiency"].value) == (2e-6, 0.6)
    assert second["hop"].note == "carried from wire1"
    assert second["hop"].name == "interconnect/wire2.hop"
    other = wires.of_interconnect("copper")
    assert (other["hop"].value, other["efficiency"].value) == (9e-6, 0.7)


def test_unknown_kind_has_no_estimates(tmp_path: Path) -> None:
    assert make(tmp_path).of_chip(["x"], "nothing") == {}


def test_strange_unit_is_an_error(tmp_path: Path) -> None:
    bad = '[chip.x]\ngemm = { value = "3 USD/h", source = "r", status = "fitted" }\n'
    with pytest.raises(UserError, match="unknown unit of a mechanism"):
        make(tmp_path, fitted=bad)


def test_units_of_shipped_mechanisms() -> None:
    assert unit_of_mechanism("architecture/", "hbm_efficiency") == "1"
    assert unit_of_mechanism("interconnect/", "hop") == "s"
    assert unit_of_mechanism("interconnect/", "hope") is None
