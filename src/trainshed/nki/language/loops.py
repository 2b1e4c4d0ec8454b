"""Loops and the launch grid. Source: ``nki.language``, "Iterators" and "SPMD"."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from trainshed.chip.core import active
from trainshed.chip.errors import source
from trainshed.chip.hazards import note_trips
from trainshed.chip.registers import VirtualRegister
from trainshed.chip.tensor import DynamicSlice


def affine_range(start: int, stop: int | None = None, step: int = 1) -> range:
    """A loop whose iterations do not depend on each other; unrolled when the kernel is compiled."""
    return range(int(start)) if stop is None else range(int(start), int(stop), int(step))


def sequential_range(start: int, stop: int | None = None, step: int = 1) -> range:
    """A loop whose iterations depend on the ones before; unrolled when the kernel is compiled."""
    return affine_range(start, stop, step)


def static_range(start: int, stop: int | None = None, step: int = 1) -> range:
    """A loop unrolled when the kernel is traced."""
    return affine_range(start, stop, step)


def dynamic_range(start: Any, stop: Any = None, step: int = 1) -> Iterator[VirtualRegister]:
    """A loop of the hardware: the index is a register, bounds may be registers."""
    low, high = (0, int(start)) if stop is None else (int(start), int(stop))
    core = active()
    note_trips(core, len(range(low, high, int(step))), source())
    for value in range(low, high, int(step)):
        core.state["loop"] = core.state.get("loop", 0) + 1
        try:
            yield VirtualRegister(value)
        finally:
            core.state["loop"] -= 1


def fori_loop(lower: Any, upper: Any, body_fun: Callable[[Any], Any], step: int = 1) -> None:
    """``body_fun(index)`` for each index of a hardware loop."""
    for index in dynamic_range(lower, upper, step):
        body_fun(index)


def while_loop(init: Any, body_fun: Callable[[Any], Any]) -> None:
    """``register = body_fun(register)`` while the register is not 0."""
    register = init if isinstance(init, VirtualRegister) else VirtualRegister(int(init))
    trips, at = 0, source()
    while register.get() != 0:
        after = body_fun(register)
        register = register if after is None else after
        trips += 1
    note_trips(active(), trips, at)


@contextmanager
def no_reorder() -> Iterator[None]:
    """Instructions inside keep their order: the scheduler may not move them."""
    core = active()
    core.state["no_reorder"] = core.state.get("no_reorder", 0) + 1
    try:
        yield
    finally:
        core.state["no_reorder"] -= 1


def ds(start: Any, size: int) -> DynamicSlice:
    """``size`` elements from ``start``, which may be a register."""
    return DynamicSlice(start, size)


def program_id(axis: int = 0) -> int:
    """This core's place along an axis of the launch grid."""
    core = active()
    grid = core.grid or (1,)
    return core.index // math.prod(grid[axis + 1 :]) % grid[axis]


def num_programs(axes: Any = None) -> int:
    """Cores along an axis, along several axes together, or in the whole grid."""
    grid = active().grid or (1,)
    chosen = range(len(grid)) if axes is None else axes if isinstance(axes, tuple | list) else (axes,)
    return math.prod(grid[int(axis)] for axis in chosen)


def program_ndim() -> int:
    """Axes of the launch grid; 0 when the kernel was launched without one."""
    return len(active().grid)
