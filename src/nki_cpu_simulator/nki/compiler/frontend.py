"""``nki.compiler.frontend``."""

from trainshed.nki.compiler.frontend import *  # noqa: F403
