"""The matrix products of the library: operands, values and the formula ``matmul``."""

from __future__ import annotations

import ml_dtypes
import numpy as np

from trainshed.kernels.blocks import Blocks, blocks
from trainshed.kernels.gemm import matmul, matmul_mx
from trainshed.kernels.gemm_layout import Array, arranged, mx_rows, mx_values
from trainshed.kernels.reference import Inputs, Operator, Reference, Shape

STORED = {"bf16": ml_dtypes.bfloat16, "fp16": np.float16, "fp32": np.float32, "fp8": ml_dtypes.float8_e4m3}
PACKED = {"mxfp8": "float8_e4m3fn_x4", "mxfp4": "float4_e2m1fn_x4"}


def _cut(shape: Shape, dtype: str) -> Blocks:
    """The blocks as layouts see them, which are the same on every generation."""
    return blocks(shape["m"], shape["k"], shape["n"], dtype, "trn3")


def _inputs(shape: Shape, dtype: str, generator: np.random.Generator) -> Inputs:
    m, k, n = shape["m"], shape["k"], shape["n"]
    x = generator.standard_normal((k, m), np.float32).astype(STORED[dtype])
    w = generator.standard_normal((k, n), np.float32).astype(STORED[dtype])
    inputs = {"x": x, "w": arranged(w, _cut(shape, dtype)), "columns": n}
    if dtype == "fp8":
        inputs["x_scale"] = generator.uniform(0.5, 2.0, (m, 1)).astype(np.float32)
    return inputs


def _columns(w: Array, n: int) -> Array:
    """[k, n] again of blocks [blocks, k, width]."""
    return np.moveaxis(w, 0, -2).reshape(*w.shape[1:-1], -1)[..., :n]


def _values(inputs: Inputs) -> tuple[Array, ...]:
    w = _columns(inputs["w"], inputs["columns"]).astype(np.float64)
    return (inputs["x"].astype(np.float64).T @ w * inputs.get("x_scale", 1.0),)


def _mx_inputs(shape: Shape, dtype: str, generator: np.random.Generator) -> Inputs:
    m, k, n = shape["m"], shape["k"], shape["n"]
    cut = _cut(shape, dtype)
    x, x_scale = mx_rows(generator.standard_normal((k, m), np.float32), cut, PACKED[dtype])
    w, w_scale = mx_rows(generator.standard_normal((k, n), np.float32), cut, PACKED[dtype])
    return {
        "x": x, "x_scale": x_scale, "w": arranged(w, cut), "w_scale": arranged(w_scale, cut), "depth": k, "columns": n,
    }  # fmt: skip


def _mx_values(inputs: Inputs) -> tuple[Array, ...]:
    n = inputs["columns"]
    x = mx_values(inputs["x"], inputs["x_scale"])
    return (x.T @ mx_values(_columns(inputs["w"], n), _columns(inputs["w_scale"], n)),)


def _operator(shape: Shape, dtype: str) -> Operator:
    sizes = {name: shape[name] for name in ("m", "k", "n")}
    return Operator(method="matmul", arguments={**sizes, "dtype": dtype, "weights": dtype, "activations": dtype})


_SHAPES = (
    {"m": 1, "k": 640, "n": 512}, {"m": 5, "k": 1, "n": 3}, {"m": 130, "k": 300, "n": 700},
    {"m": 1100, "k": 257, "n": 1030},
)  # fmt: skip

REFERENCES = (
    Reference(
        name="gemm.matmul", kernel=matmul, axes=("m", "k", "n"), make_inputs=_inputs, reference=_values,
        operator=_operator, dtypes=("bf16", "fp16", "fp32", "fp8"), shapes=_SHAPES,
        tolerance={"bf16": 2.0**-8, "fp16": 2.0**-11, "fp32": 1e-6, "fp8": 2.0**-8},
    ),
    Reference(
        name="gemm.matmul_mx", kernel=matmul_mx, axes=("m", "k", "n"), make_inputs=_mx_inputs, reference=_mx_values,
        operator=_operator, dtypes=("mxfp8", "mxfp4"), targets=("trn3",), shapes=_SHAPES,
        tolerance={"mxfp8": 2.0**-8, "mxfp4": 2.0**-8},
    ),
)  # fmt: skip
