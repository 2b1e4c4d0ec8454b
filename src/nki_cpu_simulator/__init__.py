"""The module that AWS's kernel library expects of a simulator: Trainshed's under that name."""

from nki_cpu_simulator import nki
from nki_cpu_simulator.nki import cpu_simulate

__all__ = ["cpu_simulate", "nki"]
