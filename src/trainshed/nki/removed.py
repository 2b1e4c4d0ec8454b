"""Names that older releases had in ``nki.language`` and ``nki.isa``: one sentence instead of a bare AttributeError.

Source: the vendor's migration guide.
"""

from __future__ import annotations

from typing import Any

from trainshed.chip.errors import NkiValidationError, source

_SLICES = "slices, nl.ds or .ap([[stride, count], …])"
_DYNAMIC = "nisa.tensor_copy of a view .ap(scalar_offset=…)"
REMOVED = {
    "nki.language": {
        "arange": _SLICES, "mgrid": _SLICES, "par_dim": "the first dimension, which is the partition",
        "loop_reduce": "an accumulator tile and nisa.tensor_tensor", "spmd_dim": "kernel[lnc]", "nc": "kernel[lnc]",
    },
    "nki.isa": {"tensor_copy_dynamic_src": _DYNAMIC, "tensor_copy_dynamic_dst": _DYNAMIC},
}  # fmt: skip


class RemovedNameError(NkiValidationError, AttributeError):
    """A name that this release of NKI no longer has; ``hasattr`` still answers no."""


def removed(module: str, name: str) -> AttributeError:
    """The error for a name a module lacks, with what takes its place where it once existed."""
    instead = REMOVED[module].get(name)
    if instead is None:
        return AttributeError(f"module {module!r} has no attribute {name!r}")
    return RemovedNameError(
        f"{module}.{name} is no longer part of NKI", where=str(source()), value=name, expected=instead, rule="removed",
        at=source(),
    )  # fmt: skip


def finder(module: str) -> Any:
    """A module's ``__getattr__``."""

    def __getattr__(name: str) -> Any:  # noqa: N807
        raise removed(module, name)

    return __getattr__
