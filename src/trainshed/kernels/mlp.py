"""The MLP kernel with what it comes with."""

from __future__ import annotations

import numpy as np

from trainshed.kernels.attention import drawn
from trainshed.kernels.common import PARTITIONS
from trainshed.kernels.mlp_swiglu import swiglu
from trainshed.kernels.reference import Array, Inputs, Operator, Reference, Shape

_AXES = ("rows", "features", "hidden")


def packed(gate: Array, up: Array) -> Array:
    """Two matrices [..., features, hidden] as :func:`trainshed.kernels.mlp_swiglu.swiglu` wants gate and up."""
    both = np.stack([gate, up], axis=-3)
    *lead, _, features, hidden = both.shape
    split = both.reshape(*lead, 2, PARTITIONS, features // PARTITIONS, hidden // PARTITIONS, PARTITIONS)
    return np.ascontiguousarray(np.moveaxis(np.moveaxis(split, -2, len(lead)), -3, len(lead) + 1))


def unpacked(weights: Array) -> tuple[Array, Array]:
    """The inverse of :func:`packed`."""
    *lead, tiles, _, _, steps, _ = weights.shape
    split = np.moveaxis(np.moveaxis(weights, len(lead) + 1, -3), len(lead), -2)
    both = split.reshape(*lead, 2, PARTITIONS * steps, tiles * PARTITIONS)
    return both[..., 0, :, :], both[..., 1, :, :]


def weighted(generator: np.random.Generator, lead: tuple[int, ...], shape: Shape, dtype: str) -> Inputs:
    """``gate_up`` and ``down`` with elements small enough for the result to be of the size of x."""
    features, hidden = shape["features"], shape["hidden"]
    gate, up, down = (
        drawn(generator, (*lead, *size), "fp32") / np.float32(np.sqrt(size[0]))
        for size in ((features, hidden), (features, hidden), (hidden, features))
    )
    kind = drawn(generator, (1,), dtype).dtype
    return {"gate_up": packed(gate, up).astype(kind), "down": down.astype(kind)}


def through(x: Array, gate_up: Array, down: Array) -> Array:
    """The MLP of rows of x, in float64."""
    gate, up = (item.astype(np.float64) for item in unpacked(gate_up))
    hidden = x @ gate
    found: Array = hidden / (1 + np.exp(-hidden)) * (x @ up) @ down.astype(np.float64)
    return found


def _inputs(shape: Shape, dtype: str, generator: np.random.Generator) -> Inputs:
    return {"xT": drawn(generator, (shape["features"], shape["rows"]), "bf16"), **weighted(generator, (), shape, dtype)}


def _values(inputs: Inputs) -> tuple[Array, ...]:
    return (through(inputs["xT"].T.astype(np.float64), inputs["gate_up"], inputs["down"]),)


def _operator(shape: Shape, dtype: str) -> Operator:
    return Operator(
        method="experts",
        arguments={
            "tokens": shape["rows"], "active": 1, "k": shape["features"], "n": shape["hidden"], "gated": True,
            "dtype": "bf16", "weights": dtype,
        },
    )  # fmt: skip


REFERENCES: tuple[Reference, ...] = (
    Reference(
        name="mlp.swiglu", kernel=swiglu, axes=_AXES, make_inputs=_inputs, reference=_values, operator=_operator,
        dtypes=("bf16", "fp8"), tolerance={"bf16": 2.0**-6, "fp8": 2.0**-6},
        shapes=tuple(
            dict(zip(_AXES, sizes, strict=True)) for sizes in ((1, 128, 128), (200, 256, 384), (600, 384, 640))
        ),
    ),
)  # fmt: skip
