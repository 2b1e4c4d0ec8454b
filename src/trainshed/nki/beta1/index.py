"""Beta-1 indices: ``nl.arange``, ``nl.mgrid`` and the masks made by comparing them.

They are NumPy integer arrays, one axis per dimension of the tile they address, so that arithmetic on them is
NumPy's. A comparison keeps the expression it came from, which ``affine_select`` needs as a pattern.

Source: the Beta-1 pages "NKI programming guide, tensor indexing" and "NKI masking" (Neuron SDK 2.20 to 2.26).
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
Box = tuple[slice, ...]


class Index(np.ndarray[Any, Any]):
    """An index expression."""

    def _compare(self, other: Any, name: str) -> Any:
        if not isinstance(other, int | float | np.ndarray | np.generic):
            return NotImplemented
        mask = getattr(np.asarray(self), name)(np.asarray(other)).view(Mask)
        mask.expression, mask.comparison = np.asarray(self) - np.asarray(other), name.strip("_")
        return mask

    def __lt__(self, other: Any) -> Any:
        return self._compare(other, "__lt__")

    def __le__(self, other: Any) -> Any:
        return self._compare(other, "__le__")

    def __gt__(self, other: Any) -> Any:
        return self._compare(other, "__gt__")

    def __ge__(self, other: Any) -> Any:
        return self._compare(other, "__ge__")

    def __eq__(self, other: Any) -> Any:
        return self._compare(other, "__eq__")

    def __ne__(self, other: Any) -> Any:
        return self._compare(other, "__ne__")

    __hash__ = None


class Mask(np.ndarray[Any, Any]):
    """Where an index expression holds. It is an object, not a truth value: ``a and b`` is ``b``, as it was."""

    expression: Array | None = None
    comparison: str = ""

    def __bool__(self) -> bool:
        return True


class ParDim(int):
    """A size marked as the partition dimension."""


def par_dim(size: int) -> ParDim:
    """Marks the partition dimension; dimensions before it are block dimensions."""
    return ParDim(size)


def arange(*args: Any) -> Index:
    """Consecutive indices, to be given a place with ``[:, None]``."""
    return np.arange(*(int(arg) for arg in args)).view(Index)


class Grid(tuple[Index, ...]):
    """What ``nl.mgrid[…]`` returns: one index per dimension, also as ``.p``, ``.x``, ``.y``, ``.z``, ``.w``."""

    def __getattr__(self, name: str) -> Index:
        if name not in ("p", "x", "y", "z", "w"):
            raise AttributeError(name)
        place = "pxyzw".index(name)
        if place >= len(self):
            raise AttributeError(f"{name} of a grid of {len(self)} dimensions")
        return self[place]


class _MGrid:
    """``nl.mgrid``: dense index grids (kept open: an axis of size 1 stands for all of it)."""

    def __getitem__(self, key: Any) -> Grid:
        keys = key if isinstance(key, tuple) else (key,)
        found = []
        for axis, item in enumerate(keys):
            values = np.arange(item.start or 0, item.stop, item.step or 1)
            shape = [1] * len(keys)
            shape[axis] = values.size
            found.append(values.reshape(shape).view(Index))
        return Grid(found)


mgrid = _MGrid()


def affine(values: Array) -> tuple[int, tuple[int, ...]] | None:
    """Start and the step along each axis of an array of indices; None when its steps vary."""
    start = int(values[(0,) * values.ndim])
    steps = []
    for axis, size in enumerate(values.shape):
        if size == 1:
            steps.append(0)
            continue
        place: list[int] = [0] * values.ndim
        place[axis] = 1
        steps.append(int(values[tuple(place)]) - start)
    expected = start + sum(
        (step * np.arange(size).reshape([-1 if a == axis else 1 for a in range(values.ndim)])
         for axis, (size, step) in enumerate(zip(values.shape, steps, strict=True))),
        start=np.zeros((1,) * values.ndim, int),
    )  # fmt: skip
    return (start, tuple(steps)) if np.array_equal(values, expected) else None


def boxes(mask: Array, shape: tuple[int, ...]) -> list[Box]:
    """The parts of ``shape`` where a mask holds, as boxes of consecutive indices."""
    found = np.asarray(mask, bool)
    if found.ndim < len(shape):
        found = found.reshape(found.shape + (1,) * (len(shape) - found.ndim))
    while found.ndim > len(shape) and found.shape[-1] == 1:
        found = found[..., 0]
    return [tuple(box) for box in _boxes(found, shape)]


def _boxes(mask: Array, shape: tuple[int, ...]) -> Iterator[list[slice]]:
    if not mask.any():
        return
    # A mask that is a product of one condition per axis is a product of runs.
    axes = [mask.any(axis=tuple(a for a in range(mask.ndim) if a != axis)) for axis in range(mask.ndim)]
    whole = np.ones((1,) * mask.ndim, bool)
    for axis, line in enumerate(axes):
        whole = whole & line.reshape([-1 if a == axis else 1 for a in range(mask.ndim)])
    if np.array_equal(whole, mask):
        runs = [_runs(np.asarray(line), size) for line, size in zip(axes, shape, strict=True)]
        yield from (list(item) for item in product(*runs))
        return
    axis = next(a for a in range(mask.ndim) if mask.shape[a] > 1)
    start = 0
    for stop in range(1, mask.shape[axis] + 1):
        line = np.take(mask, start, axis)
        if stop == mask.shape[axis] or not np.array_equal(np.take(mask, stop, axis), line):
            for box in _boxes(np.expand_dims(line, axis), shape):
                box[axis] = slice(start, stop)
                yield box
            start = stop


def _runs(line: Array, size: int) -> list[slice]:
    """Consecutive true places; a line of one place stands for all ``size``."""
    if line.size == 1:
        return [slice(0, size)] if line[0] else []
    edges = np.flatnonzero(np.diff(np.concatenate(([False], line, [False])).astype(np.int8)))
    return [slice(int(a), int(b)) for a, b in zip(edges[::2], edges[1::2], strict=True)]
