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
    assert not {"channel", "low_latency"} & set(CATALOGUE.system("trn4").levels[1].fitted)
    # 15 us from HBM to HBM of another server (AWS)
    assert float(network.latency.value) + float(network.fitted["hop"].value) == pytest.approx(15e-6)
