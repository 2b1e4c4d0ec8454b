"""``nki.language``."""

from nki_cpu_simulator.nki.language import dtypes as dtypes
from trainshed.nki.language import *  # noqa: F403
from trainshed.nki.language import range as range
