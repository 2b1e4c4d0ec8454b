"""What the wrappers of Beta-1 instructions share: dtypes, operands narrowed by masks, second destinations."""

from __future__ import annotations

from typing import Any

import numpy as np

from trainshed.chip.errors import violation
from trainshed.nki.beta1.index import Box, boxes
from trainshed.nki.beta1.refuse import refusal
from trainshed.nki.beta1.tile import Operand, Value, flush, on_chip
from trainshed.numerics.formats import DType, float32, lookup

#: NumPy's defaults, in the widths the device has.
_WIDE = {"float64": "float32", "int64": "int32", "uint64": "uint32"}


def kind(dtype: Any, default: DType) -> DType:
    """The dtype asked for, or the default."""
    if dtype is None:
        return default
    found = lookup(_WIDE.get(str(dtype), dtype))
    if found is None:
        raise violation("nki.isa", "dtype", "unknown", value=dtype, expected="one of nki.language's", rule="dtype")
    return found


def part(value: Any, box: Box | None = None) -> Any:
    """An operand as the chip takes it: tiles as views, numbers as they are."""
    if isinstance(value, Operand):
        return value.at(box)
    return float(value) if isinstance(value, np.generic) else value


def rows(value: Any, box: Box | None) -> Any:
    """A per-partition operand: only its partitions are narrowed."""
    if isinstance(value, Operand) and box is not None and value.shape[0] > 1:
        return value.at((box[0],))
    return part(value)


def keep(*values: Any) -> list[Any]:
    """Operands on chip; what was kept back is issued."""
    return [on_chip(value) if isinstance(value, Operand) else value for value in values]


def ahead(mask: Any, shape: tuple[int, ...]) -> list[Box | None]:
    """The boxes of an instruction that has its destination as an argument."""
    flush()
    return [None] if mask is None else list(boxes(mask, shape))


def with_result(value: Value, result: Any) -> Value:
    """An instruction with a second destination is issued at once: that one may be read next."""
    if result is not None:
        value.blocks  # noqa: B018 - the property allocates and issues
    return value


def unmasked(name: str, mask: Any) -> None:
    if mask is not None:
        raise refusal(f"mask= of {name}", "slices that end at min(size, start + step)")


def op_name(op: Any) -> str:
    return op if isinstance(op, str) else str(getattr(op, "__name__", op))


def as_float(dtype: DType) -> DType:
    return dtype if dtype.is_float else float32
