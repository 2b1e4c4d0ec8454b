"""A software twin of the AWS Trainium3 UltraServer: time, memory, energy and money of AI workloads.

Every function takes what the command of its name takes and returns the ``Result`` that the command prints.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from trainshed.app.api import (
        claims,
        collective,
        compare,
        explain,
        hardware_diff,
        hardware_list,
        hardware_show,
        models_list,
        models_show,
        plan,
        serve,
        train,
        validation,
    )

__version__ = "0.1.0"

__all__ = [
    "__version__", "claims", "collective", "compare", "explain", "hardware_diff", "hardware_list", "hardware_show",
    "models_list", "models_show", "plan", "replay", "serve", "train", "validation",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    """The functions, loaded when first used: a room alone (``trainshed.units``) imports nothing above it."""
    if name in __all__:
        from trainshed.app import api

        return getattr(api, name)
    raise AttributeError(f"module 'trainshed' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
