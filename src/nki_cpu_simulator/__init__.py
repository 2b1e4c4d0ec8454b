"""The module that AWS's kernel library expects of a simulator: Trainshed's under that name."""

from nki_cpu_simulator import nki

__all__ = ["nki"]
