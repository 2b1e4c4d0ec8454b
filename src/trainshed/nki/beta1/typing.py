"""``neuronxcc.nki.typing``: annotations, which say nothing at run time."""

from __future__ import annotations

from typing import Any


class tensor:  # noqa: N801 - the vendor's name
    """``nt.tensor`` and ``nt.tensor[128, 512]``."""

    def __class_getitem__(cls, shape: Any) -> type[tensor]:
        return cls


class mutable_tensor(tensor):  # noqa: N801 - the vendor's name
    """A tensor argument that the kernel writes."""


scalar = Any
