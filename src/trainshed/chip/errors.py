"""What a kernel does wrong, told in one sentence with the kernel's own file and line."""

from __future__ import annotations

import os
import sys
from functools import cache
from typing import NamedTuple

from trainshed.core.errors import UserError

_PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep
#: Kernels that come with Trainshed are kernels as any user's: what they do is told with their lines.
_KERNELS = _PACKAGE + "kernels" + os.sep


class Source(NamedTuple):
    """A line of the user's kernel."""

    file: str
    line: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


@cache
def ours(file: str) -> bool:
    """Whether a file is Trainshed's own."""
    return file.startswith(_PACKAGE) and not file.startswith(_KERNELS)


def source() -> Source:
    """The innermost line that is not Trainshed's own."""
    frame = sys._getframe(1)
    while frame is not None and ours(frame.f_code.co_filename):
        if frame.f_back is None:
            break
        frame = frame.f_back
    return Source(frame.f_code.co_filename, frame.f_lineno)


class NkiValidationError(UserError):
    """A rule of the hardware or of the language that a kernel breaks.

    ``rule`` is a short stable name of the rule (``start-partition``, ``uninitialised-read``, ``sbuf-capacity``, …).
    """

    def __init__(
        self, what: str, *, where: str, value: object, expected: str, rule: str, at: Source | None = None
    ) -> None:
        super().__init__(what, where=where, value=value, expected=expected)
        self.rule, self.source = rule, at


def violation(
    instruction: str, operand: str, what: str, *, value: object, expected: str, rule: str, at: Source | None = None
) -> NkiValidationError:
    """The error for one broken rule: ``kernel.py:12: nc_matmul, moving: free size: 600; expected at most 512.``"""
    at = at or source()
    subject = f"{instruction}, {operand}" if operand else instruction
    return NkiValidationError(f"{subject}: {what}", where=str(at), value=value, expected=expected, rule=rule, at=at)
