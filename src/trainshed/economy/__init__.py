"""Energy, power, dollars and carbon of what a run made the machine do."""

from trainshed.economy.energy import basis, dynamic, energy, facility, idle_power, overhead, power
from trainshed.economy.grid import grid, regions
from trainshed.economy.money import break_even, carbon, dollars

__all__ = [
    "basis", "break_even", "carbon", "dollars", "dynamic", "energy", "facility", "grid", "idle_power", "overhead",
    "power", "regions",
]  # fmt: skip
