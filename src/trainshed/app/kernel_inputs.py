"""``--inputs a=bf16[4096,4096],idx=uint32[128,1]:0..63,scale=0.5,w=w.npy``: a kernel's arguments from one line."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import numpy as np

from trainshed.core import UserError
from trainshed.numerics.cast import from_float32
from trainshed.numerics.formats import DType, lookup

_TENSOR = re.compile(r"^(?P<dtype>[A-Za-z_][\w.]*)\[(?P<shape>\s*\d+\s*(?:,\s*\d+\s*)*,?\s*)\](?::(?P<fill>.+))?$")
_RANGE = re.compile(r"^(-?[\d.]+)\.\.(-?[\d.]+)$")
#: Short names of dtypes that the command takes besides those of ``nki.language`` and bf16, fp16, fp32.
_SHORT = {
    "f32": "float32", "f16": "float16", "i32": "int32", "u32": "uint32", "i16": "int16", "u16": "uint16", "i8": "int8",
    "u8": "uint8",
}  # fmt: skip
_EXPECTED = "name=dtype[sizes], name=dtype[sizes]:fill, name=file.npy or name=number"
_FILLS = "normal, zeros, ones, arange or LOW..HIGH"


def parse_inputs(text: str, *, seed: int = 0) -> dict[str, Any]:
    """Arguments by name, in the order given; tensors are drawn from one seeded generator."""
    if seed < 0:
        raise UserError("seed", where="--seed", value=seed, expected="0 or more")
    generator = np.random.default_rng(seed)
    arguments: dict[str, Any] = {}
    for item in _split(text):
        name, sign, value = item.partition("=")
        name, value = name.strip(), value.strip()
        if not sign or not name.isidentifier() or not value:
            raise UserError("input", where="--inputs", value=item, expected=_EXPECTED)
        if name in arguments:
            raise UserError("input given twice", where="--inputs", value=name, expected="each name once")
        arguments[name] = _value(item, value, generator)
    return arguments


def described(arguments: dict[str, Any]) -> dict[str, Any]:
    """The arguments for a report: tensors by dtype and shape."""
    return {
        name: f"{lookup(value.dtype) or value.dtype}{list(value.shape)}" if isinstance(value, np.ndarray) else value
        for name, value in arguments.items()
    }


def _split(text: str) -> list[str]:
    """Items between commas outside brackets."""
    items, depth, start = [], 0, 0
    for i, letter in enumerate(text):
        depth += (letter == "[") - (letter == "]")
        if letter == "," and depth == 0:
            items.append(text[start:i])
            start = i + 1
    return [item.strip() for item in [*items, text[start:]] if item.strip()]


def _value(item: str, value: str, generator: np.random.Generator) -> Any:
    match = _TENSOR.match(value)
    if match:
        dtype = lookup(_SHORT.get(match["dtype"], match["dtype"]))
        if dtype is None:
            raise UserError("dtype", where=f"--inputs {item}", value=match["dtype"], expected="e.g. bf16, fp32, int32")
        shape = tuple(int(size) for size in match["shape"].split(",") if size.strip())
        if not shape or min(shape) < 1:
            raise UserError("shape", where=f"--inputs {item}", value=match["shape"], expected="positive sizes")
        try:
            return _tensor(item, dtype, shape, match["fill"], generator)
        except (MemoryError, OverflowError, ValueError):  # NumPy's, which has no array so large
            raise UserError(
                "array", where=f"--inputs {item}", value=list(shape), expected="what this machine's memory holds"
            ) from None
    if value.endswith(".npy"):
        if not Path(value).is_file():
            raise UserError(
                "no such file", where=f"--inputs {item}", value=value, expected="an array saved by numpy.save"
            )
        try:
            return np.load(value)
        except (OSError, ValueError, EOFError):
            raise UserError(
                "file", where=f"--inputs {item}", value=value, expected="numbers saved by numpy.save"
            ) from None
    if value in ("True", "False", "None"):
        return {"True": True, "False": False, "None": None}[value]
    for kind in (int, float):
        try:
            return kind(value)
        except ValueError:
            continue
    raise UserError("input", where="--inputs", value=item, expected=_EXPECTED)


def _tensor(
    item: str, dtype: DType, shape: tuple[int, ...], fill: str | None, generator: np.random.Generator
) -> np.ndarray[Any, Any]:
    """Floats are normal and integers 0 to 127 unless a fill says otherwise; packed formats get random bits."""
    bounds = _RANGE.match(fill) if fill else None
    least, most = _limits(dtype)
    if dtype.outside.names:
        bits = generator.integers(0, np.iinfo(dtype.storage).max, shape, dtype.storage, endpoint=True)
        # The exponent's top bit of each element is cleared: no element is infinite or not a number.
        bits &= np.asarray(0xBFBFBFBF if dtype.itemsize == 4 else 0xFFFF, dtype.storage)
        return bits.view(dtype.outside)
    if bounds:
        try:
            low, high = float(bounds[1]), float(bounds[2])
        except ValueError:
            low, high = 1.0, 0.0
        if low > high:
            raise UserError("fill", where=f"--inputs {item}", value=fill, expected="LOW..HIGH, the lower one first")
        if not dtype.is_float and not (low.is_integer() and high.is_integer() and least <= low and high <= most):
            raise UserError(
                "fill", where=f"--inputs {item}", value=fill, expected=f"whole numbers from {least} to {most}"
            )
        values = (
            generator.uniform(low, high, shape)
            if dtype.is_float
            else generator.integers(int(low), int(high) + 1, shape)
        )
    elif fill in (None, "normal"):
        values = (
            generator.standard_normal(shape) if dtype.is_float else generator.integers(0, min(127, most) + 1, shape)
        )
    elif fill in ("zeros", "ones"):
        values = np.full(shape, float(fill == "ones"))
    elif fill == "arange":
        count = math.prod(shape)
        if not dtype.is_float and count - 1 > most:
            raise UserError("fill", where=f"--inputs {item}", value=fill, expected=f"at most {most + 1} elements")
        values = np.arange(count).reshape(shape)
    else:
        raise UserError("fill", where=f"--inputs {item}", value=fill, expected=_FILLS)
    return from_float32(values.astype(np.float32), dtype) if dtype.is_float else values.astype(dtype.storage)


def _limits(dtype: DType) -> tuple[int, int]:
    """The least and the largest whole number of an integer format."""
    if dtype.storage.kind not in "iu":
        return 0, 1
    limits = np.iinfo(dtype.storage)
    return int(limits.min), int(limits.max)
