"""Launches of kernels on arrays that are always the same, and the rows that ask for them."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Protocol

import numpy as np

from trainshed.core.errors import UserError
from trainshed.nki.run import Kernel, Simulated, simulate
from trainshed.numerics.formats import DType, lookup

Array = np.ndarray[Any, Any]
#: Generations that kernels run on, as ``nki.simulate`` names them.
TARGETS = ("trn1", "trn2", "trn3")


class Row(Protocol):
    """What is read of a row (``trainshed.validate.table.Row``)."""

    @property
    def id(self) -> str:
        """Stable name of the row."""

    @property
    def group(self) -> str:
        """The source family."""

    @property
    def metric(self) -> str:
        """Name of the figure with its unit."""

    def text(self, column: str) -> str | None:
        """A cell of words."""

    def number(self, column: str) -> float | None:
        """A cell with a number."""

    def integer(self, column: str) -> int | None:
        """A cell with a whole number."""

    def json(self, column: str) -> Mapping[str, Any]:
        """A cell with a JSON object."""


def _normal(shape: tuple[int, ...], dtype: DType, generator: np.random.Generator) -> Array:
    return generator.standard_normal(shape, np.float32).astype(dtype.storage)


@dataclass(frozen=True, kw_only=True)
class Argument:
    """One array that a kernel is launched with."""

    name: str
    shape: tuple[int, ...]
    dtype: DType
    values: Callable[[np.random.Generator], Array] | None = field(default=None, repr=False)
    """Draws the values; normal ones where it is None."""

    def __post_init__(self) -> None:
        if not self.name.isidentifier():
            raise UserError("name", where="kernels.measured.Argument", value=self.name, expected="an identifier")
        if not self.shape or min(self.shape) < 1:
            raise UserError("shape", where=f"argument {self.name}", value=self.shape, expected="positive sizes")

    @property
    def nbytes(self) -> int:
        """Bytes in HBM."""
        return math.prod(self.shape) * self.dtype.itemsize

    def array(self, generator: np.random.Generator) -> Array:
        """Values of this shape and dtype."""
        if self.values is None:
            return _normal(self.shape, self.dtype, generator)
        drawn = self.values(generator)
        if drawn.shape != self.shape:
            raise UserError("values", where=f"argument {self.name}", value=drawn.shape, expected=f"shape {self.shape}")
        return drawn.astype(self.dtype.storage, copy=False)


@dataclass(frozen=True, kw_only=True)
class Launch:
    """One launch of a kernel: on what, with which arguments and options."""

    kernel: Kernel
    target: str
    arguments: tuple[Argument, ...]
    options: Mapping[str, int | float] = field(default_factory=lambda: MappingProxyType({}))
    lnc: int = 1
    """Physical cores of the launch."""
    added_s: float = 0.0
    """Seconds that the published figure contains besides the kernel's own: a null launch."""

    def __post_init__(self) -> None:
        where = f"launch of {self.kernel.function.__name__}"
        if self.target not in TARGETS:
            raise UserError("target", where=where, value=self.target, expected=", ".join(TARGETS))
        if self.lnc not in (1, 2):
            raise UserError("cores", where=where, value=self.lnc, expected="1 or 2")
        if not 0.0 <= self.added_s < math.inf:
            raise UserError("added seconds", where=where, value=self.added_s, expected="0 or more")
        object.__setattr__(self, "options", MappingProxyType(dict(self.options)))
        names = [*(argument.name for argument in self.arguments), *self.options]
        try:
            if len(set(names)) < len(names):
                raise TypeError("a name given twice")
            inspect.signature(self.kernel.function).bind(**dict.fromkeys(names))
        except TypeError as error:
            raise UserError("arguments", where=where, value=names, expected=f"those it has ({error})") from None

    def inputs(self, seed: int = 0, *, blank: bool = False) -> dict[str, Array]:
        """The arguments' arrays by name, always the same for the same seed; ``blank``: zeros, which cost nothing."""
        generator = np.random.default_rng(seed)
        return {
            argument.name: np.zeros(argument.shape, argument.dtype.storage) if blank else argument.array(generator)
            for argument in self.arguments
        }

    def run(self, *, values: bool = True, seed: int = 0) -> Simulated:
        """The kernel simulated once; what it did is in the result's ``profile`` and ``launch``.

        Without ``values`` nothing is computed.
        """
        kernel = self.kernel if self.lnc == 1 else self.kernel[self.lnc]
        simulated = simulate(kernel, target=self.target, values=values)
        simulated(**self.inputs(seed, blank=not values), **self.options)
        return simulated


@dataclass(frozen=True, kw_only=True)
class Case:
    """A row, and the launches that it asks for."""

    row: Row
    target: str

    @property
    def variant(self) -> str:
        """What the source calls the version of the kernel."""
        return self.row.text("variant") or ""

    @property
    def shape(self) -> Mapping[str, Any]:
        """The row's sizes by name."""
        return self.row.json("shape")

    @property
    def options(self) -> Mapping[str, Any]:
        """The row's options."""
        return self.row.json("options")

    @property
    def dtype(self) -> DType:
        """The row's dtype."""
        found = lookup(self.row.text("dtype") or "")
        if found is None:
            raise UserError("dtype", where=self.row.id, value=self.row.text("dtype"), expected="e.g. bf16")
        return found

    def size(self, name: str) -> int:
        """A size of the row's shape."""
        value = self.shape.get(name)
        if not isinstance(value, int) or value < 1:
            raise UserError("size", where=self.row.id, value=value, expected=f"a positive {name} in shape")
        return value

    def array(self, name: str, *shape: int, dtype: DType | None = None) -> Argument:
        """An argument, of the row's dtype unless another is given."""
        return Argument(name=name, shape=shape, dtype=dtype or self.dtype)

    def launch(self, kernel: Kernel, arguments: list[Argument], **options: int | float) -> Launch:
        """One launch of the row."""
        return Launch(
            kernel=kernel, target=self.target, arguments=tuple(arguments), options=options,
            lnc=self.row.integer("lnc") or 1,
        )  # fmt: skip
