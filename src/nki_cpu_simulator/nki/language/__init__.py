"""``nki.language``."""

from trainshed.nki.language import *  # noqa: F403
