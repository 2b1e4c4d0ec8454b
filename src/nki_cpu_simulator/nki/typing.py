"""``nki.typing``."""

from trainshed.nki.typing import *  # noqa: F403
