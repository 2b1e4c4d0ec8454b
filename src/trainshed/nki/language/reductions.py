"""Reductions over free dimensions, softmax and RMS norm. Source: ``nki.language``, "Reductions" and "Normalisation"."""

from __future__ import annotations

import builtins
from collections.abc import Sequence
from typing import Any

from trainshed.chip.errors import violation
from trainshed.chip.isa.reduce import tensor_reduce
from trainshed.chip.isa.scalar import activation
from trainshed.chip.isa.vector import tensor_scalar
from trainshed.chip.numbers import wholes
from trainshed.chip.tensor import NkiTensor, as_dtype
from trainshed.nki.language import elementwise as e
from trainshed.nki.language.creation import ndarray, sbuf

Axis = int | Sequence[int]


def _axes(function: str, x: NkiTensor, axis: Axis) -> tuple[int, ...]:
    given = wholes(function, "axis", axis if isinstance(axis, tuple | list) else (axis,), "dimension")
    axes = tuple(sorted(item % x.ndim for item in given))
    if 0 in axes:
        raise violation(function, repr(x), "axis", value=axis, rule="reduce-axis",
                        expected="free dimensions (across partitions: nisa.tensor_partition_reduce)")  # fmt: skip
    return axes


def _reduce(
    function: str, op: Any, x: NkiTensor, axis: Axis, dtype: Any, keepdims: bool, kind: Any = None
) -> NkiTensor:
    e.on_chip(function, x)
    axes = _axes(function, x, axis)
    others = tuple(dim for dim in range(1, x.ndim) if dim not in axes)
    view = x if (*others, *axes) == tuple(range(1, x.ndim)) else x.permute((0, *others, *axes))
    kept = [x.shape[0], *(x.shape[dim] for dim in others)]
    out = ndarray((*kept, *(1 for _ in axes)), dtype or kind or x.dtype, sbuf)
    last = tuple(builtins.range(view.ndim - len(axes), view.ndim))
    tensor_reduce(out, op, view, last, keepdims=True)
    if keepdims:
        return out.reshape([1 if dim in axes else x.shape[dim] for dim in range(x.ndim)])
    return out.reshape(kept if len(kept) > 1 else (kept[0], 1))


def sum(x: NkiTensor, axis: Axis, dtype: Any = None, keepdims: bool = False) -> NkiTensor:
    """Sum over free dimensions."""
    return _reduce("sum", e.add, x, axis, dtype, keepdims)


def max(x: NkiTensor, axis: Axis, dtype: Any = None, keepdims: bool = False) -> NkiTensor:
    """Largest value over free dimensions."""
    return _reduce("max", e.maximum, x, axis, dtype, keepdims)


def min(x: NkiTensor, axis: Axis, dtype: Any = None, keepdims: bool = False) -> NkiTensor:
    """Smallest value over free dimensions."""
    return _reduce("min", e.minimum, x, axis, dtype, keepdims)


def prod(x: NkiTensor, axis: Axis, dtype: Any = None, keepdims: bool = False) -> NkiTensor:
    """Product over free dimensions."""
    return _reduce("prod", e.multiply, x, axis, dtype, keepdims)


def all(x: NkiTensor, axis: Axis, dtype: Any = None) -> NkiTensor:
    """1 where every element along the free dimensions is not 0."""
    return _reduce("all", e.minimum, e.binary(e.not_equal, x, 0, "float32"), axis, dtype or x.dtype, False)


def _count(x: NkiTensor, axes: tuple[int, ...]) -> int:
    count = 1
    for dim in axes:
        count *= x.shape[dim]
    return count


def mean(x: NkiTensor, axis: Axis, dtype: Any = None, keepdims: bool = False) -> NkiTensor:
    """Arithmetic mean over free dimensions."""
    total = _reduce("mean", e.add, x, axis, "float32", keepdims)
    return e.binary(e.multiply, total, 1.0 / _count(x, _axes("mean", x, axis)), dtype or x.dtype)


def var(x: NkiTensor, axis: Axis, dtype: Any = None, keepdims: bool = False) -> NkiTensor:
    """Variance (of the population) over free dimensions, which stay as size 1 whatever ``keepdims`` says.

    Source: ``nki.language.var``, "keepdims: currently ignored".
    """
    centred = e.binary(e.subtract, x, mean(x, axis, "float32", keepdims=True), "float32")
    return mean(e.binary(e.multiply, centred, centred, "float32"), axis, dtype or x.dtype, True)


def softmax(x: NkiTensor, axis: Axis = -1, dtype: Any = None) -> NkiTensor:
    """exp(x - max) over its sum, along free dimensions."""
    most = max(x, axis, "float32", keepdims=True)
    powers = e.unary(e.exp, e.binary(e.subtract, x, most, "float32"), "float32")
    inverse = e.reciprocal(sum(powers, axis, "float32", keepdims=True))
    return e.binary(e.multiply, powers, inverse, dtype or x.dtype)


def rms_norm(
    x: NkiTensor, w: NkiTensor | None, axis: Axis, n: int, epsilon: float = 1e-6, dtype: Any = None,
    compute_dtype: Any = None,
) -> NkiTensor:  # fmt: skip
    """x over the root of its mean square (of ``n`` elements) plus epsilon, times ``w``."""
    kind = as_dtype(compute_dtype or "float32", "rms_norm")
    squares = sum(e.binary(e.multiply, x, x, "float32"), axis, "float32", keepdims=True)
    mean_square = ndarray(squares.shape, "float32", sbuf)
    tensor_scalar(mean_square, squares, e.multiply, 1.0 / n, op1=e.add, operand1=float(epsilon))
    factor = ndarray(squares.shape, "float32", sbuf)
    activation(factor, e.rsqrt, mean_square)
    scaled = e.binary(e.multiply, x, factor, kind if w is not None else dtype or x.dtype)
    return scaled if w is None else e.binary(e.multiply, scaled, w, dtype or x.dtype)
