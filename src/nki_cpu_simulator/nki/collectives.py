"""``nki.collectives``."""

from trainshed.nki.collectives import *  # noqa: F403
