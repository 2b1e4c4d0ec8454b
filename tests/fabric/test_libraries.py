"""What ``hardware/interconnects.toml`` says of collective libraries is what the fabric knows."""

from __future__ import annotations

import pytest

from trainshed.fabric import ALGORITHMS
from trainshed.fabric.direct import CHANNELS
from trainshed.hardware import Catalogue

CATALOGUE = Catalogue()
NAMES = {name for ways in ALGORITHMS.values() for name in ways}


@pytest.mark.parametrize("name", CATALOGUE.systems())
def test_every_level_has_what_the_terms_need(name: str) -> None:
    for level in CATALOGUE.system(name).levels:
        assert {"launch", "hop", "efficiency"} <= set(level.fitted), level.name
        assert 0 < float(level.fitted["efficiency"].value) <= 1
        assert set(level.algorithms) <= NAMES


def test_libraries_follow_the_innermost_interconnect() -> None:
    def menu(name: str) -> tuple[str, ...]:
        return CATALOGUE.system(name).levels[0].algorithms

    assert "nvls" in menu("gb200-nvl72")
    assert "kangaring" in menu("trn3-gen2")
    assert menu("trn3-gen2") == menu("trn1")
    assert "nvls" not in menu("mi300x-8")


def test_nccl_constants_stay_with_nccl() -> None:
    """EFA under the Neuron runtime takes none of the constants that were fitted on NCCL over EFA."""
    network = CATALOGUE.system("trn3-gen2").levels[-1]
    assert network.interconnect == "neuron-efa-v4"
    assert not {"low_latency", "bulk", "pair"} & set(network.fitted)
    assert set(CHANNELS) <= set(CATALOGUE.system("p5").levels[0].fitted)
    # nor does NVLink 6 driven by Trainium4's DMA engines
    assert not {"channels", "low_latency"} & set(CATALOGUE.system("trn4").levels[1].fitted)
    # 15 us from HBM to HBM of another server (AWS)
    assert float(network.latency.value) + float(network.fitted["hop"].value) == pytest.approx(15e-6)


def test_at_most_three_constants_of_an_interconnect_are_fitted() -> None:
    fitted = {
        (level.interconnect, key)
        for name in CATALOGUE.systems()
        for level in CATALOGUE.system(name).levels
        for key, constant in level.fitted.items()
        if constant.status == "fitted" and "as a library" not in constant.source
    }
    assert {key for _, key in fitted} <= {"launch", "hop", "efficiency"}
    assert {"nvlink3", "nvlink4", "nvlink5", "efa-v3"} <= {name for name, _ in fitted}


def test_what_was_fitted_of_nccl_is_one_value_for_all_nvlinks() -> None:
    shared = {"bulk_start", "last_step", "in_network_pass", "in_network_sync", "pair", "pair_most"}
    for name in ("p4d", "p5", "p6-b200", "gb300-nvl72"):
        level = CATALOGUE.system(name).levels[0]
        assert {k for k, c in level.fitted.items() if "as a library" in c.source} == shared, name
        first = CATALOGUE.system("p4d").levels[0].fitted
        assert {k: float(level.fitted[k].value) for k in shared} == {k: float(first[k].value) for k in shared}
