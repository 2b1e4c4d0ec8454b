"""``--inputs a=bf16[4096,4096],idx=uint32[128,1]:0..63,scale=0.5,w=w.npy``: a kernel's arguments from one line."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np

from trainshed.core import UserError
from trainshed.numerics.cast import from_float32
from trainshed.numerics.formats import DType, lookup

_TENSOR = re.compile(r"^(?P<dtype>[A-Za-z_][\w.]*)\[(?P<shape>[\d,\s]+)\](?::(?P<fill>.+))?$")
_RANGE = re.compile(r"^(-?[\d.]+)\.\.(-?[\d.]+)$")
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
        dtype = lookup(match["dtype"])
        if dtype is None:
            raise UserError("dtype", where=f"--inputs {item}", value=match["dtype"], expected="e.g. bf16, fp32, int32")
        shape = tuple(int(size) for size in match["shape"].split(",") if size.strip())
        if not shape or min(shape) < 1:
            raise UserError("shape", where=f"--inputs {item}", value=match["shape"], expected="positive sizes")
        return _tensor(item, dtype, shape, match["fill"], generator)
    if value.endswith(".npy"):
        if not Path(value).is_file():
            raise UserError(
                "no such file", where=f"--inputs {item}", value=value, expected="an array saved by numpy.save"
            )
        return np.load(value)
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
        values = (
            generator.uniform(low, high, shape)
            if dtype.is_float
            else generator.integers(int(low), int(high) + 1, shape)
        )
    elif fill in (None, "normal"):
        values = generator.standard_normal(shape) if dtype.is_float else generator.integers(0, 128, shape)
    elif fill in ("zeros", "ones"):
        values = np.full(shape, float(fill == "ones"))
    elif fill == "arange":
        values = np.arange(int(np.prod(shape))).reshape(shape)
    else:
        raise UserError("fill", where=f"--inputs {item}", value=fill, expected=_FILLS)
    return from_float32(values.astype(np.float32), dtype) if dtype.is_float else values.astype(dtype.storage)
