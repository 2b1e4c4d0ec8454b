"""The one evaluator: a cost is named terms, the rule that combines them, and the constants it read.

Every node's value is a float or an array (plans × …, in front of it an axis of changed constants when a sensitivity
or a fit is taken); all broadcast. The planner reads ``value`` of the root for a million plans; ``explain`` prints one
column of the very same tree. Costs of time are seconds; the same tree serves joules, bytes and dollars.

    leaf = formula("weights", "s", "bytes / bandwidth", bytes=2.0e9, bandwidth=chip.hbm_bandwidth)
    step = total("decode step", [longest("mlp", [leaf, compute]), launch])
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, reduce
from types import CodeType
from typing import Any, Literal

import numpy as np

from trainshed.core.constant import Constant, Number

How = Literal["sum", "max", "min", "formula"]


def _variadic(op: Callable[[Any, Any], Any]) -> Callable[..., Any]:
    return lambda *args: reduce(op, args)


#: What a formula may call; everything else in it is arithmetic.
FUNCTIONS: dict[str, Callable[..., Any]] = {
    "max": _variadic(np.maximum),
    "min": _variadic(np.minimum),
    "ceil": np.ceil,
    "floor": np.floor,
    "log2": np.log2,
    "sqrt": np.sqrt,
    "exp": np.exp,
}


@lru_cache(maxsize=4096)
def _compiled(expression: str) -> tuple[CodeType, frozenset[str]]:
    tree = ast.parse(expression, mode="eval")
    names = frozenset(n.id for n in ast.walk(tree) if isinstance(n, ast.Name)) - FUNCTIONS.keys()
    return compile(tree, f"<formula {expression}>", "eval"), names


_GLOBALS: dict[str, Any] = {"__builtins__": {}, **FUNCTIONS}


def evaluate(expression: str, names: dict[str, Any]) -> Number:
    """The value of an arithmetic expression over ``names`` (floats or arrays) and FUNCTIONS."""
    code, wanted = _compiled(expression)
    if missing := wanted - names.keys():
        raise ValueError(f"formula {expression!r} names {', '.join(sorted(missing))}, which it was not given")
    value = eval(code, _GLOBALS, names)
    if isinstance(value, float):  # NumPy's scalars too
        return float(value)
    return float(value) if np.ndim(value) == 0 else np.asarray(value, dtype=np.float64)


@dataclass(frozen=True, eq=False)
class Kernel:
    """The kernel that an operator's cost is that of."""

    family: str
    """Name in the library of reference kernels, as ``gemm.matmul``, or of a room of it."""
    tiles: Mapping[str, Number]
    """What it works on at a time, in elements."""


@dataclass(frozen=True, eq=False)
class Cost:
    """A node: ``what`` it is, its value and unit, ``how`` it follows from children, constants and inputs."""

    what: str
    unit: str
    how: How
    value: Number
    children: tuple[tuple[str, Cost], ...] = ()
    constants: tuple[tuple[str, Constant], ...] = ()
    inputs: tuple[tuple[str, Number], ...] = ()
    expression: str = ""
    kernel: Kernel | None = None
    """Of an operator's engines: the kernel."""

    def at(self, index: tuple[int, ...] | int, shape: tuple[int, ...] | None = None) -> Cost:
        """The tree of one element (one plan) of an array-valued tree; ``min`` nodes keep only what was chosen."""
        shape = np.shape(self.value) if shape is None else shape
        return self._at((index,) if isinstance(index, int) else index, shape, {})

    def _at(self, index: tuple[int, ...], shape: tuple[int, ...], done: dict[int, Cost]) -> Cost:
        """``at`` with the nodes that were picked before: blocks and constants are shared by many parents."""
        if id(self) in done:
            return done[id(self)]

        def pick(value: Number) -> float:
            return float(value) if np.ndim(value) == 0 else float(np.broadcast_to(value, shape)[index])

        children = tuple((name, child._at(index, shape, done)) for name, child in self.children)
        kernel = self.kernel and replace(
            self.kernel, tiles={name: pick(size) for name, size in self.kernel.tiles.items()}
        )
        if self.how == "min":
            best = min(children, key=lambda c: float(c[1].value))
            picked = replace(self, how="sum", value=pick(self.value), children=(best,))
        else:
            constants = tuple(
                (name, c if np.ndim(c.value) == 0 else c.with_value(pick(c.value))) for name, c in self.constants
            )
            inputs = tuple((name, pick(v)) for name, v in self.inputs)
            picked = replace(
                self, value=pick(self.value), children=children, constants=constants, inputs=inputs, kernel=kernel
            )
        done[id(self)] = picked
        return picked

    def scalar(self) -> Cost:
        """The tree of the first element, alternatives resolved to what was chosen."""
        return self.at(tuple(0 for _ in np.shape(self.value)))

    def walk(self) -> Iterator[Cost]:
        """This node and all below it, depth first."""
        yield self
        for _, child in self.children:
            yield from child.walk()

    def used_constants(self) -> dict[str, Constant]:
        """Every constant the value rests on, by full name."""
        return {c.name: c for node in self.walk() for _, c in node.constants}

    def by(self, family: str, tiles: Mapping[str, Number]) -> Cost:
        """The same cost, with the kernel whose it is."""
        return replace(self, kernel=Kernel(family, tiles))

    def named(self, what: str) -> Cost:
        """The same cost under another name."""
        return replace(self, what=what)

    def formula_text(self) -> str:
        """The expression of a scalar node with its inputs written as numbers: children and constants stay names."""
        values = {name: repr(float(v)) for name, v in self.inputs}
        tree = ast.parse(self.expression, mode="eval")

        class Fill(ast.NodeTransformer):
            def visit_Name(self, node: ast.Name) -> ast.AST:
                return ast.parse(values[node.id], mode="eval").body if node.id in values else node

        return ast.unparse(Fill().visit(tree))


def formula(what: str, unit: str, expression: str, **names: Number | Constant | Cost) -> Cost:
    """A node computed by an arithmetic expression over inputs (numbers), constants and child costs, by keyword.

    A number is a fact of the workload; a number of the hardware or the software must come as a Constant.
    """
    values: dict[str, Any] = {}
    children: list[tuple[str, Cost]] = []
    constants: list[tuple[str, Constant]] = []
    inputs: list[tuple[str, Number]] = []
    for name, given in names.items():
        if isinstance(given, Cost):
            children.append((name, given))
            values[name] = given.value
        elif isinstance(given, Constant):
            constants.append((name, given))
            values[name] = given.value
        else:
            inputs.append((name, given))
            values[name] = given
    value = evaluate(expression, values)
    return Cost(what, unit, "formula", value, tuple(children), tuple(constants), tuple(inputs), expression)


def _combined(what: str, how: How, op: Callable[[Any, Any], Any], children: Sequence[Cost], unit: str | None) -> Cost:
    if not children:
        return Cost(what, unit or "s", "sum", 0.0)
    value = reduce(op, (c.value for c in children))
    return Cost(what, unit or children[0].unit, how, value, tuple((f"c{i}", c) for i, c in enumerate(children)))


def total(what: str, children: Sequence[Cost], unit: str | None = None) -> Cost:
    """The sum of costs that follow one another; of none, zero."""
    return _combined(what, "sum", np.add, children, unit)


def longest(what: str, children: Sequence[Cost], unit: str | None = None) -> Cost:
    """The largest of costs that run side by side."""
    return _combined(what, "max", np.maximum, children, unit)


def cheapest(what: str, children: Sequence[Cost], unit: str | None = None) -> Cost:
    """The smallest of alternatives, element by element (the algorithm that a good library chooses)."""
    return _combined(what, "min", np.minimum, children, unit)


def scaled(what: str, cost: Cost, factor: Number | Constant) -> Cost:
    """``factor`` times a cost (so many layers, micro-batches, …)."""
    return formula(what, cost.unit, "times * each", times=factor, each=cost)
