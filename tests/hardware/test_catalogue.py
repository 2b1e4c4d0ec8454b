"""Names, aliases, a user's own files, replaced values, prices."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from trainshed.core import UserError
from trainshed.hardware.catalogue import Catalogue
from trainshed.hardware.names import parse_set

Writer = Callable[[str], Path]

MINE = """
[sources]
me = { source = "my bench", status = "measured" }

[chip.my-chip]
title = "Mine"
base = "trn3"
previous = "trn3"
date = "2026-01-01"
hbm_bandwidth = { value = "6 TB/s", from = "me" }

[system.my-rack]
title = "My rack"
base = "trn3-gen2"
chip = "my-chip"
price = "my-price"

[price.my-price]
instance = "mine"
chips = 4
offers = [{ purchase = "on-demand", price = { value = "8 USD/h", from = "me" } }]

[set]
"chip/trn2.tdp" = "450 W"
"""


def test_names_and_aliases(catalogue: Catalogue) -> None:
    assert catalogue.chip("h100") is catalogue.chip("h100-sxm")
    assert catalogue.system("trn2.48xlarge").name == "trn2"
    assert catalogue.system("DGX-H100").name == "dgx-h100"
    assert "coreweave-h100" in catalogue.system("dgx-h100").aliases
    assert set(catalogue.systems()) < set(catalogue.systems(aliases=True))


@pytest.mark.parametrize(("wrong", "near"), [("trn3-gen3", "trn3-gen"), ("gb200nvl72", "gb200-nvl72")])
def test_unknown_system_names_the_nearest(catalogue: Catalogue, wrong: str, near: str) -> None:
    with pytest.raises(UserError, match=f"unknown system: '{wrong}'.*{near}"):
        catalogue.system(wrong)


def test_unknown_chip_names_the_nearest(catalogue: Catalogue) -> None:
    with pytest.raises(UserError, match=r"unknown chip: 'h10'.*h100"):
        catalogue.chip("h10")


def test_user_file_adds_a_chip_a_system_a_price_and_sets(user_toml: Writer) -> None:
    own = Catalogue(extra=[user_toml(MINE)])
    system = own.system("my-rack")
    assert system.chip.hbm_bandwidth.value == 6e12
    assert system.chip.hbm_bandwidth.status == "measured"
    assert system.chip.flops["bf16"].name == "chip/my-chip.flops.bf16"
    assert system.levels[1].bandwidth.name == "system/my-rack.sled.bandwidth"
    price = own.price("my-rack")
    assert price is not None
    assert price.value == 2.0
    tdp = own.chip("trn2").tdp
    assert tdp is not None
    assert (tdp.value, tdp.status) == (450.0, "given")
    assert Catalogue().chip("trn2").tdp != tdp


BOARD = """
[system.x]
title = "x"
source = "s"
ultraserver_chips = 4
pools = [{ chip = "trn3", chips = 4 }]
[[system.x.levels]]
name = "board"
chips = 4
topology = "mesh"
wires = WIRES
interconnect = "neuronlink-v4"
planes = { value = "2 count", source = "me", status = "measured" }
bandwidth = { value = "1 GB/s", source = "me", status = "measured" }
latency = { value = "1 us", source = "me", status = "measured" }
"""


def test_wires_and_planes_of_a_level(user_toml: Writer) -> None:
    text = BOARD.replace("WIRES", "[[0, 1, 2], [1, 2, 1], [2, 3, 1]]")
    level = Catalogue(extra=[user_toml(text)]).system("x").levels[0]
    assert level.wires == (0, 1, 2, 1, 2, 1, 2, 3, 1)
    assert level.planes is not None
    assert level.planes.value == 2
    assert Catalogue().system("trn2").levels[1].planes is None
    changed = Catalogue(overrides={"system/trn3-gen2.rack.planes": 4.0}).system("trn3-gen2").levels[2].planes
    assert changed is not None
    assert changed.value == 4


@pytest.mark.parametrize("wires", ["[[0, 4, 1]]", "[[0, 0, 1]]", "[[0, 1, 0]]", "[[0, 1]]", "[0, 1, 1]", "3"])
def test_wires_that_lead_nowhere(user_toml: Writer, wires: str) -> None:
    with pytest.raises(UserError, match=r"key system.x.levels.wires.*wires of a board.*of chips 0 to 3"):
        Catalogue(extra=[user_toml(BOARD.replace("WIRES", wires))]).system("x")


def test_carried_mechanisms_say_so(tmp_path: Path) -> None:
    own = Catalogue(overrides={"chip/trn2.fitted.energy_scale": 0.5})
    assert own.chip("trn2").fit("energy_scale").value == 0.5
    carried = own.chip("trn3").fit("energy_scale")
    assert carried.value == 0.5
    assert carried.name == "chip/trn3.fitted.energy_scale"
    assert carried.note.startswith("carried from trn2")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('[chip.x]\ntitle = "x"\nbase = "trn3"\ndate = ""\nhbm = 3\n', "unknown key: 'hbm'; expected one of hbm_"),
        ('[chip.x]\ntitle = "x"\ndate = ""\n', "missing key cores"),
        ('[chip.x]\ntitle = "x"\nbase = "trn9"\ndate = ""\n', "unknown chip: 'trn9'"),
        ('[system.x]\ntitle = "x"\nsource = "s"\nultraserver_chips = 4\n', "a system needs levels"),
        ('[system.x]\ntitle = "x"\nbase = "trn3-gen2"\noverhead = "wind"\n', "unknown overhead profile: 'wind'"),
        ('[system.x]\ntitle = "x"\nbase = "trn3-gen2"\npools = [{ chip = "trn3", chips = 0 }]\n', "at least 1"),
        ('[set]\n"chip/trn3.tpd" = "7 W"\n', "unknown number: 'chip/trn3.tpd'.*chip/trn3.tdp"),
        ('[set]\n"chip/trn3.tdp" = "700"\n', "a quantity needs a unit"),
        ("[chips.x]\n", "unknown key: 'chips'; expected one of chip"),
    ],
)
def test_mistakes_in_a_user_file(user_toml: Writer, text: str, words: str) -> None:
    def use() -> None:
        own = Catalogue(extra=[user_toml(text)])
        own.chip("x") if "[chip" in text else own.system("x")

    with pytest.raises(UserError, match=words):
        use()


def test_values_may_be_arrays(catalogue: Catalogue) -> None:
    column = np.array([[1e12], [2e12]])
    own = Catalogue(overrides={"chip/trn3.hbm_bandwidth": column})
    assert np.shape(own.system("trn3-gen2").chip.hbm_bandwidth.value) == (2, 1)
    assert own.chip("trn3").hbm_bandwidth.status == catalogue.chip("trn3").hbm_bandwidth.status


def test_unknown_numbers_may_be_set() -> None:
    own = Catalogue(given={"chip/trn4.idle_power": 90.0, "price/trn3-gen2": 4.2, "system/inf2.xlarge.host": 50.0})
    idle = own.chip("trn4").idle_power
    assert idle is not None
    assert (idle.value, idle.unit, idle.status) == (90.0, "W", "given")
    price = own.price("trn3")
    assert price is not None
    assert (price.value, price.status) == (4.2, "given")
    assert own.system("inf2.xlarge").overhead.host is not None
    assert own.price("trn3-gen1") is None


def test_prices_by_kind(catalogue: Catalogue) -> None:
    block, spot = catalogue.price("trn2"), catalogue.price("trn2", "spot")
    assert block is not None
    assert spot is not None
    assert block.value == pytest.approx(2.2350, abs=1e-3)
    assert "35.7608 USD/h for 16 chips of trn2.48xlarge" in block.note
    assert spot.value == pytest.approx(15.0887 / 16)
    assert catalogue.price("trn2", "on-demand") is None
    kinds = [p.purchase for p in catalogue.prices("p5en")]
    assert kinds == ["capacity-block", "capacity-block", "on-demand", "spot"]
    p6e = catalogue.price("p6e-gb200")
    assert p6e is not None
    assert p6e.value == pytest.approx(10.582, abs=1e-3)


@pytest.mark.parametrize(
    ("text", "name", "value"),
    [
        ("chip.hbm_bandwidth=5.2TB/s", "chip/trn3.hbm_bandwidth", 5.2e12), ("chip/trn3.tdp=700W", "chip/trn3.tdp", 700),
        ("price=4.2USD/h", "price/trn3-gen2", 4.2),
        ("system.rack.bandwidth=500 GB/s", "system/trn3-gen2.rack.bandwidth", 5e11),
        ("system.pue = 1.2", "system/trn3-gen2.pue", 1.2), ("chip.flops.bf16=1PFLOP/s", "chip/trn3.flops.bf16", 1e15),
        ("chip.neuron.tensor_clock=2 GHz", "chip/trn3.neuron.tensor_clock", 2e9),
        ("chip.energy.hbm=4pJ/bit", "chip/trn3.energy.hbm", 32e-12),
        ("chip.fitted.hbm_efficiency=80%", "chip/trn3.fitted.hbm_efficiency", 0.8),
        ("chip.neuron.depth.bf16=128", "chip/trn3.neuron.depth.bf16", 128),
        ("chip.energy.mac.bf16=1pJ/MAC", "chip/trn3.energy.mac.bf16", 1e-12),
        ("chip.energy.vector=1pJ/element", "chip/trn3.energy.vector", 1e-12),
        ("interconnect/nvlink4.hop=1us", "interconnect/nvlink4.hop", 1e-6),
        ("system.network.latency=0 s", "system/trn3-gen2.network.latency", 0.0),
    ],
)  # fmt: skip
def test_set(catalogue: Catalogue, text: str, name: str, value: float) -> None:
    assert parse_set(text, catalogue.system("trn3-gen2")) == {name: pytest.approx(value)}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("chip.hbm_bandwith=5.2TB/s", "unknown number.*hbm_bandwidth"), ("chip.tdp=700", "needs a unit"),
        ("chip.tdp=-7W", "not negative"), ("chip.tdp=0W", "must be positive"), ("chip.tdp=7 GB", "not this kind"),
        ("chip.tdp", "not a setting"), ("price=4", "needs a unit"), ("tdp=7W", "not the name of a number"),
        ("system.rck.bandwidth=1GB/s", "unknown number: 'rck.bandwidth'.*rack.bandwidth"),
        ("node/x.y=3", "unknown number"), ("interconnect/nvlink4.hob=1us", "hop"), ("chip/trn3=7 W", "not the name"),
    ],
)  # fmt: skip
def test_bad_sets(catalogue: Catalogue, text: str, words: str) -> None:
    with pytest.raises(UserError, match=words):
        parse_set(text, catalogue.system("trn3-gen2"))


def test_set_reaches_every_chip_of_a_mixed_rack(catalogue: Catalogue) -> None:
    values = parse_set("chip.hbm_bandwidth=30TB/s", catalogue.system("trn4-nvl"))
    assert set(values) == {"chip/rubin.hbm_bandwidth", "chip/trn4.hbm_bandwidth"}


def test_the_example_of_the_documentation_loads(user_toml: Writer) -> None:
    page = (Path(__file__).parents[2] / "docs" / "adding-a-chip.md").read_text(encoding="utf-8")
    own = Catalogue(extra=[user_toml(page.split("```toml\n")[1].split("```")[0])])
    rack = own.system("fast-rack")
    assert rack.chip.hbm_bandwidth.value == 6e12
    assert rack.chip.tdp is None
    assert own.system("trn3-gen2").levels[2].bandwidth.value == 523e9
    price = own.price("fast-rack")
    assert price is not None
    assert price.value == 4.25
