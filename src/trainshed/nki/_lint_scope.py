"""Which functions of a Python file are kernel code, and what the names in them mean."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

Function = ast.FunctionDef | ast.AsyncFunctionDef

#: Calls that make a function kernel code even where no decorator says so.
_MARKS = ("nki.isa.", "nki.language.ndarray", "nki.language.load", "nki.language.store", "nki.collectives.")
_JITS = ("nki.jit", "nki.nki_jit", "nki.baremetal", "nki.benchmark", "nki.profile")
_NOT_CALLS = ("nki.isa.get_nc_version", "nki.isa.nc_version", "nki.isa.constants")


@dataclass(frozen=True)
class Unit:
    """A function (or method) or a class of the file, by its qualified name."""

    name: str
    node: Function | ast.ClassDef
    owner: str = ""
    """The class of a method."""


@dataclass
class Module:
    """A parsed file: what its names stand for, and its functions and classes."""

    tree: ast.Module
    file: str
    aliases: dict[str, str] = field(default_factory=dict)
    units: dict[str, Unit] = field(default_factory=dict)
    numbers: dict[str, int] = field(default_factory=dict)
    """Whole numbers that have a name."""

    @classmethod
    def parse(cls, text: str, file: str) -> Module:
        module = cls(ast.parse(text, file), file)
        for node in _statements(module.tree.body):
            if isinstance(node, ast.Import):
                for item in node.names:
                    module.aliases[item.asname or item.name.split(".")[0]] = (
                        item.name if item.asname else item.name.split(".")[0]
                    )
            elif isinstance(node, ast.ImportFrom):
                prefix = "." * node.level + (node.module or "")
                for item in node.names:
                    module.aliases[item.asname or item.name] = f"{prefix}.{item.name}"
            elif isinstance(node, Function):
                module.units[node.name] = Unit(node.name, node)
            elif isinstance(node, ast.ClassDef):
                module.units[node.name] = Unit(node.name, node)
                for part in node.body:
                    if isinstance(part, Function):
                        module.units[f"{node.name}.{part.name}"] = Unit(f"{node.name}.{part.name}", part, node.name)
            elif isinstance(node, ast.Assign | ast.AnnAssign) and (number := whole(node.value)) is not None:
                targets = node.targets if isinstance(node, ast.Assign) else [node.target]
                module.numbers.update({t.id: number for t in targets if isinstance(t, ast.Name)})
            elif isinstance(node, ast.Assign) and isinstance(node.value, ast.Attribute | ast.Name):
                known = module.dotted(node.value)  # nl = nki.language, and the like
                if known:
                    module.aliases.update({t.id: known for t in node.targets if isinstance(t, ast.Name)})
        return module

    def dotted(self, node: ast.expr) -> str:
        """The full path of a name or attribute whose root is an import, else an empty string."""
        if isinstance(node, ast.Attribute):
            base = self.dotted(node.value)
            return f"{base}.{node.attr}" if base else ""
        if isinstance(node, ast.Name):
            return self.aliases.get(node.id, "")
        return ""

    def nki(self, node: ast.expr) -> str:
        """The same for names of NKI, whichever package they come from: ``nki.isa.activation``."""
        return nki_path(self.dotted(node))

    def jit(self, node: Function) -> ast.expr | None:
        """The nki.jit decorator of a function."""
        for item in node.decorator_list:
            head = item.func if isinstance(item, ast.Call) else item
            if self.nki(head) in _JITS:
                return item
        return None

    def seeds(self) -> set[str]:
        """Decorated functions, and those that issue instructions or allocate tensors themselves."""
        return {
            unit.name
            for unit in self.units.values()
            if isinstance(unit.node, Function) and (self.jit(unit.node) is not None or self._marked(unit.node))
        }

    def _marked(self, function: Function) -> bool:
        for node in ast.walk(function):
            if isinstance(node, ast.Call):
                path = self.nki(node.func)
                if path.startswith(_MARKS) and not path.startswith(_NOT_CALLS):
                    return True
        return False

    def reachable(self, seeds: Iterable[str]) -> list[Unit]:
        """The units that the seeds use, directly or through others, in the order of the file."""
        found: set[str] = set()
        work = [name for name in seeds if name in self.units]
        while work:
            name = work.pop()
            if name in found:
                continue
            found.add(name)
            work.extend(self._uses(self.units[name]))
        return [unit for unit in self.units.values() if unit.name in found]

    def _uses(self, unit: Unit) -> Iterator[str]:
        """The functions and classes of this file that a unit calls or names."""
        if isinstance(unit.node, ast.ClassDef):
            yield from (name for name in self.units if name.startswith(f"{unit.name}."))
            return
        annotations = {id(node) for item in _annotations(unit.node) for node in ast.walk(item)}
        for node in ast.walk(unit.node):
            if id(node) in annotations or node is unit.node:
                continue
            if isinstance(node, ast.Name) and node.id in self.units:
                yield node.id
            elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                owner = unit.owner if node.value.id in ("self", "cls") else node.value.id
                if f"{owner}.{node.attr}" in self.units:
                    yield f"{owner}.{node.attr}"


def whole(node: ast.expr | None) -> int | None:
    """The whole number that an expression is written as."""
    return node.value if isinstance(node, ast.Constant) and type(node.value) is int else None


def nki_path(path: str) -> str:
    """A path within NKI, without the older package around it; empty for anything else."""
    if path.startswith("neuronxcc.nki"):
        path = path[len("neuronxcc.") :]
    return path if path == "nki" or path.startswith("nki.") else ""


def _statements(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """Statements at module level, those under if and try included."""
    for node in body:
        yield node
        for part in ("body", "orelse", "finalbody"):
            if isinstance(node, ast.If | ast.Try | ast.With):
                yield from _statements(getattr(node, part, []))
        if isinstance(node, ast.Try):
            for handler in node.handlers:
                yield from _statements(handler.body)


def _annotations(function: Function) -> Iterator[ast.expr]:
    """Annotations and decorators, which the compiler does not evaluate."""
    args = function.args
    for arg in (*args.posonlyargs, *args.args, *args.kwonlyargs, args.vararg, args.kwarg):
        if arg is not None and arg.annotation is not None:
            yield arg.annotation
    if function.returns is not None:
        yield function.returns
    yield from function.decorator_list
