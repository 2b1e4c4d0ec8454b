"""The matrix products of the library: operands, values and the formula ``matmul``.

Operands are exchanged, and the result is [n, m], where that is quicker (``blocks.turned``).
"""

from __future__ import annotations

import ml_dtypes
import numpy as np

from trainshed.kernels.blocks import Blocks, blocks, turned
from trainshed.kernels.gemm import matmul, matmul_mx
from trainshed.kernels.gemm_layout import Array, arranged, fp8_rows, mx_rows, mx_values
from trainshed.kernels.reference import Inputs, Operator, Reference, Shape

STORED = {"bf16": ml_dtypes.bfloat16, "fp16": np.float16, "fp32": np.float32, "fp8": ml_dtypes.float8_e4m3}
PACKED = {"mxfp8": "float8_e4m3fn_x4", "mxfp4": "float4_e2m1fn_x4"}


def _turned(shape: Shape, dtype: str) -> Shape:
    """The sizes of the product that runs: of operands that are exchanged where this is quicker."""
    m, k, n = shape["m"], shape["k"], shape["n"]
    return {"m": n, "k": k, "n": m} if turned(m, n, dtype) else shape


def _cut(shape: Shape, dtype: str) -> Blocks:
    """The blocks as layouts see them, which are the same on every generation."""
    return blocks(shape["m"], shape["k"], shape["n"], dtype, "trn3")


def _operands(shape: Shape, generator: np.random.Generator) -> tuple[Array, Array]:
    x = generator.standard_normal((shape["k"], shape["m"]), np.float32)
    return x, generator.standard_normal((shape["k"], shape["n"]), np.float32)


def _factors(shape: Shape, generator: np.random.Generator) -> Array:
    factors: Array = generator.uniform(0.5, 2.0, (shape["m"], 1)).astype(np.float32)
    return factors


def _columns(w: Array, n: int) -> Array:
    """[k, n] again of blocks [blocks, k, width]."""
    return np.moveaxis(w, 0, -2).reshape(*w.shape[1:-1], -1)[..., :n]


def _inputs(shape: Shape, dtype: str, generator: np.random.Generator) -> Inputs:
    shape = _turned(shape, dtype)
    x, w = (one.astype(STORED[dtype]) for one in _operands(shape, generator))
    inputs = {"x": x, "w": arranged(w, _cut(shape, dtype)), "columns": shape["n"]}
    return {**inputs, "x_scale": _factors(shape, generator)} if dtype == "fp8" else inputs


def _values(inputs: Inputs) -> tuple[Array, ...]:
    w = _columns(inputs["w"], inputs["columns"]).astype(np.float64)
    return (inputs["x"].astype(np.float64).T @ w * inputs.get("x_scale", 1.0),)


def _mx_inputs(shape: Shape, dtype: str, generator: np.random.Generator) -> Inputs:
    shape = _turned(shape, dtype)
    cut = _cut(shape, "mxfp8" if dtype == "fp8" else dtype)
    sizes = {"depth": shape["k"], "columns": shape["n"]}
    x, w = _operands(shape, generator)
    if dtype == "fp8":
        factors = _factors(shape, generator)
        return {**sizes, "x": fp8_rows(x, cut), "w": arranged(fp8_rows(w, cut), cut), "x_factor": factors}
    x, x_scale = mx_rows(x, cut, PACKED[dtype])
    w, w_scale = mx_rows(w, cut, PACKED[dtype])
    return {**sizes, "x": x, "x_scale": x_scale, "w": arranged(w, cut), "w_scale": arranged(w_scale, cut)}


def _mx_values(inputs: Inputs) -> tuple[Array, ...]:
    n, scale = inputs["columns"], inputs.get("w_scale")
    x = mx_values(inputs["x"], inputs.get("x_scale"))
    w = mx_values(_columns(inputs["w"], n), None if scale is None else _columns(scale, n))
    return (x.T @ w * inputs.get("x_factor", 1.0),)


def _operator(shape: Shape, dtype: str) -> Operator:
    sizes = {name: shape[name] for name in ("m", "k", "n")}
    return Operator(method="matmul", arguments={**sizes, "dtype": dtype, "weights": dtype, "activations": dtype})


_SHAPES = (
    {"m": 1, "k": 640, "n": 512}, {"m": 5, "k": 1, "n": 3}, {"m": 130, "k": 300, "n": 700},
    {"m": 1030, "k": 133, "n": 520},
)  # fmt: skip

#: FP8 is two kernels, each with the formula's rate on its generations: double rows before NeuronCore-v4, MX on it.
REFERENCES = (
    Reference(
        name="gemm.matmul", kernel=matmul, axes=("m", "k", "n"), make_inputs=_inputs, reference=_values,
        operator=_operator, dtypes=("bf16", "fp16", "fp32"), shapes=_SHAPES,
        tolerance={"bf16": 2.0**-8, "fp16": 2.0**-11, "fp32": 1e-6},
    ),
    Reference(
        name="gemm.matmul_fp8", kernel=matmul, axes=("m", "k", "n"), make_inputs=_inputs, reference=_values,
        operator=_operator, dtypes=("fp8",), targets=("trn1", "trn2"), shapes=_SHAPES, tolerance={"fp8": 2.0**-8},
    ),
    Reference(
        name="gemm.matmul_mx", kernel=matmul_mx, axes=("m", "k", "n"), make_inputs=_mx_inputs, reference=_mx_values,
        operator=_operator, dtypes=("fp8", "mxfp8", "mxfp4"), targets=("trn3",), shapes=_SHAPES,
        tolerance={"fp8": 2.0**-8, "mxfp8": 2.0**-8, "mxfp4": 2.0**-8},
    ),
)  # fmt: skip
