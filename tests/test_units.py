"""Quantities: the everyday table against pint, and what is refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainshed import units


@pytest.mark.parametrize(
    ("text", "unit", "value"),
    [
        ("4.9 TB/s", "B/s", 4.9e12), ("820 GiB/s", "B/s", 820 * 2**30), ("200 Gbit/s", "B/s", 25e9),
        ("3.2 Tbps", "B/s", 4e11), ("5.2TB/s", "B/s", 5.2e12), ("989.4 TFLOP/s", "FLOP/s", 989.4e12),
        ("2.4 GHz", "Hz", 2.4e9), ("189 ns", "s", 189e-9), ("15 us", "s", 15e-6), ("2 h", "s", 7200.0),
        ("5 pJ/bit", "J/B", 40e-12), ("1.1 pJ/MAC", "J/MAC", 1.1e-12), ("1 kWh", "J", 3.6e6), ("60 %", "1", 0.6),
        ("8", "count", 8.0), ("100 USD/day", "USD/h", 100 / 24), ("823 gCO2/kWh", "kgCO2/kWh", 0.823),
        ("1_000_000 B", "B", 1e6), ("1e3 W", "W", 1e3), (".5 kW", "W", 500.0), ("0 s", "s", 0.0),
    ],
)  # fmt: skip
def test_reads(text: str, unit: str, value: float) -> None:
    assert units.parse(text, unit) == pytest.approx(value, rel=1e-12)


@pytest.mark.parametrize(
    ("text", "unit", "what"),
    [
        ("4.9", "B/s", "needs a unit"), ("-3 W", "W", "not negative"), ("4.9 TB", "B/s", "not this kind"),
        ("8 Gbit", "B/s", "not this kind"), ("seven", "s", "not a quantity"), ("", "s", "not a quantity"),
        ("3 furlongs", "s", "not this kind"), ("3 ((", "s", "not this kind"), ("1 FLOP/s", "Hz", "not this kind"),
        ("nan W", "W", "not a quantity"), ("1e400 W", "W", "finite"),
    ],
)  # fmt: skip
def test_refuses(text: str, unit: str, what: str) -> None:
    with pytest.raises(units.UnitError, match=what):
        units.parse(text, unit)


def test_everyday_table_agrees_with_the_units_library(monkeypatch: pytest.MonkeyPatch) -> None:
    table = dict(units._FACTORS)
    monkeypatch.setattr(units, "_FACTORS", {})
    units.factor.cache_clear()
    for (spelling, unit), factor in table.items():
        assert units.factor(spelling, unit) == pytest.approx(factor, rel=1e-12), (spelling, unit)


def test_unit_of_a_text() -> None:
    assert units.spelled("4.9 TB/s") == "TB/s"
    assert units.base_of("us", ("B", "s")) == "s"
    assert units.base_of("parsec", ("B", "s")) is None


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (4.9e12, "B/s", "4.9 TB/s"), (2.517e15, "FLOP/s", "2.52 PFLOP/s"), (1.5e-6, "s", "1.5 µs"), (90.0, "s", "90 s"),
        (7200.0, "s", "7,200 s"), (0.0, "W", "0 W"), (700.0, "W", "700 W"), (999.9, "W", "1 kW"),
        (0.61e-12, "J/MAC", "610 fJ/MAC"),
        (2.235, "USD/h", "2.235 USD/h"), (0.953, "1", "0.953"), (999936.0, "count", "999,936"),
    ],
)  # fmt: skip
def test_prints(value: float, unit: str, text: str) -> None:
    assert units.format(value, unit) == text


@given(st.floats(min_value=1e-14, max_value=1e18))
def test_print_and_read_back(value: float) -> None:
    for unit in ("B/s", "FLOP/s", "J"):
        assert units.parse(units.format(value, unit), unit) == pytest.approx(value, rel=6e-3)


def test_infinite_values_print() -> None:
    assert units.format(float("inf"), "s") == "inf s"
