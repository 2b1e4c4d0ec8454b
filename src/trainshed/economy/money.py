"""Dollars and carbon. A price is per chip-hour; None goes through: what is unknown stays unknown."""

from __future__ import annotations

from trainshed.core import Constant, Cost, Number, formula

SECONDS_PER_HOUR = 3600.0
JOULES_PER_KWH = 3.6e6


def dollars(price: Constant | None, chips: Number, seconds: Number | Cost) -> Cost | None:
    """USD of ``chips`` for ``seconds`` at a price per chip-hour."""
    if price is None:
        return None
    return formula(
        "rent", "USD", "price * chips * seconds / hour", price=price, chips=chips, seconds=seconds,
        hour=SECONDS_PER_HOUR,
    )  # fmt: skip


def break_even(rival_price: Constant | None, rate: Number, rival_rate: Number) -> Cost | None:
    """USD per chip-hour at which a chip doing ``rate`` of work costs as much for it as the rival doing ``rival_rate``.

    Both rates are per chip (tokens per second per chip, say).
    """
    if rival_price is None:
        return None
    return formula("break-even price", "USD/h", "price * rate / rival", price=rival_price, rate=rate, rival=rival_rate)


def carbon(joules: Cost | None, intensity: Constant | None) -> Cost | None:
    """kgCO2 of electricity at a grid's intensity (``economy.grid``)."""
    if joules is None or intensity is None:
        return None
    return formula(
        "carbon", "kgCO2", "joules / kwh * intensity", joules=joules, kwh=JOULES_PER_KWH, intensity=intensity
    )
