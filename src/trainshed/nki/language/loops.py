"""Loops and the launch grid. Source: ``nki.language``, "Iterators" and "SPMD"."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from trainshed.chip.core import NeuronCore, active
from trainshed.chip.divergence import note_trips
from trainshed.chip.errors import source, violation
from trainshed.chip.numbers import whole
from trainshed.chip.registers import VirtualRegister
from trainshed.chip.tensor import DynamicSlice


def affine_range(start: int, stop: int | None = None, step: int = 1) -> range:
    """A loop whose iterations do not depend on each other; unrolled when the kernel is compiled."""
    bounds = (start,) if stop is None else (start, stop, step)
    return range(*(_bound("affine_range", "bound", value) for value in bounds))


def sequential_range(start: int, stop: int | None = None, step: int = 1) -> range:
    """A loop whose iterations depend on the ones before; unrolled when the kernel is compiled."""
    return affine_range(start, stop, step)


def static_range(start: int, stop: int | None = None, step: int = 1) -> range:
    """A loop unrolled when the kernel is traced."""
    return affine_range(start, stop, step)


def _structured(function: str) -> NeuronCore:
    """The core, which may not be inside ``no_reorder``.

    Source: ``nki.language.no_reorder``: "register-based dynamic loops are not supported inside".
    """
    core = active()
    if core.state.get("no_reorder"):
        raise violation(
            function, "", "hardware loop inside no_reorder", value=function, rule="no-reorder-loop",
            expected="a loop of Python's range there",
        )  # fmt: skip
    return core


def _step(function: str, step: Any) -> int:
    """A step, which is fixed when the kernel is compiled."""
    if isinstance(step, VirtualRegister) or _bound(function, "step", step) < 1:
        raise violation(
            function, "step", "step", value=step, expected="a positive number known when the kernel is compiled",
            rule="dynamic-range",
        )  # fmt: skip
    return _bound(function, "step", step)


def _indices(function: str, start: Any, stop: Any, step: Any, *, frozen: bool) -> Iterator[VirtualRegister]:
    """One register per trip of a hardware loop; the trips and the depth of nesting are noted."""
    core = _structured(function)
    low, high = (0, start) if stop is None else (start, stop)
    low, high = _bound(function, "start", low), _bound(function, "stop", high)
    trips = range(low, high, _step(function, step))
    note_trips(core, len(trips), source())
    for value in trips:
        core.state["loop"] = core.state.get("loop", 0) + 1
        try:
            yield VirtualRegister(value, frozen)
        finally:
            core.state["loop"] -= 1


def _bound(function: str, operand: str, value: Any) -> int:
    """A whole number: one known when the kernel is compiled, or what a register holds."""
    if isinstance(value, VirtualRegister):
        return value.get()
    try:
        return operator.index(value)
    except TypeError:
        raise violation(
            function, operand, "bound of a loop", value=value, expected="a whole number or a register",
            rule="dynamic-range",
        ) from None  # fmt: skip


def _body(function: str, body: Any) -> None:
    if not callable(body):
        raise violation(
            function, "body_fun", "body of a loop", value=body, expected="a function of the index or the register",
            rule="loop-body",
        )  # fmt: skip


def dynamic_range(start: Any, stop: Any = None, step: int = 1) -> Iterator[VirtualRegister]:
    """A loop of the hardware: bounds may be registers, the index is one that must not be written."""
    return _indices("dynamic_range", start, stop, step, frozen=True)


def fori_loop(lower: Any, upper: Any, body_fun: Callable[[Any], Any], step: int = 1) -> None:
    """``body_fun(index)`` for each index of a hardware loop; what the body does to its index is lost."""
    _body("fori_loop", body_fun)
    for index in _indices("fori_loop", lower, upper, step, frozen=False):
        body_fun(index)


def while_loop(init: Any, body_fun: Callable[[Any], Any]) -> None:
    """``register = body_fun(register)`` while the register is not 0 (tested before each trip)."""
    _body("while_loop", body_fun)
    core = _structured("while_loop")
    value, trips, at = _bound("while_loop", "init", init), 0, source()
    while value:
        core.state["loop"] = core.state.get("loop", 0) + 1
        try:
            after = body_fun(VirtualRegister(value))
        finally:
            core.state["loop"] -= 1
        if after is None:
            raise violation(
                "while_loop", "body_fun", "returned", value=None, rule="while-loop",
                expected="the register that is the next condition",
            )  # fmt: skip
        value = _bound("while_loop", "body_fun", after)
        trips += 1
    note_trips(core, trips, at)


@contextmanager
def no_reorder() -> Iterator[None]:
    """Instructions inside keep their order: the scheduler may not move them.

    The core's ``state["in_order"]`` lists the blocks as (first, one past the last) serial of instructions.
    """
    core = active()
    first = len(core.instructions)
    core.state["no_reorder"] = core.state.get("no_reorder", 0) + 1
    try:
        yield
    finally:
        core.state["no_reorder"] -= 1
        core.state.setdefault("in_order", []).append((first, len(core.instructions)))


def ds(start: Any, size: int) -> DynamicSlice:
    """``size`` elements from ``start``, which may be a register."""
    return DynamicSlice(start, size)


def _axis(function: str, axis: Any, grid: tuple[int, ...]) -> int:
    if not -len(grid) <= whole(function, "axis", axis) < len(grid):
        raise violation(function, "axis", "axis of the launch grid", value=axis, rule="grid",
                        expected=f"0 to {len(grid) - 1}: the kernel's grid is {list(grid)}")  # fmt: skip
    return int(axis) % len(grid)


def program_id(axis: int = 0) -> int:
    """This core's place along an axis of the launch grid."""
    core = active()
    grid = core.grid or (1,)
    axis = _axis("program_id", axis, grid)
    return core.index // math.prod(grid[axis + 1 :]) % grid[axis]


def num_programs(axes: Any = 0) -> int:
    """Cores along an axis, along several axes together, or in the whole grid (``None``)."""
    grid = active().grid or (1,)
    chosen = range(len(grid)) if axes is None else axes if isinstance(axes, tuple | list) else (axes,)
    return math.prod(grid[_axis("num_programs", axis, grid)] for axis in chosen)


def program_ndim() -> int:
    """Axes of the launch grid; 0 when the kernel was launched without one."""
    return len(active().grid)
