"""``nki.typing``: annotations of kernels' parameters.

``nt.tensor[128, 512]`` declares the shape that a parameter expects; a size that is no number is not checked.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from trainshed.chip.errors import Source, violation
from trainshed.chip.tensor import NkiTensor


class Shaped:
    """``tensor`` or ``mutable_tensor``, or one of them with a shape."""

    def __init__(self, name: str, shape: tuple[Any, ...] | None = None) -> None:
        self.__name__ = name
        self.shape = shape

    def __getitem__(self, shape: Any) -> Shaped:
        return Shaped(self.__name__, shape if isinstance(shape, tuple) else (shape,))

    def __call__(self, *args: Any, **kwargs: Any) -> Shaped:
        return self

    def __repr__(self) -> str:
        return f"{self.__name__}{list(self.shape)}" if self.shape else self.__name__

    def fits(self, shape: tuple[int, ...]) -> bool:
        """Whether a tensor has the declared shape."""
        return self.shape is None or (
            len(shape) == len(self.shape)
            and all(size == want for size, want in zip(shape, self.shape, strict=True) if isinstance(want, int))
        )


tensor = Shaped("tensor")
mutable_tensor = Shaped("mutable_tensor")


def check_annotations(function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """Tensors have the shapes that a kernel's annotations declare."""
    declared = {name: kind for name, kind in getattr(function, "__annotations__", {}).items()
                if isinstance(kind, Shaped) and name != "return"}  # fmt: skip
    if not declared:
        return
    bound = inspect.signature(function).bind_partial(*args, **kwargs).arguments
    for name, kind in declared.items():
        given = bound.get(name)
        if isinstance(given, NkiTensor) and not kind.fits(given.shape):
            code = function.__code__
            raise violation(
                function.__name__, name, "shape", value=given.shape, expected=f"{kind}, as its annotation says",
                rule="annotation", at=Source(code.co_filename, code.co_firstlineno),
            )  # fmt: skip


__all__ = ["mutable_tensor", "tensor"]
