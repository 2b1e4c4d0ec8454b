"""Calls that fit no signature of ours: Python's TypeError made one sentence with the kernel's line.

Nothing is wrapped: Python raises such an error in the caller's frame, which is looked at once, when a kernel fails.
Most come from kernels of NKI Beta 1, whose instructions returned their result and took masks.

Source: NKI migration guide, 0.1.0 to 0.2.0.
"""

from __future__ import annotations

import ast
import inspect
import linecache
import os
import re
import textwrap
import traceback
from collections.abc import Callable, Iterable
from types import CodeType, FrameType, FunctionType, TracebackType
from typing import Any

import numpy as np

from trainshed.chip import tensor
from trainshed.chip.errors import NkiValidationError, Source, ours
from trainshed.core.errors import UserError
from trainshed.nki import collectives, isa, language
from trainshed.nki._lint_rules import PARAMETERS

_SAID = re.compile(
    r"(?P<name>[\w.<>]+)\(\) (?P<what>(?:missing \d|got an unexpected|got multiple|takes \d|takes from \d).*)",
    re.DOTALL,
)
_KEYWORD = re.compile(r"got an unexpected keyword argument '(\w+)'")
_NUMPY, _PYTHON = os.path.dirname(np.__file__) + os.sep, os.path.dirname(os.__file__) + os.sep
_PAGE = "NKI migration guide, 0.1.0 to 0.2.0"


class BadCallError(NkiValidationError, TypeError):
    """A call that does not fit a function of NKI."""


def bad_call(error: TypeError) -> BadCallError | None:
    """The sentence for a call of one of our functions that its signature does not take; None for any other error."""
    said, last = _SAID.fullmatch(str(error)), _last(error.__traceback__)
    if said is None or last is None or ours(last.tb_frame.f_code.co_filename):
        return None
    function = _function(last, said["name"])
    if function is None:
        return None
    module = "nki.isa" if function.__module__.startswith("trainshed.chip.isa") else _public(function.__module__)
    name = function.__qualname__ if "<" not in function.__qualname__ else function.__name__
    at = Source(last.tb_frame.f_code.co_filename, last.tb_lineno)
    return BadCallError(
        f"{name}: call", where=str(at), value=said["what"], expected=_expected(module, name, function, said["what"]),
        rule="call", at=at,
    )  # fmt: skip


class BadArgumentError(NkiValidationError, TypeError, ValueError):
    """An argument that a function of NKI can do nothing with."""


def bad_argument(error: Exception) -> BadArgumentError | None:
    """The sentence for an error of Python's inside one of our functions, which a kernel called; None for any other.

    Most wrong arguments have a sentence of their own. This is for the rest: a traceback says nothing to who wrote the
    kernel.
    """
    if isinstance(error, UserError) or _SAID.fullmatch(str(error)):
        return None
    kernel: Source | None = None
    function: FrameType | None = None
    for frame, line in traceback.walk_tb(error.__traceback__):
        file = frame.f_code.co_filename
        if ours(file):
            function = function or frame
        elif not _library(file):
            kernel, function = Source(file, line), None
    if (
        kernel is None
        or function is None
        or function.f_code.co_name == "__getattr__"
        or str(error).startswith(f"{kernel}: ")
    ):
        return None
    # Functions of one code, made by another function, know themselves by the name "function".
    same = [item for item in _known() if item.__code__ is function.f_code]
    itself = function.f_locals.get("function") if len(same) > 1 else None
    known = next((item for item in same if item is itself), same[0] if same else None)
    name = function.f_code.co_name if known is None else known.__name__
    shown = f"{name}({', '.join(inspect.signature(known).parameters)})" if known is not None else "what it can take"
    return BadArgumentError(
        f"{name}: arguments", where=str(kernel), value=f"{type(error).__name__}: {error}", expected=shown,
        rule="argument", at=kernel,
    )  # fmt: skip


def _library(file: str) -> bool:
    """Whether a file is NumPy's or Python's own."""
    if file.startswith((_NUMPY, "<frozen ", "<__array_function__")):
        return True
    return file.startswith(_PYTHON) and "-packages" + os.sep not in file


def _public(module: str) -> str:
    return ".".join(module.removeprefix("trainshed.").split(".")[:2])


def _expected(module: str, name: str, function: Callable[..., Any], what: str) -> str:
    """What to write: the signature, and what changed since Beta 1 where that is the cause."""
    parameters = [p for p in inspect.signature(function).parameters.values() if p.name not in ("self", "_")]
    shown = ", ".join(p.name if p.default is p.empty and p.kind < p.KEYWORD_ONLY else f"{p.name}=…" for p in parameters)
    signature = f"{name}({shown})"
    keyword = _KEYWORD.match(what)
    if keyword is not None:
        other = PARAMETERS.get((f"{module}.{name}", keyword[1]))
        if other is not None:
            return other
        if keyword[1] == "mask":
            return f"slices that end at min(size, start + step), for masks are Beta 1's ({_PAGE}): {signature}"
        if keyword[1] == "dtype" and module == "nki.isa":
            return f"the dtype of the destination, for nothing is returned: {signature}"
    if module == "nki.isa" and parameters and parameters[0].name == "dst" and not keyword:
        return f"the destination first, for only Beta 1's instructions returned a tile ({_PAGE}): {signature}"
    return signature


def _last(traceback: TracebackType | None) -> TracebackType | None:
    while traceback is not None and traceback.tb_next is not None:
        traceback = traceback.tb_next
    return traceback


def _function(last: TracebackType, said: str) -> FunctionType | None:
    """The function of ours that was called, as the line names it; by its own name where the line cannot be read."""
    called = _named(last)
    if called is None:
        known = (item for item in _known() if item.__qualname__ == said)
        return next(known, None)
    called = inspect.unwrap(getattr(called, "__func__", called))
    mine = isinstance(called, FunctionType) and ours(called.__code__.co_filename)
    return called if mine and called.__qualname__ == said else None


def _known() -> Iterable[FunctionType]:
    for space in (isa, language, collectives, tensor.NkiTensor):
        for item in vars(space).values():
            if isinstance(item, FunctionType) and ours(item.__code__.co_filename):
                yield item


def _named(last: TracebackType) -> Any:
    """What the call that failed names, where it is a name or attributes of one; None where that is unknown."""
    frame = last.tb_frame
    node = _call(frame.f_code, last.tb_lasti)
    names: list[str] = []
    while isinstance(node, ast.Attribute):
        names.append(node.attr)
        node = node.value
    if not isinstance(node, ast.Name):
        return None
    found = _variable(frame, node.id)
    for name in reversed(names):
        found = getattr(found, name, None)
    return getattr(found, "func", found)  # of functools.partial


def _variable(frame: FrameType, name: str) -> Any:
    return frame.f_locals.get(name, frame.f_globals.get(name))


def _call(code: CodeType, lasti: int) -> ast.expr | None:
    """What the call at an instruction calls."""
    first, last, start, end = list(code.co_positions())[lasti // 2]
    if first is None or last is None or start is None or end is None:
        return None
    lines = [linecache.getline(code.co_filename, number).encode() for number in range(first, last + 1)]
    lines[-1] = lines[-1][:end]
    lines[0] = lines[0][start:]
    try:
        tree = ast.parse(textwrap.dedent(b"".join(lines).decode()), mode="eval").body
    except (SyntaxError, UnicodeDecodeError):
        return None
    return tree.func if isinstance(tree, ast.Call) else None
