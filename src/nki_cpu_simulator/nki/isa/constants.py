"""``nki.isa.constants``."""

from trainshed.nki.isa.constants import *  # noqa: F403
