"""The dtypes of ``nki.language``."""

from trainshed.numerics.formats import *  # noqa: F403
