"""``nki.isa``."""

from nki_cpu_simulator.nki.isa import constants as constants
from trainshed.nki.isa import *  # noqa: F403
