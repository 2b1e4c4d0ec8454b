"""The one clear sentence for what Beta 1 had and this does not run."""

from __future__ import annotations

from typing import Any

from trainshed.chip.errors import NkiValidationError, violation

_PAGE = "NKI migration guide, 0.1.0 to 0.2.0"


def refusal(what: str, instead: str) -> NkiValidationError:
    """The error: what was used, and what NKI 0.3 and later have in its place."""
    return violation(
        "neuronxcc.nki", "", f"{what} is not run here", value="NKI Beta 1",
        expected=f"in NKI 0.3 and later: {instead} ({_PAGE})", rule="beta1",
    )  # fmt: skip


class Absent:
    """Stands for a name of Beta 1 that is not run: naming it is free, using it is the error."""

    def __init__(self, name: str, instead: str) -> None:
        self._name, self._instead = name, instead

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        raise refusal(self._name, self._instead)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return Absent(f"{self._name}.{name}", self._instead)

    def __repr__(self) -> str:
        return f"<{self._name} of NKI Beta 1, not run here>"
