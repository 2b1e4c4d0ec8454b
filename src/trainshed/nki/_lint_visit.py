"""Walks kernel code and finds what ``_lint_rules`` names."""

from __future__ import annotations

import ast
import builtins
import inspect
from collections.abc import Callable, Iterator
from enum import Enum

from trainshed.chip import words
from trainshed.nki import isa
from trainshed.nki._lint_rules import (
    BASES,
    BUILTINS,
    DECORATORS,
    DISCOURAGED,
    LIBRARY,
    MIGRATION,
    PACKAGES,
    PARAMETERS,
    REMOVED,
)
from trainshed.nki._lint_scope import Function, Module, Unit, whole

#: ``report(rule, node, thing, instead="", page="")``
Report = Callable[..., None]
#: Instructions that need a destination: name and how many positional arguments go before none is missing.
Arity = Callable[[str, ast.Call], str]

_STATEMENTS: dict[type[ast.AST], tuple[str, str]] = {
    ast.Try: ("try", ""), ast.TryStar: ("try", ""), ast.Raise: ("raise", ""), ast.Import: ("import", ""),
    ast.ImportFrom: ("import", ""), ast.Global: ("global", "global"), ast.Nonlocal: ("global", "nonlocal"),
    ast.Delete: ("del", ""), ast.Match: ("match", ""), ast.AsyncFor: ("async", ""), ast.AsyncWith: ("async", ""),
    ast.AsyncFunctionDef: ("async", ""),
}  # fmt: skip
_EXPRESSIONS: dict[type[ast.AST], tuple[str, str]] = {
    ast.Lambda: ("lambda", ""), ast.ListComp: ("comprehension", "list comprehension"),
    ast.SetComp: ("comprehension", "set comprehension"), ast.DictComp: ("comprehension", "dict comprehension"),
    ast.GeneratorExp: ("comprehension", "generator expression"), ast.Yield: ("generator", ""),
    ast.YieldFrom: ("generator", ""), ast.Await: ("async", ""), ast.NamedExpr: ("walrus", ""), ast.Set: ("set", ""),
}  # fmt: skip
_LOOPS = ("nki.language.fori_loop", "nki.language.while_loop")
_ENUMS: dict[str, type[Enum]] = {
    "dge_mode": words.dge_mode, "oob_mode": words.oob_mode, "engine": words.engine, "reduce_cmd": words.reduce_cmd,
    "perf_mode": words.matmul_perf_mode, "dma_engine": words.dma_engine,
}  # fmt: skip


class Visitor(ast.NodeVisitor):
    """One function or class of kernel code."""

    def __init__(self, module: Module, unit: Unit, report: Report, missing: Arity) -> None:
        self.module, self.unit, self.report, self.missing = module, unit, report, missing
        self.registers: set[str] = set()
        self.tensors: dict[str, ast.Call] = {}
        self.dynamic = 0
        self.static = 0
        self.reorder = 0
        self.bodies: set[str] = set()
        self.locals: set[str] = set()
        self.numbers: dict[str, int] = {}
        self.beta1 = False

    def run(self) -> None:
        node = self.unit.node
        if isinstance(node, ast.ClassDef):
            self._class(node)
            return
        self.bodies = _loop_bodies(self.module, node)
        args = node.args
        self.locals = {a.arg for a in (*args.posonlyargs, *args.args, *args.kwonlyargs)}
        self.locals |= {n.id for n in ast.walk(node) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
        self._signature(node)
        for item in node.body:
            self.visit(item)

    # --- functions and classes ----------------------------------------------------------------------------

    def _signature(self, node: Function) -> None:
        args, jit = node.args, self.module.jit(node)
        if isinstance(node, ast.AsyncFunctionDef):
            self.report("async", node)
        if args.vararg:
            self.report("varargs", args.vararg, args.vararg.arg)
        elif args.kwonlyargs:
            self.report("keyword-only", args.kwonlyargs[0], ", ".join(a.arg for a in args.kwonlyargs))
        if args.kwarg:
            self.report("kwargs", args.kwarg, args.kwarg.arg)
        for item in node.decorator_list:
            self._decorator(item)
        defaults = zip(reversed([*args.posonlyargs, *args.args]), reversed(args.defaults), strict=False)
        for arg, default in defaults:
            self.visit(default)
            if jit is not None and isinstance(default, ast.List):
                self.report("list-argument", default, f"{arg.arg}={ast.unparse(default)}")

    def _decorator(self, item: ast.expr) -> None:
        head = item.func if isinstance(item, ast.Call) else item
        path = self.module.nki(head)
        if path in REMOVED:
            self.report("removed", item, path, *REMOVED[path])
        elif path == "nki.jit" and isinstance(item, ast.Call):
            for keyword in item.keywords:
                if keyword.arg == "mode":
                    self.report("jit-mode", item)
                elif keyword.arg == "platform_target":
                    self.report("jit-argument", item, keyword.arg)
        elif ast.unparse(head).rsplit(".", 1)[-1] not in DECORATORS:
            self.report("decorator", item, ast.unparse(item))

    def _class(self, node: ast.ClassDef) -> None:
        bases = [ast.unparse(base).rsplit(".", 1)[-1] for base in node.bases]
        if not bases or any(not _derived(self.module, base) for base in bases) or node.keywords:
            self.report("class-base", node, node.name)
        for item in node.decorator_list:
            self._decorator(item)
        for part in node.body:
            if isinstance(part, Function | ast.Pass | ast.AnnAssign):
                continue
            if isinstance(part, ast.Expr) and isinstance(part.value, ast.Constant):
                continue
            if isinstance(part, ast.Assign) and len(part.targets) == 1 and isinstance(part.targets[0], ast.Name):
                continue
            self.report("class-body", part, node.name)

    # --- statements ---------------------------------------------------------------------------------------

    def visit(self, node: ast.AST) -> None:
        named = _STATEMENTS.get(type(node)) or _EXPRESSIONS.get(type(node))
        if named:
            self.report(named[0], node, named[1])
        elif type(node).__name__ == "TypeAlias":
            self.report("type", node)
            return
        if isinstance(node, ast.Lambda | ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp | ast.Raise):
            return  # one finding for the construct, not for what it holds
        super().visit(node)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        if node.name not in self.bodies:
            self.report("inner-function", node, node.name)
            return
        self.dynamic, static = self.dynamic + 1, self.static
        self.static = 1  # a body's return gives its value; break and continue belong to its own loops
        for item in node.body:
            self.visit(item)
        self.dynamic, self.static = self.dynamic - 1, static

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        self.report("inner-class", node, node.name)

    def visit_With(self, node: ast.With) -> None:
        call = node.items[0].context_expr
        plain = len(node.items) == 1 and node.items[0].optional_vars is None and isinstance(call, ast.Call)
        if not plain or self.module.nki(getattr(call, "func", call)) != "nki.language.no_reorder":
            self.report("with", node, ast.unparse(call))
            self.generic_visit(node)
            return
        self.reorder += 1
        for item in node.body:
            self.visit(item)
        self.reorder -= 1

    def visit_For(self, node: ast.For) -> None:
        if node.orelse:
            self.report("loop-else", node.orelse[0], "for")
        if not isinstance(node.target, ast.Name):
            self.report("for-target", node.target)
        dynamic = isinstance(node.iter, ast.Call) and self.module.nki(node.iter.func) == "nki.language.dynamic_range"
        if dynamic:
            self.report("dynamic-range", node)
            self.report("dynamic-range-removed", node)
            if self.reorder:
                self.report("dynamic-reorder", node)
            if isinstance(node.target, ast.Name):
                self.registers.add(node.target.id)
        elif isinstance(node.target, ast.Name):
            self.registers.discard(node.target.id)
        self.visit(node.iter)
        self._loop(node.body, dynamic)
        for item in node.orelse:
            self.visit(item)

    def visit_While(self, node: ast.While) -> None:
        if node.orelse:
            self.report("loop-else", node.orelse[0], "while")
        dynamic = isinstance(node.test, ast.Name) and node.test.id in self.registers
        if dynamic:
            self.report("register-while", node, ast.unparse(node.test))
            self.report("register-while-removed", node, ast.unparse(node.test))
        else:
            self._condition(node.test)
            self.visit(node.test)
        self._loop(node.body, dynamic)
        for item in node.orelse:
            self.visit(item)

    def _loop(self, body: list[ast.stmt], dynamic: bool) -> None:
        before = self.dynamic, self.static
        self.dynamic, self.static = self.dynamic + dynamic, 0 if dynamic else self.static + 1
        for item in body:
            self.visit(item)
        self.dynamic, self.static = before

    def visit_Break(self, node: ast.Break | ast.Continue) -> None:
        if self.dynamic and not self.static:
            self.report("dynamic-jump", node, type(node).__name__.lower())

    visit_Continue = visit_Break  # noqa: N815 - ast's name

    def visit_Return(self, node: ast.Return) -> None:
        if self.dynamic and not self.static:
            self.report("dynamic-jump", node, "return")
        self.generic_visit(node)
        if isinstance(self.unit.node, Function) and self.module.jit(self.unit.node) is not None and node.value:
            values = node.value.elts if isinstance(node.value, ast.Tuple) else [node.value]
            for value in values:
                call = self.tensors.get(value.id) if isinstance(value, ast.Name) else None
                if call is not None and self._buffer(call) == "nki.language.hbm":
                    self.report("output-buffer", call, ast.unparse(value))

    def visit_If(self, node: ast.If | ast.IfExp) -> None:
        self._condition(node.test)
        self.generic_visit(node)

    visit_IfExp = visit_If  # noqa: N815 - ast's name

    def _condition(self, test: ast.expr) -> None:
        for node in ast.walk(test):
            if isinstance(node, ast.Compare) and all(isinstance(op, ast.Is | ast.IsNot) for op in node.ops):
                return  # whether there is a register is known
        for node in ast.walk(test):
            if isinstance(node, ast.Name) and node.id in self.registers:
                self.report("register-condition", test, node.id)
                return

    def visit_Assign(self, node: ast.Assign) -> None:
        changed = 0
        for target in node.targets:
            items = target.elts if isinstance(target, ast.Tuple | ast.List) else [target]
            changed += sum(isinstance(item, ast.Subscript | ast.Attribute) for item in items)
        if changed > 1 or (changed and any(isinstance(t, ast.Tuple) for t in node.targets)):
            self.report("assignment", node)
        call = node.value if isinstance(node.value, ast.Call) else None
        path = self.module.nki(call.func) if call else ""
        for target in node.targets:
            if isinstance(target, ast.Name):
                (self.registers.add if path == "nki.isa.register_alloc" else self.registers.discard)(target.id)
                self._numbered(target.id, whole(node.value))
                if call is not None and path.startswith("nki.language."):
                    self.tensors[target.id] = call
        self.generic_visit(node)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        if node.value is not None:  # the annotation is not evaluated
            self.visit(node.value)

    # --- expressions --------------------------------------------------------------------------------------

    def visit_Constant(self, node: ast.Constant) -> None:
        value = node.value
        large = isinstance(value, int) and not isinstance(value, bool) and not -(2**31) <= value < 2**31
        if large or isinstance(value, bytes | complex):
            self.report("constant", node, repr(value))

    def visit_JoinedStr(self, node: ast.JoinedStr) -> None:
        for item in node.values:
            if isinstance(item, ast.FormattedValue):
                if item.format_spec is not None:
                    self.report("format", item)
                self.visit(item.value)

    def visit_Dict(self, node: ast.Dict) -> None:
        for key, value in zip(node.keys, node.values, strict=True):
            if key is None:
                self.report("double-star", value, ast.unparse(value))
            elif not (isinstance(key, ast.Constant) and isinstance(key.value, str)):
                self.report("dict-key", key)
            self.visit(value)

    def visit_Starred(self, node: ast.Starred) -> None:
        self.report("star", node, ast.unparse(node.value))
        self.generic_visit(node)

    def visit_BinOp(self, node: ast.BinOp | ast.AugAssign) -> None:
        if isinstance(node.op, ast.MatMult):
            self.report("matmul-operator", node)
        self.generic_visit(node)

    visit_AugAssign = visit_BinOp  # noqa: N815 - ast's name

    def visit_Compare(self, node: ast.Compare) -> None:
        for op, right in zip(node.ops, node.comparators, strict=True):
            sides = (node.left, right)
            none = any(isinstance(side, ast.Constant) and side.value is None for side in sides)
            if isinstance(op, ast.Is | ast.IsNot) and not none:
                self.report("is", node)
        self.generic_visit(node)

    def visit_Name(self, node: ast.Name) -> None:
        if isinstance(node.ctx, ast.Load) and node.id not in self.locals:
            self._path(node, self.module.dotted(node))

    def visit_Attribute(self, node: ast.Attribute) -> None:
        path = self.module.dotted(node)
        if path and _root(node).id not in self.locals:
            self._path(node, path)
        else:
            self.visit(node.value)

    def _path(self, node: ast.expr, path: str) -> None:
        """A name of an imported module."""
        name = self.module.nki(node)
        if not name:
            return
        if path.startswith("neuronxcc") and not self.beta1:
            self.beta1 = True  # once for a function
            self.report("beta1-namespace", node, ast.unparse(node))
        if name in REMOVED:
            self.report("removed", node, ast.unparse(node), *REMOVED[name])
        elif name in DISCOURAGED:
            self.report("discouraged", node, ast.unparse(node), *DISCOURAGED[name])
        elif name in ("nki.language.arange", "nki.language.mgrid"):
            self.report("arange", node, ast.unparse(node))

    def visit_Call(self, node: ast.Call) -> None:
        name = self.module.nki(node.func)
        if name:
            self._nki_call(node, name)
        else:
            self._python_call(node)
        for keyword in node.keywords:
            if keyword.arg is None:
                self.report("double-star", keyword.value, ast.unparse(keyword.value))
        self.generic_visit(node)

    def _python_call(self, node: ast.Call) -> None:
        function = node.func
        if isinstance(function, ast.Name) and function.id not in self.locals:
            name = function.id
            unit = self.module.units.get(name)
            if unit and isinstance(unit.node, Function) and self.module.jit(unit.node) is not None:
                self.report("nested-jit", node, name)
            elif not unit and name not in self.module.aliases and hasattr(builtins, name) and name not in BUILTINS:
                self.report("builtin", node, name)
        path = self.module.dotted(function)
        if path.split(".")[0] in PACKAGES and path not in LIBRARY:
            self.report("library", node, ast.unparse(function))

    def _nki_call(self, node: ast.Call, name: str) -> None:
        shown = ast.unparse(node.func)
        if name.startswith(("nki.isa.", "nki.language.")):
            for keyword in node.keywords:
                self._keyword(name, shown, keyword)
        if name.startswith("nki.isa."):
            for parameter, value in zip(_parameters(name), node.args, strict=False):
                self._enum(parameter, shown, value)
        if name == "nki.language.par_dim":
            self.report("par-dim", node)
        if name.startswith("nki.language.") and node.args and isinstance(node.args[0], ast.Tuple):
            for size in node.args[0].elts[1:]:
                if isinstance(size, ast.Call) and self.module.nki(size.func) == "nki.language.par_dim":
                    self.report("block-dimension", size)
        if name in _LOOPS and self.reorder:
            self.report("dynamic-reorder", node)
        if name.startswith("nki.isa.") and self.missing(name.rsplit(".", 1)[-1], node) == "dst":
            self.report("isa-dst", node, shown)

    def _keyword(self, name: str, shown: str, keyword: ast.keyword) -> None:
        value = keyword.value
        if keyword.arg == "mask" and name != "nki.isa.nc_stream_shuffle":
            self.report("mask", value, shown)
        instead = PARAMETERS.get((name, keyword.arg or ""))
        if instead:
            self.report("isa-argument", value, f"{keyword.arg}= of {shown}", instead, MIGRATION + ", 0.2.0 to 0.3.0")
        if keyword.arg == "buffer" and isinstance(value, ast.Constant) and isinstance(value.value, str):
            self.report("buffer-name", value, repr(value.value))
        if name.startswith("nki.isa."):
            self._enum(keyword.arg or "", shown, value)

    def _numbered(self, name: str, number: int | None) -> None:
        """A name of the function stands for a whole number, or for something else."""
        if number is None:
            self.numbers.pop(name, None)
        else:
            self.numbers[name] = number

    def _enum(self, parameter: str, shown: str, value: ast.expr) -> None:
        """A number, or a name for one, where an instruction takes a member of an enumeration."""
        words = _ENUMS.get(parameter)
        if words is None or isinstance(value, ast.Starred):
            return
        for node in (value.body, value.orelse) if isinstance(value, ast.IfExp) else (value,):
            number, rule, thing = whole(node), "enum-number", f"{parameter} of {shown}"
            if isinstance(node, ast.Name):
                known = self.numbers if node.id in self.locals else self.module.numbers
                number, rule, thing = known.get(node.id), "enum-constant", f"{parameter}={node.id} of {shown}"
            if number is not None:
                names = [f"nisa.{words.__name__}.{m.name}" for m in words if m.value == number]
                self.report(rule, node, thing, names[0] if names else f"a member of nisa.{words.__name__}")

    def _buffer(self, call: ast.Call) -> str:
        for keyword in call.keywords:
            if keyword.arg == "buffer":
                return self.module.nki(keyword.value)
        return ""


def _parameters(name: str) -> tuple[str, ...]:
    """The parameters of an instruction, in order."""
    function = vars(isa).get(name.rsplit(".", 1)[-1])
    return tuple(inspect.signature(function).parameters) if inspect.isfunction(function) else ()


def _loop_bodies(module: Module, function: Function) -> set[str]:
    """Inner functions handed to nl.fori_loop or nl.while_loop."""
    names: set[str] = set()
    for node in ast.walk(function):
        if isinstance(node, ast.Call) and module.nki(node.func) in _LOOPS:
            values = [*node.args, *(keyword.value for keyword in node.keywords)]
            names |= {value.id for value in values if isinstance(value, ast.Name)}
    return names


def _derived(module: Module, base: str) -> bool:
    """Whether a base is one the compiler knows, or comes from another file (where it is checked)."""
    return base in BASES or base in module.aliases


def _root(node: ast.expr) -> ast.Name:
    while isinstance(node, ast.Attribute):
        node = node.value
    return node if isinstance(node, ast.Name) else ast.Name(id="")


def list_arguments(module: Module) -> Iterator[tuple[ast.expr, str]]:
    """Lists given to the file's own kernels where it calls them, outside kernels."""
    kernels = {u.name for u in module.units.values() if isinstance(u.node, Function) and module.jit(u.node) is not None}
    for node in ast.walk(module.tree):
        if not isinstance(node, ast.Call):
            continue
        head = node.func.value if isinstance(node.func, ast.Subscript) else node.func
        if isinstance(head, ast.Name) and head.id in kernels:
            for value in node.args:
                if isinstance(value, ast.List):
                    yield value, ast.unparse(value)
            for keyword in node.keywords:
                if isinstance(keyword.value, ast.List):
                    yield keyword.value, f"{keyword.arg}={ast.unparse(keyword.value)}"
