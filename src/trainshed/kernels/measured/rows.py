"""From a row of ``validation/kernels.csv`` to the launches behind its figure."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, Protocol

import numpy as np

from trainshed.core.errors import UserError
from trainshed.kernels.measured import matmul, rowwise
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

    def text(self, column: str) -> str | None:
        """A cell of words."""

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

    def inputs(self, seed: int = 0) -> dict[str, Array]:
        """The arguments' arrays by name, always the same for the same seed."""
        generator = np.random.default_rng(seed)
        return {argument.name: argument.array(generator) for argument in self.arguments}

    def run(self, *, values: bool = True, seed: int = 0) -> Simulated:
        """The kernel simulated once; what it did is in the result's ``profile`` and ``launch``.

        Without ``values`` nothing is computed.
        """
        kernel = self.kernel if self.lnc == 1 else self.kernel[self.lnc]
        simulated = simulate(kernel, target=self.target, values=values)
        simulated(**self.inputs(seed), **self.options)
        return simulated


def launches(row: Row) -> tuple[Launch, ...] | None:
    """The launches whose times, and ``added_s``, add up to the figure of a row; None where its kernel is not here.

    A row's chip is the target, its ``lnc`` the cores of each launch. Shapes that a kernel does not take are its errors
    when it is launched; a size that is missing in the row is one here.
    """
    make = _MADE.get((row.group, row.text("kernel") or ""))
    target = row.text("chip")
    if make is None or target not in TARGETS:
        return None
    made = make(_Case(row=row, target=target))
    if not made:
        return None
    added = float(row.json("options").get("includes_launch_s", 0.0))
    first = replace(made[0], added_s=added) if added else made[0]
    return (first, *made[1:])


@dataclass(frozen=True, kw_only=True)
class _Case:
    """A row, and the launches that it asks for."""

    row: Row
    target: str

    @property
    def variant(self) -> str:
        return self.row.text("variant") or ""

    @property
    def shape(self) -> Mapping[str, Any]:
        return self.row.json("shape")

    @property
    def dtype(self) -> DType:
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

    def array(self, name: str, *shape: int) -> Argument:
        """An argument of the row's dtype."""
        return Argument(name=name, shape=shape, dtype=self.dtype)

    def launch(self, kernel: Kernel, arguments: list[Argument], **options: int | float) -> Launch:
        """One launch of the row."""
        return Launch(
            kernel=kernel, target=self.target, arguments=tuple(arguments), options=options,
            lnc=self.row.integer("lnc") or 1,
        )  # fmt: skip


def _matmul(case: _Case) -> list[Launch]:
    kernel = _MATMULS.get(case.variant)
    if kernel is None:
        return []
    options = case.row.json("options")
    blocks = {name: int(size) for name, size in options.items() if name.startswith("tiles_in_block_")}
    m, k = case.size("m"), case.size("k")
    widths = [case.size(name) for name in ("n", "second_n") if name in case.shape]
    return [
        case.launch(kernel, [case.array("lhsT", k, m), case.array("rhs", k, width)], **blocks)
        for width in widths or [case.size("n")]
    ]


def _rowwise(case: _Case) -> list[Launch]:
    kernel = _ROWWISE.get(case.variant)
    if kernel is None:
        return []
    made = []
    for prefix in ("", "second_") if "second_rows" in case.shape else ("",):
        rows, columns = case.size(f"{prefix}rows"), case.size(f"{prefix}cols")
        arguments = [case.array("x", rows, columns)]
        if kernel is rowwise.rmsnorm:
            arguments.append(case.array("weight", 1, columns))
        made.append(case.launch(kernel, arguments))
    return made


#: Variant → kernel.
_MATMULS: Mapping[str, Kernel] = {
    "tutorial tiled matmul (matmul_start)": matmul.tiled,
    "AWS tutorial nki_matmul_fully_optimized, fp32 accumulation": matmul.blocked_wide,
    "basic tiled": matmul.tiled,
    "hoist load": matmul.hoisted,
    "block free dimensions": matmul.block_free,
    "fully optimized": matmul.blocked,
}
_ROWWISE: Mapping[str, Kernel] = {
    "naive (rmsnorm_start)": rowwise.rmsnorm,
    "tiled, 128 rows per DMA (copy_tiled)": rowwise.copy_tiled,
}
_MADE: Mapping[tuple[str, str], Callable[[_Case], list[Launch]]] = {
    ("chipboost", "matmul"): _matmul,
    ("chipboost_sweep", "matmul"): _matmul,
    ("nki_tutorial_trn1", "matmul"): _matmul,
    ("chipboost", "copy"): _rowwise,
    ("chipboost", "rmsnorm"): _rowwise,
}
