"""What each kernel of the library comes with: inputs, values to compare with, and the operator formula of its time."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from trainshed.core.errors import UserError

Array = np.ndarray[Any, Any]
Shape = Mapping[str, int]
"""Sizes by the names of a kernel's axes, as ``{"m": 128, "k": 512, "n": 512}``."""
Inputs = Mapping[str, Any]
"""The arguments of a kernel by name: arrays, numbers, flags."""


@dataclass(frozen=True, kw_only=True)
class Operator:
    """A formula of ``ops`` and its arguments: ``getattr(device(rank), method)(what=..., **arguments)``."""

    method: str
    arguments: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Reference:
    """A kernel of the library, and all that it takes to run, check and time it.

    Each room of kernels has a tuple ``REFERENCES`` of them.
    """

    name: str
    """Room and variant, as ``gemm.matmul``."""
    kernel: Callable[..., Any]
    """An ``nki.jit`` kernel; its arguments are tensors in HBM and Python numbers."""
    axes: tuple[str, ...]
    """Names of the sizes that a shape has to give."""
    make_inputs: Callable[[Shape, str, np.random.Generator], Inputs]
    """The arguments of a shape and a dtype (a name of ``core.dtypes``, as ``bf16``), in the layout of the kernel."""
    reference: Callable[[Inputs], tuple[Array, ...]]
    """What the kernel should return, in float64 (packed containers: their bits) and by NumPy alone, by output."""
    operator: Callable[[Shape, str], Operator] | None
    """The formula whose time should be the kernel's, of a shape and a dtype; None: there is none."""
    dtypes: tuple[str, ...] = ("bf16",)
    targets: tuple[str, ...] = ("trn1", "trn2", "trn3")
    """Generations that have the instructions."""
    tolerance: Mapping[str, float] = field(default_factory=lambda: {"bf16": 2.0**-7})
    """By dtype, the largest error, relative to the largest value of an output."""
    shapes: tuple[Shape, ...] = ()
    """Small shapes, odd ones among them, at which values are tested."""

    def inputs(self, shape: Shape, dtype: str, generator: np.random.Generator) -> Inputs:
        """As ``make_inputs``, after a look at the axes and the dtype."""
        if set(shape) != set(self.axes):
            raise UserError("axes", where=f"kernel {self.name}", value=", ".join(shape), expected=", ".join(self.axes))
        if dtype not in self.dtypes:
            raise UserError("dtype", where=f"kernel {self.name}", value=dtype, expected=" or ".join(self.dtypes))
        return self.make_inputs(shape, dtype, generator)

    def error(self, found: Any, wanted: tuple[Array, ...]) -> float:
        """The largest error of any output, relative to that output's largest value."""
        outputs = found if isinstance(found, tuple) else (found,)
        if len(outputs) != len(wanted):
            raise UserError("outputs", where=f"kernel {self.name}", value=len(outputs), expected=str(len(wanted)))
        errors = [0.0]
        for one, good in zip(outputs, wanted, strict=True):
            if np.shape(one) != good.shape:
                raise UserError("output", where=f"kernel {self.name}", value=np.shape(one), expected=str(good.shape))
            scale = float(np.abs(good).max(initial=0.0)) or 1.0
            difference = np.abs(_plain(one).astype(np.float64) - good).max(initial=0.0)
            errors.append(float(difference) / scale)
        return float(np.max(errors))


def _plain(values: Any) -> Array:
    """An array; of packed containers the bits."""
    found: Array = np.asarray(values)
    return found.view(found.dtype[0]) if found.dtype.names else found
