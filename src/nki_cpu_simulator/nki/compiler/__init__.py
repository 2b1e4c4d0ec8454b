"""``nki.compiler``."""

from trainshed.nki.compiler import *  # noqa: F403
