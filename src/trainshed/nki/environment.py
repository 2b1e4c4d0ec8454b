"""The vendor's environment variables, read strictly when a kernel is launched: a value they do not have is an error.

Sources: the vendor's pages on ``nki.jit``, the simulator's guide ("Target platform", "Precise floating-point mode"),
the page on rounding modes; for ``NKI_COMPILER_FRONTEND`` the migration guide of NKI 0.6.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from typing import TypeVar

from trainshed.chip.core import Options, Target
from trainshed.chip.core import target as chip_target
from trainshed.chip.words import nc_version
from trainshed.core.errors import UserError, unknown_name

#: Names of generations in ``NEURON_PLATFORM_TARGET_OVERRIDE``, and as ``target=``.
TARGETS = {
    "trn1": "trn1", "inf2": "trn1", "gen2": "trn1", "trn2": "trn2", "gen3": "trn2", "trn3": "trn3", "gen4": "trn3",
}  # fmt: skip
_VERSIONS = {**TARGETS, "v2": "trn1", "v3": "trn2", "v4": "trn3", "2": "trn1", "3": "trn2", "4": "trn3"}
_GENERATIONS = "trn1, inf2 or gen2; trn2 or gen3; trn3 or gen4"
_FRONTENDS = {"parser": "parser", "tracer": "tracer"}
_SWITCH = {"0": False, "1": True}
T = TypeVar("T")


def read(variable: str, known: Mapping[str, T], default: T, expected: str = "") -> T:
    """A variable's meaning; an empty one is as one that is not set."""
    value = os.environ.get(variable, "")
    if not value:
        return default
    if value not in known:
        raise UserError("environment variable", where=variable, value=value, expected=expected or " or ".join(known))
    return known[value]


def default_target(name: str | None = None) -> Target:
    """The generation asked for, else the environment's, else Trainium3 (as the vendor's simulator)."""
    if name is None:
        name = read("NEURON_PLATFORM_TARGET_OVERRIDE", TARGETS, "", _GENERATIONS)
        name = name or read("NKI_NC_VERSION", _VERSIONS, "trn3", _GENERATIONS)
    if not isinstance(name, str):
        raise UserError("target", where="target", value=name, expected=_GENERATIONS)
    if name not in TARGETS:
        raise unknown_name("target", name, TARGETS, where="target")
    return chip_target(TARGETS[name])


def default_options(values: bool = True, quantize_rule: str | None = None) -> Options:
    """What the environment says of how to compute."""
    rules = {"0.4": "0.4", "0.5": "0.5"}
    rule = quantize_rule or read("TRAINSHED_QUANTIZE_RULE", rules, "0.5")
    if rule not in rules:
        raise UserError("scale rule of quantize_mx", where="quantize_rule", value=rule, expected="0.4 or 0.5")
    read("NKI_COMPILER_FRONTEND", _FRONTENDS, "parser")  # what a register shows, chip/registers.py, depends on it
    seed = os.environ.get("NEURON_RT_STOCHASTIC_ROUNDING_SEED", "0") or "0"
    if not seed.isdecimal():
        raise UserError("seed", where="NEURON_RT_STOCHASTIC_ROUNDING_SEED", value=seed, expected="a whole number")
    return Options(
        values=values,
        precise=read("NKI_PRECISE_FP", _SWITCH, True, "0 (floats stored as float32) or 1"),
        stochastic=read("NEURON_RT_STOCHASTIC_ROUNDING_EN", _SWITCH, False),
        seed=int(seed),
        quantize_rule=rule,
    )


def check_lnc(grid: tuple[int, ...] | None, target: Target) -> None:
    """The physical cores of a launch are ones a logical core can have, and those of ``NEURON_LOGICAL_NC_CONFIG``.

    Sources: "Using Logical Neuron Cores" (1 or 2; more than the architecture has is an error), the compiler's release
    notes (from Trainium2 on); ``nki.jit``: the LNC of the launch, 1 without brackets, must match the variable, where it
    is set. It is the kernel's launch that must, so that ``nki.simulate`` is asked the same.
    """
    configured = read("NEURON_LOGICAL_NC_CONFIG", {"1": 1, "2": 2}, 0, "1 or 2 (physical cores of a logical one)")
    cores = math.prod(grid or (1,))
    most = 1 if target.version < nc_version.gen3 else 2
    if cores > most:
        raise UserError(
            "physical cores of the launch", where="kernel[…]", value=cores,
            expected=f"{'1 or 2' if most == 2 else '1'}: cores of a logical NeuronCore of {target.chip}",
        )  # fmt: skip
    if configured and configured != cores:
        raise UserError(
            "physical cores of the launch", where="kernel[…]", value=cores,
            expected=f"{configured}, as NEURON_LOGICAL_NC_CONFIG says: kernel[{configured}]",
        )  # fmt: skip
