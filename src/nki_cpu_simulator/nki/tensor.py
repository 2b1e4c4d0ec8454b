"""``nki.tensor``."""

from trainshed.chip.tensor import NkiTensor

__all__ = ["NkiTensor"]
