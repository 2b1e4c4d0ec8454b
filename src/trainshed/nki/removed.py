"""Names that older releases had in ``nki.language`` and ``nki.isa``: one sentence instead of a bare AttributeError.

Source: the vendor's migration guide.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
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


class UnknownNameError(NkiValidationError, AttributeError):
    """A name that a module never had."""


def removed(module: str, name: str, names: Iterable[str] = ()) -> AttributeError:
    """The error for a name a module lacks, with what takes its place where it once existed."""
    instead = REMOVED.get(module, {}).get(name)
    if instead is None:
        if name.startswith("__"):  # asked by Python itself
            return AttributeError(f"module {module!r} has no attribute {name!r}")
        near = difflib.get_close_matches(name, [*names, *REMOVED.get(module, {})], n=3)
        return UnknownNameError(
            f"{module}: name it does not have", where=str(source()), value=name, rule="unknown-name", at=source(),
            expected=f"one of {', '.join(near)}" if near else f"a name of {module}: dir({module.rpartition('.')[2]})",
        )  # fmt: skip
    return RemovedNameError(
        f"{module}.{name} is no longer part of NKI", where=str(source()), value=name, expected=instead, rule="removed",
        at=source(),
    )  # fmt: skip


def finder(module: str, names: Iterable[str]) -> Any:
    """A module's ``__getattr__``."""

    def __getattr__(name: str) -> Any:  # noqa: N807
        raise removed(module, name, [item for item in names if not item.startswith("_")])

    return __getattr__
