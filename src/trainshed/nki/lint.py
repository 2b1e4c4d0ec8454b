"""Lint of NKI's language subset: what the vendor's compiler refuses, though Python and simulators run it.

``nki.simulate`` takes any Python (NKI simulator guide, "Simulation Limitations"); the compiler of NKI 0.2 to 0.6
reads kernels as a subset of it, and that of 0.7 traces them. ``lint`` names the constructs of a kernel that a
given version refuses, without running it.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import pkgutil
import textwrap
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from types import FunctionType
from typing import Any

from trainshed.chip import isa
from trainshed.core.errors import UserError
from trainshed.nki._lint_rules import RULES, Rule
from trainshed.nki._lint_scope import Module, nki_path
from trainshed.nki._lint_visit import Visitor, list_arguments

#: Positional parameters, destination first, of the instructions that need one.
_NEEDS: dict[str, tuple[str, ...]] = {}
#: Packages whose functions are not the kernel author's.
_NOT_USERS = ("trainshed", "nki", "neuronxcc", "numpy", "torch", "jax", "builtins", "math", "typing", "ml_dtypes")


@dataclass(frozen=True, kw_only=True)
class LintFinding:
    """One construct: where it is, what is wrong, what to write instead, and the page that says so."""

    rule: str
    level: str
    """``refused`` by the compiler, or ``warned``: taken, but deprecated or without effect."""
    file: str
    line: int
    column: int
    function: str
    what: str
    instead: str
    source: str

    def to_json(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.what}; write {self.instead} ({self.rule}; {self.source})"


#: Versions whose rules are known: Beta 1, and what the release notes of 0.6 announce of the next.
_OLDEST, _NEWEST = (0, 1), (0, 7)


def lint(
    target: str | Path | Callable[..., Any],
    *,
    version: str = "0.6",
    warnings: bool = False,
    filename: str = "<kernel>",
) -> tuple[LintFinding, ...]:
    """What the compiler of NKI ``version`` refuses in a kernel; with ``warnings`` also what it only warns of.

    ``target``: a kernel (linted with all it calls, in other files too), a path, or the text of a file, which
    findings call ``filename``; of a file every kernel and what it calls is looked at. Findings come by line.
    """
    if not _OLDEST <= _number(version) <= _NEWEST:
        raise UserError("NKI version", where="lint", value=version, expected="0.1 to 0.7")
    if callable(target):
        findings = _lint_function(target, version)
    elif isinstance(target, Path) or ("\n" not in target and target.endswith(".py")):
        path = Path(target)
        try:
            text = path.read_text()
        except OSError as error:
            raise UserError(
                "file to lint", where=str(path), value=error.strerror, expected="a readable Python file"
            ) from error
        findings = _lint_module(_parse(text, str(path)), version)
    else:
        findings = _lint_module(_parse(textwrap.dedent(target), filename), version)
    return tuple(item for item in findings if warnings or item.level == "refused")


def _parse(text: str, file: str) -> Module:
    try:
        return Module.parse(text, file)
    except SyntaxError as error:
        raise UserError(
            "Python", where=f"{file}:{error.lineno}", value=error.msg, expected="a file that Python reads"
        ) from error


def _lint_module(
    module: Module, version: str, seeds: set[str] | None = None, *, calls: bool = True
) -> list[LintFinding]:
    """Findings of one file, from the given functions on or from all of its kernel code."""
    found: dict[tuple[Any, ...], LintFinding] = {}
    function = ""

    def report(name: str, node: ast.AST, thing: str = "", instead: str = "", page: str = "") -> None:
        rule = RULES[name]
        if not _applies(rule, version):
            return
        line, column = getattr(node, "lineno", 0), getattr(node, "col_offset", 0)
        found.setdefault(
            (line, column, name),
            LintFinding(
                rule=name, level=rule.level, file=module.file, line=line, column=column + 1, function=function,
                what=rule.what.format(thing=thing), instead=rule.instead.format(thing=thing, instead=instead),
                source=rule.source.format(page=page),
            ),
        )  # fmt: skip

    for unit in module.reachable(module.seeds() if seeds is None else seeds):
        function = unit.name
        Visitor(module, unit, report, _missing).run()
    function = ""
    if calls:
        for node, thing in list_arguments(module):
            report("list-argument", node, thing)
    return [found[key] for key in sorted(found)]


def _applies(rule: Rule, version: str) -> bool:
    number = _number(version)
    return _number(rule.since) <= number and (rule.until is None or number < _number(rule.until))


def _number(version: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in version.split(".")[:2])
    except ValueError as error:
        raise UserError("NKI version", where="lint", value=version, expected="a number such as 0.6") from error


def _lint_function(target: Callable[..., Any], version: str) -> list[LintFinding]:
    """A kernel and the functions it calls, file by file."""
    start = _function(target)
    modules: dict[str, Module] = {}
    seeds: dict[str, set[str]] = {}
    spaces: dict[str, dict[str, Any]] = {}
    work, seen = [start], set()
    while work:
        function = work.pop()
        file = inspect.getsourcefile(function)
        if function.__code__ in seen or file is None:
            continue
        seen.add(function.__code__)
        if file not in modules:
            modules[file] = _parse(_text(function, file), file)
        seeds.setdefault(file, set()).add(function.__qualname__)
        spaces[file] = function.__globals__
        work.extend(_called(modules[file], seeds[file], function.__globals__))
    findings: list[LintFinding] = []
    for file, module in modules.items():
        findings += _lint_module(module, version, seeds[file], calls=False)
    return findings


def _function(target: Any) -> FunctionType:
    """The Python function of a kernel, of a grid of one, or of an object that is called."""
    given = target
    for _ in range(8):
        if isinstance(target, FunctionType):
            unwrapped: Any = inspect.unwrap(target)
            return unwrapped if isinstance(unwrapped, FunctionType) else target
        inner = [
            getattr(target, name, None) for name in ("__wrapped__", "__func__", "func", "kernel", "function", "fn")
        ]
        # Last, an object that is called: its class says what it does.
        inner.append(getattr(type(target), "__call__", None))  # noqa: B004 - the function, not whether it has one
        target = next((item for item in inner if callable(item)), None)
    raise UserError("kernel to lint", where="lint", value=type(given).__name__, expected="a function or a kernel")


def _text(function: FunctionType, file: str) -> str:
    try:
        lines, _ = inspect.findsource(function)
    except OSError as error:
        raise UserError("kernel to lint", where=file, value="no source", expected="a function from a file") from error
    return "".join(lines)


def _called(module: Module, seeds: set[str], space: dict[str, Any]) -> list[FunctionType]:
    """Functions of other files that kernel code of this one names."""
    functions: list[FunctionType] = []
    for unit in module.reachable(seeds):
        for node in ast.walk(unit.node):
            value = space.get(node.id) if isinstance(node, ast.Name) else None
            value = getattr(value, "func", value)
            if isinstance(value, FunctionType) and value.__globals__ is not space and _users(value.__module__):
                functions.append(value)
    return functions


def _users(module: str) -> bool:
    """Whether a module is part of a kernel's own code."""
    return module.split(".")[0] not in _NOT_USERS and not nki_path(module)


def _missing(name: str, call: ast.Call) -> str:
    """``dst`` when an instruction's call lacks its destination."""
    needs = _needs().get(name)
    if needs is None or any(isinstance(arg, ast.Starred) for arg in call.args):
        return ""
    given = {keyword.arg for keyword in call.keywords}
    if None in given or needs[0] in given:
        return ""
    # Positional arguments fill from the destination on: fewer of them than required parameters not named
    # otherwise means that the first is not the destination.
    return "dst" if len(call.args) + len(given & set(needs)) < len(needs) else ""


def _needs() -> dict[str, tuple[str, ...]]:
    """Required parameters of every instruction that writes a destination, from our own functions' signatures."""
    if not _NEEDS:
        for item in pkgutil.iter_modules(isa.__path__):
            module = importlib.import_module(f"{isa.__name__}.{item.name}")
            for name, function in vars(module).items():
                if isinstance(function, FunctionType) and function.__module__ == module.__name__:
                    required = tuple(
                        item.name for item in inspect.signature(function).parameters.values()
                        if item.default is item.empty and item.kind is item.POSITIONAL_OR_KEYWORD
                    )  # fmt: skip
                    if required and required[0].startswith("dst") and not name.startswith("_"):
                        _NEEDS[name] = required
    return _NEEDS
