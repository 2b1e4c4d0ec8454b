"""Energy of chips: idle power for as long as the work takes, and what each action costs.

    joules = chips · idle · seconds + ranks · Σ count · energy per action · scale

The scale is one fitted number per chip (1 where nothing was measured). What a run draws on average cannot exceed the
chip's TDP: a chip that would is held there by its power management (the time is not lengthened; the answer says so by
the rule ``min``). Everything is None where the chip's idle power is unknown.
"""

from __future__ import annotations

import numpy as np

from trainshed.core import Activity, Assumption, Constant, Cost, Number, cheapest, formula, total
from trainshed.hardware.schema import Chip, System

#: Bytes that move between the cores of one chip cross its memory, not a SerDes.
ON_CHIP = "chip"


def ranks_per_chip(chip: Chip) -> float:
    """Ranks of one chip at its default LNC; 1 on GPUs and TPUs."""
    lnc = 1.0 if chip.lnc is None else float(chip.lnc.value)
    return float(chip.cores.value) / lnc


def _mac_energy(chip: Chip, dtype: str) -> Constant:
    """Energy of a product; a dtype that the chip has no rate for runs as bf16 or, on old GPUs, fp16."""
    for name in (dtype, "bf16", "fp16"):
        if f"mac.{name}" in chip.energy:
            return chip.energy[f"mac.{name}"]
    raise KeyError(f"{chip.name}: no energy of a {dtype} product")


def dynamic(chip: Chip, activity: Activity) -> Cost:
    """Joules of one rank's activity, idle power not counted."""
    parts = [
        formula(f"{dtype} products", "J", "macs * each", macs=macs, each=_mac_energy(chip, dtype))
        for dtype, macs in activity.macs.items()
    ]
    for what, count in (("vector", activity.vector), ("scalar", activity.scalar)):
        parts.append(formula(f"{what} elements", "J", "elements * each", elements=count, each=chip.energy[what]))
    parts += [
        formula(f"{level} traffic", "J", "size * each", size=size, each=chip.energy[level])
        for level, size in _memory(chip, activity).items()
    ]
    for level, size in activity.links.items():
        each = chip.energy["hbm" if level == ON_CHIP else "link"]
        parts.append(formula(f"{level} links", "J", "size * each", size=size, each=each))
    return formula("activity", "J", "actions * scale", actions=total("actions", parts, "J"), scale=_scale(chip))


def _memory(chip: Chip, activity: Activity) -> dict[str, Number]:
    """Bytes by memory level; on chips with an L2 what comes from HBM crosses it, counted there or not."""
    memory = dict(activity.memory)
    if "l2" in chip.energy and "hbm" in memory:
        memory.setdefault("l2", memory["hbm"])
    return memory


def _scale(chip: Chip) -> Constant:
    return chip.fit("energy_scale")


def idle_power(chip: Chip) -> Constant | None:
    """Watts of a chip that runs but computes nothing: the user's, else fitted under load, else its idle snapshot."""
    stated = chip.idle_power
    if "idle_power" not in chip.fitted or (stated is not None and stated.status == "given"):
        return stated
    return chip.fit("idle_power")


def energy(
    chip: Chip, activity: Activity, seconds: Number | Cost, *, ranks: Number, chips: Number | None = None
) -> Cost | None:
    """Joules of the chips: ``ranks`` that each did ``activity`` in ``seconds``; None where idle power is unknown.

    ``chips`` that were powered: by default those that the ranks fill at the chip's default LNC.
    """
    idle = idle_power(chip)
    if idle is None:
        return None
    chips = ranks / ranks_per_chip(chip) if chips is None else chips
    parts = [
        formula("idle", "J", "chips * idle * seconds", chips=chips, idle=idle, seconds=seconds),
        formula("dynamic", "J", "ranks * each", ranks=ranks, each=dynamic(chip, activity)),
    ]
    drawn = total("chips", parts, "J")
    if chip.tdp is None:
        return drawn
    limit = formula("at TDP", "J", "chips * tdp * seconds", chips=chips, tdp=chip.tdp, seconds=seconds)
    return cheapest("chips", [drawn, limit], "J")


def power(
    chip: Chip, activity: Activity, seconds: Number | Cost, *, ranks: Number, chips: Number | None = None
) -> Cost | None:
    """Average watts of the chips over ``seconds``, or None where idle power is unknown."""
    joules = energy(chip, activity, seconds, ranks=ranks, chips=chips)
    if joules is None:
        return None
    return formula("power", "W", "joules / seconds", joules=joules, seconds=seconds)


def overhead(system: System, chips: Number, seconds: Number | Cost) -> Cost | None:
    """Joules of hosts and switches beside the chips (no PUE), or None where nobody states their power."""
    host, switch = system.overhead.host, system.overhead.switch
    if host is None or switch is None:
        return None
    parts = [
        formula(what, "J", "chips * each * seconds", chips=chips, each=each, seconds=seconds)
        for what, each in (("hosts", host), ("switches", switch))
    ]
    return total("overhead", parts, "J")


def facility(system: System, joules: Cost | None, chips: Number, seconds: Number | Cost) -> Cost | None:
    """Joules at the building's meter: chips and overhead times the PUE; None where either is unknown."""
    beside = overhead(system, chips, seconds)
    if joules is None or beside is None:
        return None
    pue = system.overhead.pue
    return formula("facility", "J", "(chips + beside) * pue", chips=joules, beside=beside, pue=pue)


def basis(chip: Chip, system: System) -> tuple[Assumption, ...]:
    """What every figure of power and energy rests on, with status and source; nothing where no power is known."""
    idle = idle_power(chip)
    if idle is None:
        return ()
    product = "bf16" if "mac.bf16" in chip.energy else "fp16"
    constants = {
        f"idle power of {chip.name}": idle, f"energy scale of {chip.name}": _scale(chip),
        f"energy of a {product} product of {chip.name}": _mac_energy(chip, product), f"TDP of {chip.name}": chip.tdp,
        f"hosts of {system.name}, per chip": system.overhead.host,
        f"switches of {system.name}, per chip": system.overhead.switch,
    }  # fmt: skip
    return tuple(
        Assumption(what=what, value=float(np.max(c.value)), unit=c.unit, status=c.status, source=c.source)
        for what, c in constants.items()
        if c is not None
    )
