"""The data as shipped: everything loads, every number has a source, and the totals are those that vendors print."""

from __future__ import annotations

import csv
import tomllib
from pathlib import Path
from typing import get_args

import pytest

from trainshed.core import Constant
from trainshed.core.constant import Status
from trainshed.hardware import catalogue as module
from trainshed.hardware.catalogue import Catalogue
from trainshed.hardware.describe import constants, totals

SHIPPED = Catalogue()
CHIPS, SYSTEMS = SHIPPED.chips(), SHIPPED.systems()
TABLE = Path(__file__).parents[2] / "validation" / "systems.csv"
ASKED_FOR = [
    "trn1", "inf2", "trn2", "trn3", "trn4", "v100-32", "v100-16", "a100-40", "a100-80", "h100-sxm", "h100-pcie",
    "h100-nvl", "h100-96", "h800", "h200-sxm", "h200-nvl", "gh200-96", "gh200-144", "b200", "b300", "gb200", "gb300",
    "rubin", "l40s", "rtx-pro-6000", "mi210", "mi250", "mi300x", "mi325x", "mi350x", "mi355x", "gaudi2", "tpu-v4",
    "tpu-v5e", "tpu-v5p", "tpu-v6e", "tpu-v7",
]  # fmt: skip


def test_every_chip_asked_for_is_there() -> None:
    assert set(ASKED_FOR) == set(CHIPS)


def check_numbers(numbers: list[tuple[str, Constant]]) -> None:
    for _, c in numbers:
        assert c.source
        assert c.status in get_args(Status)
        assert float(c.value) > 0, c.name
        for other in c.alternatives:
            assert other.unit == c.unit
            assert other.source


@pytest.mark.parametrize("name", CHIPS)
def test_chip(name: str) -> None:
    chip = SHIPPED.chip(name)
    assert chip.name == name
    assert (chip.neuron is not None) == (chip.architecture == "neuroncore")
    assert (chip.gpu is not None) == (chip.architecture != "neuroncore")
    assert chip.vector_flops.unit == "FLOP/s"
    check_numbers(constants(chip))
    for dtype in chip.flops:
        assert f"mac.{dtype}" in chip.energy
        assert chip.neuron or chip.fit(f"gemm_efficiency.{dtype}").value <= 1
    for action in ("vector", "scalar", "hbm", "link", "sbuf" if chip.neuron else "l2"):
        assert action in chip.energy
    if chip.previous:
        assert chip.previous in CHIPS
    assert all(c.name.startswith(f"chip/{name}.") for _, c in constants(chip))


@pytest.mark.parametrize("name", SYSTEMS)
def test_system(name: str) -> None:
    system = SHIPPED.system(name)
    check_numbers(constants(system))
    assert sum(p.chips for p in system.pools) == system.ultraserver_chips
    assert system.instance_chips <= system.ultraserver_chips
    inner = [level for level in system.levels if level.topology != "leaf-spine"]
    assert inner[-1].chips == system.ultraserver_chips
    sizes = [level.chips for level in system.levels]
    assert sizes == sorted(set(sizes))
    if system.levels[-1].topology == "leaf-spine":
        assert system.max_chips == 1_000_000
    for level in system.levels:
        assert {"launch", "hop", "efficiency"} <= level.fitted.keys()
        if level.dims:
            below = [x.chips for x in system.levels if x.chips < level.chips]
            product = 1
            for dim in level.dims:
                product *= dim
            assert product == level.chips // (below[-1] if below else 1)


def test_all_systems_of_the_measurements() -> None:
    for row in csv.DictReader(TABLE.read_text(encoding="utf-8").splitlines()):
        system = SHIPPED.system(row["system"])
        assert system.chip.name == row["chip"], row["system"]
        network = [level for level in system.levels if level.name == "network"]
        rate = row["scale_out_bytes_per_s"] or row["scale_out_assumption"]
        if network and rate[:1].isdigit():
            assert network[0].bandwidth.value == pytest.approx(float(rate)), row["system"]


#: hardware figures of whole systems as AWS prints them: PFLOP/s fp8, bf16, fp32; HBM GiB, TB/s.
PUBLISHED = {
    "trn1": (None, 3.04, 0.76, 512, 13.12), "trn2": (20.8, 10.7, 2.9, 1536, 46.4),
    "trn2-ultra": (83.2, 42.8, 11.6, 6144, 185.6), "trn3-gen1": (161.1, 42.9, 11.7, 9216, 313.6),
    "trn3-gen2": (362.4, 96.6, 26.4, 20736, 705.6),
}  # fmt: skip


@pytest.mark.parametrize("name", PUBLISHED)
def test_totals_are_the_published_ones(name: str) -> None:
    fp8, bf16, fp32, capacity, bandwidth = PUBLISHED[name]
    found = totals(SHIPPED.system(name))
    if fp8 is not None:
        assert found["flops.fp8"] / 1e15 == pytest.approx(fp8, rel=0.002)
    assert found["flops.bf16"] / 1e15 == pytest.approx(bf16, rel=0.003)
    assert found["flops.fp32"] / 1e15 == pytest.approx(fp32, rel=0.005)
    assert found["hbm_capacity"] / 2**30 == capacity
    assert found["hbm_bandwidth"] / 1e12 == pytest.approx(bandwidth, rel=1e-3)


def test_nvl72_totals() -> None:
    gb200, gb300 = totals(SHIPPED.system("gb200-nvl72")), totals(SHIPPED.system("gb300-nvl72"))
    assert gb200["flops.fp8"] == pytest.approx(360e15)
    assert gb200["hbm_capacity"] == pytest.approx(13.4e12, rel=0.01)
    assert gb300["flops.nvfp4"] == pytest.approx(1080e15)
    assert gb300["hbm_bandwidth"] == pytest.approx(576e12)


def test_clock_arithmetic_of_neuroncores() -> None:
    """rows x columns x 2 x clock x cores: exact for MX, within 7 % of the printed bf16 peaks."""
    for name, dtype, expected in (("trn3", "mxfp8", 2516.6e12), ("trn2", "bf16", 629.1e12), ("trn1", "bf16", 183.5e12)):
        chip = SHIPPED.chip(name)
        core = chip.neuron
        assert core is not None
        macs = float(core.depth[dtype].value) * float(core.tensor_columns.value)
        columns = float(core.columns_per_cycle[dtype].value) * float(core.tensor_clock.value)
        peak = macs * columns * 2 * float(chip.cores.value)
        assert peak == pytest.approx(expected, rel=1e-3)
        assert peak == pytest.approx(float(chip.flops[dtype].value), rel=0.07)


def test_announced_ratios_of_trainium4() -> None:
    new, old = SHIPPED.chip("trn4"), SHIPPED.chip("trn3")
    assert new.announced
    assert new.flops["mxfp4"].value == pytest.approx(6 * float(old.flops["mxfp4"].value))
    assert new.flops["fp8"].value == pytest.approx(3 * float(old.flops["fp8"].value))
    assert new.hbm_bandwidth.value == pytest.approx(4 * float(old.hbm_bandwidth.value))
    assert new.hbm_capacity.value == 2 * float(old.hbm_capacity.value)
    assert new.tdp is None
    assert new.inherited["neuron.sbuf"] == "trn3"
    assert new.neuron is not None
    assert new.neuron.sbuf.status == "estimated"
    assert "inherited from trn3" in new.neuron.sbuf.note
    assert "hbm_bandwidth" not in new.inherited
    core, peak = new.neuron, float(new.flops["mxfp4"].value)
    rate = float(core.depth["mxfp4"].value) * float(core.columns_per_cycle["mxfp4"].value) * 128 * 2 * 2.4e9 * 8
    assert rate == pytest.approx(peak, rel=1e-3)


def test_conflicts_are_kept() -> None:
    trn3 = SHIPPED.chip("trn3")
    assert trn3.tdp is not None
    assert trn3.tdp_alternative is not None
    assert (trn3.tdp.value, trn3.tdp_alternative.value) == (1000.0, 700.0)
    assert [a.value for a in trn3.hbm_bandwidth.alternatives] == [4.7e12]
    assert SHIPPED.chip("trn1").hbm_bandwidth.value == 820e9
    levels = {level.name: level.bandwidth.value for level in SHIPPED.system("trn3-gen2").levels}
    assert (levels["sled"], levels["rack"], levels["ultraserver"]) == (256e9, 320e9, 128e9)


def test_fusion_rack_holds_two_pools() -> None:
    rack = SHIPPED.system("trn4-nvl")
    assert [(p.name, p.chip.name) for p in rack.pools] == [("prefill", "rubin"), ("decode", "trn4")]
    assert rack.pool("decode").chip.vendor == "AWS"
    assert totals(rack, 2)["hbm_capacity"] == pytest.approx(288e9 + 288 * 2**30)


def test_nobody_prints_a_price_of_trainium3() -> None:
    for name in ("trn3-gen1", "trn3-gen2", "trn3.3xlarge", "trn4", "trn4-nvl", "dgx-h100"):
        assert SHIPPED.price(name) is None
        assert SHIPPED.prices(name) == ()
    guess = SHIPPED.price_estimate("trn3-gen2")
    assert guess is not None
    assert guess.status == "estimated"
    assert SHIPPED.price_estimate("trn2") is None


def test_index_from_headers_is_that_of_the_parsed_files() -> None:
    for kind, folder in (("chip", "chips"), ("system", "systems"), ("price", "prices")):
        parsed = set()
        for path in (module.HERE / folder).glob("*.toml"):
            parsed |= set(tomllib.loads(path.read_text(encoding="utf-8")).get(kind, {}))
        assert parsed == {name for k, name in module._catalogue_index() if k == kind}


def test_aliases_lead_somewhere() -> None:
    for kind, names in (("chip", CHIPS), ("system", SYSTEMS)):
        aliases = module._aliases()[kind]
        assert set(aliases.values()) <= set(names)
        assert not set(aliases) & set(names)
