"""Errors a user can make, each told in one sentence.

TrainshedError
├── UserError          the user's mistake: exit code 2
│   └── PlanError      a plan that does not divide or does not exist
└── ResultError        a result that fails what was required of it: exit code 1
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class TrainshedError(Exception):
    """Everything Trainshed raises on purpose."""


class UserError(TrainshedError):
    """A mistake in what the user gave: what is wrong, where, the value, and what would be right."""

    def __init__(self, what: str, *, where: str, value: object, expected: str) -> None:
        self.what, self.where, self.value, self.expected = what, where, value, expected
        super().__init__(f"{where}: {what}: {value!r}; expected {expected}.")

    def to_json(self) -> dict[str, object]:
        """The ``error`` object of the command line's JSON."""
        value = self.value if isinstance(self.value, str | int | float | bool | type(None)) else repr(self.value)
        return {"what": self.what, "where": self.where, "value": value, "expected": self.expected}


class PlanError(UserError):
    """A plan that cannot run on what it is given."""


class ResultError(TrainshedError):
    """A result that misses what the user required (``--require``, does not fit)."""


def unknown_name(kind: str, name: str, known: Iterable[str], *, where: str) -> UserError:
    """The error for a name that does not exist, with the nearest one that does."""
    names = sorted(set(known))
    near = difflib.get_close_matches(name, names, n=3, cutoff=0.4)
    hint = f"one of {', '.join(near)}" if near else f"one of {', '.join(names[:12])}{', …' if len(names) > 12 else ''}"
    return UserError(f"unknown {kind}", where=where, value=name, expected=hint)


def not_installed(library: str, *, extra: str, where: str) -> UserError:
    """The error for an optional library that is asked for but absent."""
    return UserError("not installed", where=where, value=library, expected=f"pip install 'trainshed[{extra}]'")
