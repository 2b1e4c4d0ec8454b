"""Energy by action: closed forms, the TDP, what stays unknown."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainshed import economy
from trainshed.core import Activity
from trainshed.hardware.catalogue import Catalogue

CATALOGUE = Catalogue()
WORK = Activity(
    macs={"bf16": 2e12, "fp8": 3e12}, vector=5e9, scalar=7e9, memory={"hbm": 11e9, "l2": 13e9}, links={"server": 17e9}
)


def test_is_the_sum_of_its_actions() -> None:
    chip = CATALOGUE.chip("h100")
    e = {k: float(c.value) for k, c in chip.energy.items()}
    scale = float(chip.fit("energy_scale").value)
    by_hand = 2e12 * e["mac.bf16"] + 3e12 * e["mac.fp8"] + 5e9 * e["vector"] + 7e9 * e["scalar"]
    by_hand += 11e9 * e["hbm"] + 13e9 * e["l2"] + 17e9 * e["link"]
    idle = economy.idle_power(chip)
    assert idle is not None
    found = economy.energy(chip, WORK, 0.5, ranks=4)
    assert found is not None
    assert found.value == pytest.approx(4 * 0.5 * float(idle.value) + 4 * by_hand * scale)
    watts = economy.power(chip, WORK, 0.5, ranks=4)
    assert watts is not None
    assert watts.value == pytest.approx(float(found.value) / 0.5)


def test_no_chip_draws_more_than_its_tdp() -> None:
    chip = CATALOGUE.chip("h100")
    found = economy.power(chip, WORK.scaled(100), 0.5, ranks=1)
    assert found is not None
    assert found.value == pytest.approx(700.0)


@pytest.mark.parametrize(
    ("name", "dtype"), [("h100", "bf16"), ("a100-80", "bf16"), ("b200", "fp8"), ("b200", "bf16"), ("trn2", "bf16")]
)
def test_full_rate_lands_near_the_tdp(name: str, dtype: str) -> None:
    """All products at peak, HBM at a third of its rate, unscaled constants: 0.8 to 1.25 of the TDP."""
    chip = CATALOGUE.chip(name)
    assert chip.tdp is not None
    assert chip.idle_power is not None
    macs = float(chip.flops[dtype].value) / 2 * float(chip.energy[f"mac.{dtype}"].value)
    hbm = float(chip.hbm_bandwidth.value) / 3 * float(chip.energy["hbm"].value)
    drawn = macs + hbm + float(chip.idle_power.value)
    assert 0.8 < drawn / float(chip.tdp.value) < 1.25


def test_trainium3_draws_less_than_either_tdp_allows_in_bf16() -> None:
    """Its constants come from the process alone: nothing here was fitted to 700 or 1,000 W."""
    old, new = CATALOGUE.chip("trn2"), CATALOGUE.chip("trn3")
    assert float(new.energy["mac.bf16"].value) == pytest.approx(0.61 * float(old.energy["mac.bf16"].value))
    assert float(new.energy["mac.fp8"].value) == pytest.approx(0.61 * float(old.energy["mac.fp8"].value), rel=0.02)
    assert "TDP" in new.energy["mac.bf16"].source


def test_neuron_ranks_fill_chips_at_their_lnc() -> None:
    chip = CATALOGUE.chip("trn2")
    idle = economy.idle_power(chip)
    assert idle is not None
    four = economy.energy(chip, Activity(), 2.0, ranks=4)
    spread = economy.energy(chip, Activity(), 2.0, ranks=4, chips=4)
    assert four is not None
    assert spread is not None
    assert four.value == pytest.approx(2 * float(idle.value))
    assert spread.value == pytest.approx(8 * float(idle.value))


def test_bytes_between_cores_cost_memory_not_links() -> None:
    chip = CATALOGUE.chip("trn3")
    inside = economy.dynamic(chip, Activity(links={"chip": 1e9}))
    outside = economy.dynamic(chip, Activity(links={"rack": 1e9}))
    ratio = float(chip.energy["hbm"].value) / float(chip.energy["link"].value)
    assert inside.value == pytest.approx(float(outside.value) * ratio)


def test_a_dtype_without_rate_runs_as_bf16() -> None:
    chip = CATALOGUE.chip("a100-80")
    fp8, bf16 = (economy.dynamic(chip, Activity(macs={d: 1e12})).value for d in ("fp8", "bf16"))
    assert fp8 == bf16


def test_unknown_stays_unknown() -> None:
    chip, system = CATALOGUE.chip("trn4"), CATALOGUE.system("inf2.xlarge")
    assert economy.energy(chip, WORK, 1.0, ranks=1) is None
    assert economy.power(chip, WORK, 1.0, ranks=1) is None
    assert economy.overhead(system, 16, 1.0) is None
    assert economy.facility(system, None, 16, 1.0) is None
    assert economy.carbon(None, economy.grid()) is None
    assert economy.dollars(CATALOGUE.price("trn3"), 144, 1.0) is None


def test_what_the_user_sets_stands_above_what_was_fitted() -> None:
    chip = Catalogue(given={"chip/h100-sxm.idle_power": 50.0}).chip("h100")
    assert "idle_power" in chip.fitted
    idle = economy.idle_power(chip)
    assert idle is not None
    assert idle.value == 50.0


def test_facility_is_everything_times_pue() -> None:
    system = CATALOGUE.system("trn2-ultra")
    joules = economy.energy(system.chip, Activity(), 10.0, ranks=256)
    total = economy.facility(system, joules, 64, 10.0)
    assert joules is not None
    assert total is not None
    assert total.value == pytest.approx((float(joules.value) + 64 * (150 + 40) * 10) * 1.15)


def test_arrays_broadcast() -> None:
    seconds = np.array([1.0, 2.0, 4.0])
    found = economy.energy(CATALOGUE.chip("a100-80"), WORK.scaled(np.array([1.0, 1.0, 2.0])), seconds, ranks=8)
    assert found is not None
    assert np.shape(found.value) == (3,)
    names = found.at(1).used_constants()
    assert "chip/a100-80.energy.mac.bf16" in names


@given(st.floats(1e-3, 1e3), st.floats(1e-3, 1e3))
def test_energy_is_additive_in_time_and_work(a: float, b: float) -> None:
    chip = CATALOGUE.chip("h100")
    parts = [economy.energy(chip, WORK.scaled(x), 100 * x, ranks=4) for x in (a, b)]
    whole = economy.energy(chip, WORK.scaled(a) + WORK.scaled(b), 100 * (a + b), ranks=4)
    assert whole is not None
    assert whole.value == pytest.approx(sum(float(p.value) for p in parts if p is not None))


def test_what_power_rests_on_is_said_with_its_status() -> None:
    system = CATALOGUE.system("trn3-gen2")
    said = {a.what: a for a in economy.basis(system.chip, system)}
    assert said["idle power of trn3"].status == "estimated"
    assert said["energy scale of trn3"].value == 1.0
    assert said["TDP of trn3"].value == 1000.0
    assert said["hosts of trn3-gen2, per chip"].source
    announced = CATALOGUE.system("trn4")
    assert economy.basis(announced.chip, announced) == ()
