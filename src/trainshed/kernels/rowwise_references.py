"""The norms, elementwise, quantising and optimiser kernels of the library, and the formulas ``elementwise``, ``copy``.

Passes of VectorE and ScalarE over the elements are those of the kernels; bytes are counted in tensors of the dtype.
LayerNorm has three of VectorE and GpSimdE together, which share them: statistics, weight, bias.
"""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np

from trainshed.kernels import norms, optimiser, quantise, rowwise
from trainshed.kernels.reference import Array, Inputs, Operator, Reference, Shape
from trainshed.numerics.dtypes import BYTES

STORED: dict[str, Any] = {"bf16": ml_dtypes.bfloat16, "fp16": np.float16, "fp32": np.float32}
_ROUNDED = {"bf16": 2.0**-7, "fp16": 2.0**-10, "fp32": 1e-6}
_FLOATS = ("bf16", "fp16", "fp32")
_ROWS = ({"rows": 1, "columns": 96}, {"rows": 129, "columns": 700}, {"rows": 300, "columns": 64})


def _wide(values: Array) -> Array:
    return values.astype(np.float64)


def _normal(generator: np.random.Generator, shape: tuple[int, ...], dtype: str) -> Array:
    values: Array = generator.standard_normal(shape, np.float32).astype(STORED[dtype])
    return values


def _tensors(*names: str, weights: tuple[str, ...] = ()) -> Any:
    """A function that makes tensors [rows, columns] and weights [1, columns]."""

    def make(shape: Shape, dtype: str, generator: np.random.Generator) -> Inputs:
        rows, columns = shape["rows"], shape["columns"]
        found = {name: _normal(generator, (rows, columns), dtype) for name in names}
        return {**found, **{name: _normal(generator, (1, columns), dtype) for name in weights}}

    return make


def _passes(
    *,
    reads: float = 1,
    writes: float = 1,
    vector: float = 0.0,
    transcendental: float = 0.0,
    copies: float = 0.0,
    by_row: bool = False,
) -> Any:
    """A function that gives the elementwise operator of [rows, columns]; ``by_row``: a row to each partition."""

    def operator(shape: Shape, dtype: str) -> Operator:
        elements = 1
        for size in shape.values():
            elements *= size
        arguments: dict[str, Any] = {
            "elements": elements, "reads": reads, "writes": writes, "vector": vector,
            "transcendental": transcendental, "copies": copies, "dtype": dtype,
        }  # fmt: skip
        return Operator(method="elementwise", arguments={**arguments, "row": shape["columns"]} if by_row else arguments)

    return operator


def _rmsnorm(inputs: Inputs) -> tuple[Array, ...]:
    x = _wide(inputs["x"])
    return (x / np.sqrt((x**2).mean(1, keepdims=True) + 1e-6) * _wide(inputs["weight"]),)


def _layernorm(inputs: Inputs) -> tuple[Array, ...]:
    x = _wide(inputs["x"])
    centred = (x - x.mean(1, keepdims=True)) / np.sqrt(x.var(1, keepdims=True) + 1e-5)
    return (centred * _wide(inputs["weight"]) + _wide(inputs["bias"]),)


def _softmax(inputs: Inputs) -> tuple[Array, ...]:
    powers = np.exp(_wide(inputs["x"]) - _wide(inputs["x"]).max(1, keepdims=True))
    return (powers / powers.sum(1, keepdims=True),)


def _silu_gate(inputs: Inputs) -> tuple[Array, ...]:
    gate = _wide(inputs["gate"])
    return (gate / (1 + np.exp(-gate)) * _wide(inputs["up"]),)


def _turning(shape: Shape, dtype: str, generator: np.random.Generator) -> Inputs:
    tokens, heads, dim = shape["tokens"], shape["heads"], shape["dim"]
    angles = np.arange(tokens)[:, None] * 10000.0 ** (-np.arange(dim // 2) / (dim // 2))
    return {
        "x": _normal(generator, (tokens, heads, dim), dtype),
        "cos": np.cos(angles).astype(STORED[dtype]), "sin": np.sin(angles).astype(STORED[dtype]),
    }  # fmt: skip


def _rope(inputs: Inputs) -> tuple[Array, ...]:
    """As numbers of a complex plane: the first half real, the second imaginary."""
    x, half = _wide(inputs["x"]), inputs["x"].shape[2] // 2
    turned = (x[..., :half] + 1j * x[..., half:]) * (_wide(inputs["cos"]) + 1j * _wide(inputs["sin"]))[:, None]
    return (np.concatenate([turned.real, turned.imag], axis=2),)


def _quantised(inputs: Inputs) -> tuple[Array, ...]:
    """Quotients as they are before they are rounded to FP8, and scales."""
    x = _wide(inputs["x"])
    scales = np.maximum(np.abs(x).max(1, keepdims=True), quantise.LEAST) / 240
    return x / scales, scales


def _mx(inputs: Inputs) -> tuple[Array, ...]:
    """The bits of containers and scales: exponents two below those that would let the largest element overflow."""
    x = _wide(inputs["x"])
    k, columns = x.shape
    steps = -(-k // 512)
    eighths = 4 * -(-k // (128 * steps))
    groups = np.zeros((eighths * steps, 8, 4, columns))
    groups[: k // 32] = x.reshape(k // 32, 8, 4, columns)
    largest = np.abs(groups).max(axis=(1, 2))
    exponents = np.where(largest > 0, np.floor(np.log2(np.maximum(largest, 2.0**-100))) - 7, -127)
    elements = np.clip(groups / 2.0 ** exponents[:, None, None, :], -448, 448).astype(ml_dtypes.float8_e4m3fn)
    by_step = elements.reshape(eighths, steps, 8, 4, columns).transpose(0, 2, 1, 4, 3)
    bits = np.ascontiguousarray(by_step).view(np.uint32).reshape(eighths * 8, steps, columns)
    return bits.astype(np.float64), (exponents + 127).reshape(eighths, steps, columns)


def _training(shape: Shape, dtype: str, generator: np.random.Generator) -> Inputs:
    sizes = (shape["rows"], shape["columns"])
    return {
        "master": _normal(generator, sizes, "fp32"), "gradient": _normal(generator, sizes, dtype),
        "first": _normal(generator, sizes, "fp32"), "second": _normal(generator, sizes, "fp32") ** 2,
        "rates": optimiser.step_rates(3, 1e-2),
    }  # fmt: skip


def _adamw(inputs: Inputs) -> tuple[Array, ...]:
    """Step 3 at a learning rate of 0.01 and a decay of 0.1."""
    g = _wide(inputs["gradient"])
    first = 0.9 * _wide(inputs["first"]) + 0.1 * g
    second = 0.95 * _wide(inputs["second"]) + 0.05 * g**2
    change = first / (1 - 0.9**3) / (np.sqrt(second / (1 - 0.95**3)) + 1e-8)
    weight = _wide(inputs["master"]) * (1 - 1e-2 * 0.1) - 1e-2 * change
    return weight, first, second, weight


def _of_rows(name: str, kernel: Any, make_inputs: Any, reference: Any, operator: Any, **more: Any) -> Reference:
    rest = {"dtypes": _FLOATS, "tolerance": _ROUNDED, "shapes": _ROWS, **more}
    return Reference(
        name=name, kernel=kernel, axes=("rows", "columns"), make_inputs=make_inputs, reference=reference,
        operator=operator, **rest,
    )  # fmt: skip


def _copied(shape: Shape, dtype: str) -> Operator:
    return Operator(method="copy", arguments={"size": shape["rows"] * shape["columns"] * BYTES[dtype]})


def _casting(shape: Shape, dtype: str, generator: np.random.Generator) -> Inputs:
    return {"x": _normal(generator, (shape["rows"], shape["columns"]), dtype), "dtype": "float32"}


REFERENCES = (
    _of_rows(
        "norms.rmsnorm", norms.rmsnorm, _tensors("x", weights=("weight",)), _rmsnorm,
        _passes(vector=1, transcendental=1, by_row=True),
    ),
    _of_rows(
        "norms.layernorm", norms.layernorm, _tensors("x", weights=("weight", "bias")), _layernorm,
        _passes(vector=3.5, transcendental=1, by_row=True),  # statistics count twice, GpSimd does half of them
    ),
    _of_rows(
        "norms.softmax", norms.softmax, _tensors("x"), _softmax, _passes(vector=2, transcendental=1, by_row=True)
    ),
    _of_rows("rowwise.copy", rowwise.copy, _tensors("x"), lambda inputs: (_wide(inputs["x"]),), _copied),
    _of_rows(
        "rowwise.cast", rowwise.cast, _casting, lambda inputs: (_wide(inputs["x"]),),
        _passes(writes=2, vector=0.5, copies=0.5), dtypes=("bf16",),
    ),
    _of_rows(
        "rowwise.add", rowwise.add, _tensors("x", "y"), lambda inputs: (_wide(inputs["x"]) + _wide(inputs["y"]),),
        _passes(reads=2, vector=1),
    ),
    _of_rows(
        "rowwise.silu_gate", rowwise.silu_gate, _tensors("gate", "up"), _silu_gate,
        _passes(reads=2, vector=1, transcendental=1),
    ),
    Reference(
        name="rowwise.rope", kernel=rowwise.rope, axes=("tokens", "heads", "dim"), make_inputs=_turning,
        reference=_rope, operator=_passes(vector=2, transcendental=1), dtypes=_FLOATS, tolerance=_ROUNDED,
        shapes=(
            {"tokens": 1, "heads": 3, "dim": 8}, {"tokens": 129, "heads": 4, "dim": 64},
            {"tokens": 300, "heads": 1, "dim": 128},
        ),
    ),
    _of_rows(
        "quantise.rows", quantise.rows, _tensors("x"), _quantised,
        _passes(writes=0.5, vector=1.5, transcendental=2 / 3),
        dtypes=("bf16",), tolerance={"bf16": 8.001 / 240},
    ),
    _of_rows(
        "quantise.mx", quantise.mx, _tensors("x"), _mx, _passes(writes=0.5 + 1 / 64, vector=0.5),
        dtypes=("bf16",), targets=("trn3",), tolerance={"bf16": 0.0},
        shapes=({"rows": 32, "columns": 3}, {"rows": 640, "columns": 5}, {"rows": 1312, "columns": 2500}),
    ),
    _of_rows(
        "optimiser.adamw", optimiser.adamw, _training, _adamw, _passes(reads=7, writes=7, vector=5, transcendental=2),
        dtypes=("bf16",),
    ),
)  # fmt: skip
