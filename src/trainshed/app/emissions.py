"""Carbon of an answer: its energy at the building's meter on a stated grid."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from trainshed import economy
from trainshed.core import Assumption, Result, formula

TOKENS = 1e6


def with_carbon(result: Result, region: str) -> Result:
    """The result with ``carbon_kg_per_million_tokens``; null where no power is known."""
    figures: Any = result.result
    watts = (figures.get("power_breakdown_w") or {}).get("facility")
    intensity = economy.grid(region)
    joules = None
    if watts is not None and figures["tokens_per_s"]:
        joules = formula(
            "energy at the meter", "J", "watts / rate * tokens", watts=watts, rate=figures["tokens_per_s"],
            tokens=TOKENS,
        )  # fmt: skip
    carbon = economy.carbon(joules, intensity)
    said = Assumption(
        what=f"grid ({region})", value=float(intensity.value), unit=intensity.unit, status=intensity.status,
        source=intensity.source,
    )  # fmt: skip
    kilograms = None if carbon is None else float(carbon.value)
    return replace(
        result, result={**figures, "carbon_kg_per_million_tokens": kilograms}, assumptions=(*result.assumptions, said)
    )
