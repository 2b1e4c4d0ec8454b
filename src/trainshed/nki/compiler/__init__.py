"""``nki.compiler``: what kernels import from the compiler, where nothing is compiled."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def skip_middle_end_transformations(function: Callable[..., Any]) -> Callable[..., Any]:
    """A hint to the vendor's compiler: no change here."""
    return function


def enable_stack_allocator(function: Callable[..., Any] | None = None, **_: Any) -> Any:
    """A hint to the vendor's compiler: no change here."""
    return (lambda f: f) if function is None else function


__all__ = ["enable_stack_allocator", "skip_middle_end_transformations"]
