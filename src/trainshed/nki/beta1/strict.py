"""Words that a function of Beta 1 does not have are errors; those that choose nothing here are taken.

Beta 1's signatures end in ``**kwargs``: a word spelt wrong would be lost in it. Source: the Beta-1 type stubs.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from types import FunctionType
from typing import Any

from trainshed.chip.errors import violation

#: What calls may say to the compiler besides a function's own parameters; no value depends on them.
HINTS = frozenset(
    ["alignment", "buffer", "dge_mode", "directives", "dtype", "engine", "is_moving_onezero", "is_stationary_onezero",
     "is_transpose", "lazy_initialization", "mask", "multi_buffer", "name", "oob_mode", "tile_position", "tile_size"]
)  # fmt: skip


def strict(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function, which refuses every word that is neither a parameter nor a hint."""
    parameters = inspect.signature(function).parameters.values()
    own = [item.name for item in parameters if item.kind is not item.VAR_KEYWORD]
    known = HINTS.union(own)

    @functools.wraps(function)
    def checked(*args: Any, **words: Any) -> Any:
        if not known.issuperset(words):
            word = next(word for word in words if word not in known)
            raise violation(
                function.__name__, word, "argument the function does not have", value=words[word], rule="call",
                expected=f"{function.__name__}({', '.join(own)})",
            )  # fmt: skip
        return function(*args, **words)

    return checked


def strictly(module: dict[str, Any]) -> dict[str, Any]:
    """Those functions of a module that take any word, made strict."""
    return {
        name: strict(item)
        for name, item in module.items()
        if isinstance(item, FunctionType)
        and not name.startswith("_")
        and item.__module__.startswith("trainshed.nki.beta1")
        and any(p.kind is p.VAR_KEYWORD for p in inspect.signature(item, follow_wrapped=False).parameters.values())
    }
