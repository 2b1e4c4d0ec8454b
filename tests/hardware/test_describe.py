"""Flat lists of numbers and differences."""

from __future__ import annotations

import pytest

from trainshed.hardware.catalogue import Catalogue
from trainshed.hardware.describe import constants, diff


def test_constants_are_named_by_their_place(catalogue: Catalogue) -> None:
    numbers = dict(constants(catalogue.chip("trn3")))
    assert numbers["neuron.columns_per_cycle.bf16"].value == 1
    assert numbers["energy.mac.bf16"].unit == "J/MAC"
    assert numbers["fitted.energy_scale"].name == "chip/trn3.fitted.energy_scale"
    system = dict(constants(catalogue.system("trn3-gen2")))
    assert system["rack.bandwidth"].value == 320e9
    assert system["pue"].value == 1.15
    assert "hbm_bandwidth" not in system


def test_diff_lists_only_what_differs(catalogue: Catalogue) -> None:
    found = {d.name: d for d in diff(catalogue.chip("trn2"), catalogue.chip("trn3"))}
    assert found["hbm_bandwidth"].ratio == pytest.approx(4.9 / 2.9)
    assert found["flops.mxfp8"].a is None
    assert found["flops.mxfp8"].ratio is None
    assert "neuron.tensor_clock" not in found
    assert diff(catalogue.chip("trn2"), catalogue.chip("trn2")) == []


def test_diff_of_systems(catalogue: Catalogue) -> None:
    found = {d.name: d for d in diff(catalogue.system("trn1"), catalogue.system("trn1n"))}
    assert set(found) == {"server.bandwidth", "network.bandwidth"}
    assert found["network.bandwidth"].ratio == 2.0
