"""The library: every reference kernel by name."""

from __future__ import annotations

from trainshed.kernels import attention, gemm_references, mlp, moe, rowwise_references
from trainshed.kernels.reference import Reference

#: The rooms that have kernels, each with a tuple ``REFERENCES``.
_ROOMS = (gemm_references, rowwise_references, attention, mlp, moe)


def library() -> dict[str, Reference]:
    """All kernels of the library, in the order of their rooms."""
    return {one.name: one for room in _ROOMS for one in room.REFERENCES}
