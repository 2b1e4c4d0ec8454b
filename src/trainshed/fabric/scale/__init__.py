"""Symmetry: sends, links and chips that cannot be told apart are one class, so that a million chips are a handful."""

from trainshed.fabric.scale.classes import Classes, Symmetric
from trainshed.fabric.scale.flat import flat_ring
from trainshed.fabric.scale.hierarchical import Scaled, fans, hierarchical
from trainshed.fabric.scale.together import Collective, Together, concurrent

__all__ = [
    "Classes",
    "Collective",
    "Scaled",
    "Symmetric",
    "Together",
    "concurrent",
    "fans",
    "flat_ring",
    "hierarchical",
]
