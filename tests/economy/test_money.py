"""Dollars, break-even prices and carbon."""

from __future__ import annotations

import pytest

from trainshed import economy
from trainshed.core import Constant, Cost, UserError, formula

PRICE = Constant(name="price/x", value=2.0, unit="USD/h", status="given", source="test")


def test_dollars() -> None:
    rent = economy.dollars(PRICE, 64, 1800.0)
    assert rent is not None
    assert rent.value == 64.0
    assert rent.used_constants() == {"price/x": PRICE}


def test_break_even_makes_both_cost_the_same_per_token() -> None:
    price = economy.break_even(PRICE, 300.0, 100.0)
    assert price is not None
    assert price.value / 300.0 == pytest.approx(float(PRICE.value) / 100.0)
    assert economy.break_even(None, 1.0, 1.0) is None


def test_carbon() -> None:
    joules: Cost = formula("energy", "J", "x", x=3.6e6)
    found = economy.carbon(joules, economy.grid("us-east-1"))
    assert found is not None
    assert found.value == pytest.approx(0.269)
    assert found.unit == "kgCO2"


def test_grids() -> None:
    assert economy.grid().value == pytest.approx(823.1 * 0.45359 / 1000, rel=2e-3)
    assert set(economy.regions()) >= {"us", "world", "us-east-2"}
    with pytest.raises(UserError, match=r"unknown grid: 'us-east-3'.*us-east"):
        economy.grid("us-east-3")
