"""The attention kernels with what each comes with. Layouts are told by each kernel's docstring."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from trainshed.kernels.attention_backward import backward
from trainshed.kernels.attention_decode import decode
from trainshed.kernels.attention_prefill import prefill
from trainshed.kernels.common import PARTITIONS
from trainshed.kernels.reference import Array, Inputs, Operator, Reference, Shape
from trainshed.numerics.formats import lookup

#: NumPy's dtypes by the names of ``core.dtypes``.
_STORED = {"bf16": "bfloat16", "fp16": "float16", "fp32": "float32", "fp8": "float8_e4m3"}

#: Axes of the prompt's kernels, and of those with a cache.
_AXES = ("heads", "kv_heads", "queries", "keys", "d")
_CACHE_AXES = ("sequences", "heads", "kv_heads", "keys", "d")


def drawn(generator: np.random.Generator, shape: tuple[int, ...], dtype: str) -> Array:
    """Normal numbers as stored in a dtype."""
    kind = lookup(_STORED[dtype])
    assert kind is not None
    return generator.standard_normal(shape, np.float32).astype(kind.storage)


def turned(rows: Array) -> Array:
    """[heads, tokens, d] as [heads, d, tokens]."""
    return np.ascontiguousarray(rows.transpose(0, 2, 1))


def tiled(rows: Array) -> Array:
    """[heads, tokens, d] as [heads, 128, tokens / 128, d]: token t · 128 + p at [p, t]."""
    heads, _, dim = rows.shape
    return np.ascontiguousarray(rows.reshape(heads, -1, PARTITIONS, dim).transpose(0, 2, 1, 3))


def untiled(tiles: Array) -> Array:
    """The inverse of :func:`tiled`."""
    heads, _, _, dim = tiles.shape
    return tiles.transpose(0, 2, 1, 3).reshape(heads, -1, dim)


def _probabilities(q: Array, k: Array, scale: float | None, causal: bool) -> tuple[Array, Array]:
    """softmax(scale · q · kᵀ) of [heads, tokens, d], and the logarithm of its denominator, in float64."""
    scores = q @ k.transpose(0, 2, 1) * (q.shape[2] ** -0.5 if scale is None else scale)
    if causal:
        queries, keys = scores.shape[1:]
        scores = np.where(np.arange(keys) <= np.arange(queries)[:, None] + keys - queries, scores, -np.inf)
    most = scores.max(axis=2, keepdims=True)
    weights = np.exp(scores - most)
    total = weights.sum(axis=2, keepdims=True)
    return weights / total, (most + np.log(total))[..., 0]


def _wide(array: Any) -> Array:
    return np.asarray(array).astype(np.float64)


def _prefill_inputs(shape: Shape, dtype: str, generator: np.random.Generator) -> Inputs:
    heads, kv_heads, queries, keys, dim = (shape[name] for name in _AXES)
    return {
        "qT": turned(drawn(generator, (heads, queries, dim), dtype)),
        "kT": turned(drawn(generator, (kv_heads, keys, dim), dtype)),
        "v": tiled(drawn(generator, (kv_heads, keys, dim), dtype)),
    }


def _prefill_values(inputs: Inputs) -> tuple[Array, ...]:
    q, k, v = (
        _wide(inputs["qT"]).transpose(0, 2, 1),
        _wide(inputs["kT"]).transpose(0, 2, 1),
        untiled(_wide(inputs["v"])),
    )
    share = len(q) // len(k)
    weights, logarithms = _probabilities(q, np.repeat(k, share, 0), inputs.get("scale"), inputs.get("causal", True))
    found = tiled(weights @ np.repeat(v, share, 0))
    if not inputs.get("with_lse"):
        return (found,)
    return found, np.ascontiguousarray(logarithms.reshape(len(q), -1, PARTITIONS).transpose(0, 2, 1))


def _backward_inputs(shape: Shape, dtype: str, generator: np.random.Generator, causal: bool) -> Inputs:
    heads, kv_heads, queries, keys, dim = (shape[name] for name in _AXES)
    sizes = ((heads, queries), (kv_heads, keys), (kv_heads, keys), (heads, queries))
    q, k, v, do = (drawn(generator, (*size, dim), dtype) for size in sizes)
    share = heads // kv_heads
    weights, logarithms = _probabilities(_wide(q), np.repeat(_wide(k), share, 0), None, causal)
    o = weights @ np.repeat(_wide(v), share, 0)
    lse = np.ascontiguousarray(logarithms.reshape(heads, -1, PARTITIONS).transpose(0, 2, 1), np.float32)
    return {
        "qT": turned(q), "q": tiled(q), "kT": turned(k), "k": tiled(k), "vT": turned(v), "doT": turned(do),
        "do": tiled(do), "o": tiled(o.astype(q.dtype)), "lse": lse, "causal": causal,
    }  # fmt: skip


def _backward_values(inputs: Inputs) -> tuple[Array, ...]:
    q, do, k = (untiled(_wide(inputs[name])) for name in ("q", "do", "k"))
    v, share, scale = _wide(inputs["vT"]).transpose(0, 2, 1), len(q) // len(k), q.shape[2] ** -0.5
    keys, values = np.repeat(k, share, 0), np.repeat(v, share, 0)
    weights, _ = _probabilities(q, keys, None, inputs["causal"])
    output = weights @ values
    changes = weights * (do @ values.transpose(0, 2, 1) - (do * output).sum(axis=2, keepdims=True)) * scale

    def shared(gradient: Array) -> Array:
        summed: Array = gradient.reshape(len(k), share, *gradient.shape[1:]).sum(axis=1)
        return summed

    dk, dv = changes.transpose(0, 2, 1) @ q, weights.transpose(0, 2, 1) @ do
    return tiled(changes @ keys), tiled(shared(dk)), tiled(shared(dv))


def _decode_inputs(shape: Shape, dtype: str, generator: np.random.Generator, tokens: int) -> Inputs:
    sequences, heads, kv_heads, keys, dim = (shape[name] for name in _CACHE_AXES)
    rows = heads // kv_heads * tokens
    return {
        "qT": drawn(generator, (dim, sequences, kv_heads, rows), "bf16"),
        "kT": drawn(generator, (sequences, kv_heads, dim, keys), dtype),
        "v": drawn(generator, (sequences, kv_heads, keys, dim), dtype), "tokens": tokens,
    }  # fmt: skip


def _decode_values(inputs: Inputs) -> tuple[Array, ...]:
    q, k, v = _wide(inputs["qT"]).transpose(1, 2, 3, 0), _wide(inputs["kT"]), _wide(inputs["v"])
    tokens, keys = inputs["tokens"], k.shape[3]
    scores = q @ k * (inputs.get("k_scale", 1.0) * q.shape[3] ** -0.5)
    seen = keys - tokens + np.arange(q.shape[2]) % tokens
    weights = np.exp(scores - scores.max(axis=3, keepdims=True)) * (np.arange(keys) <= seen[:, None])
    found = weights / weights.sum(axis=3, keepdims=True) @ v * inputs.get("v_scale", 1.0)
    return (np.ascontiguousarray(found.transpose(3, 0, 1, 2)),)


def _decode_operator(tokens: int) -> Callable[[Shape, str], Operator]:
    def operator(shape: Shape, dtype: str) -> Operator:
        return Operator(
            method="attention",
            arguments={
                "sequences": shape["sequences"], "queries": tokens, "keys": shape["keys"], "heads": shape["heads"],
                "kv_heads": shape["kv_heads"], "qk_dim": shape["d"], "v_dim": shape["d"], "causal": tokens > 1,
                "dtype": "bf16", "kv": dtype,
            },
        )  # fmt: skip

    return operator


def _operator(causal: bool, direction: str = "forward") -> Callable[[Shape, str], Operator]:
    def operator(shape: Shape, dtype: str) -> Operator:
        return Operator(
            method="attention",
            arguments={
                "sequences": 1, "queries": shape["queries"], "keys": shape["keys"], "heads": shape["heads"],
                "kv_heads": shape["kv_heads"], "qk_dim": shape["d"], "v_dim": shape["d"], "causal": causal,
                "dtype": dtype, "kv": dtype, "direction": direction,
            },
        )  # fmt: skip

    return operator


def _shapes(*sizes: tuple[int, ...], axes: tuple[str, ...] = _AXES) -> tuple[Shape, ...]:
    return tuple(dict(zip(axes, each, strict=True)) for each in sizes)


def _prefill(name: str, causal: bool, shapes: tuple[Shape, ...]) -> Reference:
    return Reference(
        name=f"attention.{name}", kernel=prefill, axes=_AXES, dtypes=("bf16", "fp16"),
        make_inputs=lambda *given: {**_prefill_inputs(*given), "causal": causal}, reference=_prefill_values,
        operator=_operator(causal), tolerance={"bf16": 2.0**-7, "fp16": 2.0**-9}, shapes=shapes,
    )  # fmt: skip


def _backward(name: str, causal: bool, shapes: tuple[Shape, ...]) -> Reference:
    return Reference(
        name=f"attention.{name}", kernel=backward, axes=_AXES, reference=_backward_values,
        operator=_operator(causal, "backward"),
        make_inputs=lambda shape, dtype, generator: _backward_inputs(shape, dtype, generator, causal),
        tolerance={"bf16": 2.0**-6}, shapes=shapes,
    )  # fmt: skip


def _decode(name: str, tokens: int, *sizes: tuple[int, ...]) -> Reference:
    return Reference(
        name=f"attention.{name}", kernel=decode, axes=_CACHE_AXES, dtypes=("bf16", "fp8"), reference=_decode_values,
        make_inputs=lambda shape, dtype, generator: _decode_inputs(shape, dtype, generator, tokens),
        operator=_decode_operator(tokens), tolerance={"bf16": 2.0**-7, "fp8": 2.0**-7},
        shapes=_shapes(*sizes, axes=_CACHE_AXES),
    )  # fmt: skip


REFERENCES: tuple[Reference, ...] = (
    _prefill("prefill", False, _shapes((2, 1, 256, 384, 64), (1, 1, 128, 1280, 128), (1, 1, 128, 4224, 32))),
    _prefill("prefill_causal", True, _shapes((2, 2, 256, 256, 128), (3, 1, 128, 1152, 64), (1, 1, 1152, 1152, 96))),
    _backward("backward", False, _shapes((2, 1, 256, 384, 64), (1, 1, 128, 1152, 128))),
    _backward("backward_causal", True, _shapes((2, 2, 128, 256, 128), (3, 1, 128, 640, 32), (1, 1, 1152, 1152, 64))),
    _decode("decode", 1, (1, 8, 2, 512, 128), (3, 2, 2, 128, 32), (1, 8, 1, 8576, 64), (2, 1, 1, 8448, 32)),
    _decode("decode_tokens", 3, (2, 2, 1, 384, 64), (1, 1, 1, 128, 128)),
)
