"""``nki.tensor``: the tensor's class."""

from trainshed.chip.tensor import NkiTensor

__all__ = ["NkiTensor"]
