"""Energy and dollars of a step: what ``economy`` says of its activity, time and chips."""

from __future__ import annotations

import numpy as np

from trainshed import economy
from trainshed.core import Constant, Cost, formula
from trainshed.hardware.schema import System
from trainshed.training.step import TrainingStep


def chip_energy(step: TrainingStep, system: System) -> Cost | None:
    """Joules of all chips over one step; None where no power is known."""
    ranks = np.asarray(step.plan.ranks, dtype=np.float64)
    return economy.energy(system.chip, step.activity, step.time, ranks=ranks, chips=step.chips)


def energy_per_token(step: TrainingStep, system: System) -> Cost | None:
    """Joules per token of chips, hosts and switches; None where no power is known."""
    chips, beside = chip_energy(step, system), economy.overhead(system, step.chips, step.time)
    if chips is None or beside is None:
        return None
    return formula("energy per token", "J", "(chips + beside) / tokens", chips=chips, beside=beside, tokens=step.tokens)


def power(step: TrainingStep, system: System) -> Cost | None:
    """Mean watts of the whole job."""
    joules = energy_per_token(step, system)
    if joules is None:
        return None
    return formula("power", "W", "joules * tokens / seconds", joules=joules, tokens=step.tokens, seconds=step.time)


def power_parts(step: TrainingStep, system: System) -> dict[str, Cost | None]:
    """Joules of one step: chips alone, hosts and switches, all of it at the building's meter (PUE counted)."""
    chips = chip_energy(step, system)
    return {
        "chips": chips, "hosts_and_switches": economy.overhead(system, step.chips, step.time),
        "facility": economy.facility(system, chips, step.chips, step.time),
    }  # fmt: skip


def dollars_per_token(step: TrainingStep, price: Constant | None) -> Cost | None:
    """Dollars per token at a price per chip-hour; None without one."""
    if price is None:
        return None
    return formula(
        "dollars per token", "USD", "chips * seconds / 3600 * price / tokens", chips=step.chips, seconds=step.time,
        price=price, tokens=step.tokens,
    )  # fmt: skip
