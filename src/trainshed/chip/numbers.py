"""Whole numbers and scalars that a kernel gives: what is none is one sentence that names the argument."""

from __future__ import annotations

import operator
from collections.abc import Iterable
from typing import Any

import numpy as np

from trainshed.chip.errors import violation


def whole(function: str, operand: str, value: Any, what: str = "number") -> int:
    """A whole number, or what a register holds; True and False are none."""
    try:
        if isinstance(value, bool | np.bool_):
            raise TypeError
        return operator.index(value)
    except TypeError:
        raise violation(
            function, operand, what, value=value, expected="a whole number", rule="whole-number"
        ) from None  # fmt: skip


def wholes(function: str, operand: str, values: Any, what: str = "numbers") -> tuple[int, ...]:
    """Several of them."""
    if isinstance(values, str | bytes) or not isinstance(values, Iterable):
        raise violation(
            function, operand, what, value=values, expected="a list of whole numbers", rule="whole-number"
        )  # fmt: skip
    return tuple(whole(function, operand, value, what) for value in values)


def scalar(function: str, operand: str, value: Any, what: str = "operand") -> Any:
    """A number as it was given."""
    if isinstance(value, str | bytes) or np.ndim(value):
        raise violation(function, operand, what, value=value, expected="a scalar or a tensor", rule="operand")
    try:
        float(value)
    except (TypeError, ValueError):
        raise violation(
            function, operand, what, value=value, expected="a scalar or a tensor", rule="operand"
        ) from None  # fmt: skip
    return value
