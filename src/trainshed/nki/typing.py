"""``nki.typing``: annotations of kernels' parameters."""

from __future__ import annotations

from typing import Any

from trainshed.chip.tensor import NkiTensor


class _Annotated:
    """``tensor[shape]`` or ``tensor[shape, dtype]``: an annotation, checked by nobody."""

    def __init__(self, name: str) -> None:
        self.__name__ = name

    def __getitem__(self, shape: Any) -> Any:
        return NkiTensor

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return NkiTensor


tensor = _Annotated("tensor")
mutable_tensor = _Annotated("mutable_tensor")

__all__ = ["mutable_tensor", "tensor"]
