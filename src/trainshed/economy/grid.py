"""Carbon intensity of electricity by grid region, from ``grid.toml``."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from trainshed.core import Constant, unknown_name
from trainshed.core.load import read


@lru_cache(maxsize=1)
def _grids() -> dict[str, Constant]:
    root = read(Path(__file__).parent / "grid.toml")
    return {key: root.number(key, "kgCO2/kWh", name=f"grid/{key}") for key in root}


def regions() -> list[str]:
    """Names of the grids."""
    return list(_grids())


def grid(region: str = "us") -> Constant:
    """kgCO2 per kWh of a region's grid (location based: what the wires deliver, not what is bought)."""
    if region not in _grids():
        raise unknown_name("grid", region, _grids(), where="--grid")
    return _grids()[region]
