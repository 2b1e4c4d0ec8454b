"""The MoE kernels with what each comes with."""

from __future__ import annotations

from typing import Any

import numpy as np

from trainshed.kernels.attention import drawn
from trainshed.kernels.mlp import through, weighted
from trainshed.kernels.moe_experts import expert_rows, few, layer, layer_few, routed
from trainshed.kernels.moe_route import dispatch, gates, most_blocks, route
from trainshed.kernels.reference import Array, Inputs, Operator, Reference, Shape

_AXES = ("tokens", "experts", "top", "features", "hidden")


def drawn_routing(generator: np.random.Generator, shape: Shape) -> tuple[Array, Array]:
    """Different experts for each token, and weights that add up to 1."""
    tokens, count, top = shape["tokens"], shape["experts"], shape["top"]
    chosen = generator.random((tokens, count)).argsort(axis=1)[:, :top].astype(np.uint32)
    weights = generator.random((tokens, top)) + 0.1
    return chosen, (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)


def plan(chosen: Array, count: int, rows: int) -> tuple[Array, Array, Array, Array]:
    """What ``dispatch`` gives: positions, source, block_expert, blocks."""
    tokens, top = chosen.shape
    most = most_blocks(tokens, top, count, rows)
    positions, source = np.zeros((tokens, top), np.int32), np.zeros((most, rows, 1), np.int32)
    owners: list[int] = []
    for expert in range(count):
        mine, slots = np.nonzero(chosen == expert)
        first = len(owners) * rows
        positions[mine, slots] = first + np.arange(len(mine))
        source.reshape(-1)[first : first + len(mine)] = mine
        owners += [expert] * -(-len(mine) // rows)
    block_expert = np.full((most, 1), count - 1, np.int32)
    block_expert[: len(owners), 0] = owners
    return positions, source, block_expert, np.array([[len(owners)]], np.int32)


def hit(chosen: Array, weights: Array, count: int) -> tuple[Array, Array, Array]:
    """What ``gates`` gives: gate, hits, count."""
    gate = np.zeros((len(chosen), count), np.float32)
    np.put_along_axis(gate, chosen.astype(np.int64), weights, axis=1)
    found = np.unique(chosen)
    hits = np.zeros((count, 1), np.int32)
    hits[: len(found), 0] = found
    return gate, hits, np.array([[len(found)]], np.int32)


def chosen_of(xT: Array, router: Array, top: int) -> tuple[Array, Array]:
    """What ``route`` gives, in float64."""
    logits = xT.T.astype(np.float64) @ router.astype(np.float64)
    chosen = np.argsort(-logits, axis=1, kind="stable")[:, :top]
    best = np.take_along_axis(logits, chosen, axis=1)
    weights = np.exp(best - best[:, :1])
    return chosen, weights / weights.sum(axis=1, keepdims=True)


def mixed(x: Array, chosen: Array, weights: Array, gate_up: Array, down: Array) -> Array:
    """The whole layer in float64, expert by expert."""
    found = np.zeros(x.shape)
    for expert in range(len(down)):
        mine, slots = np.nonzero(chosen == expert)
        if len(mine):
            found[mine] += weights[mine, slots, None] * through(x[mine], gate_up[expert], down[expert])
    return found


def _rows(shape: Shape) -> int:
    return expert_rows(*(shape[name] for name in _AXES))


def _weights(shape: Shape, dtype: str, generator: np.random.Generator) -> Inputs:
    return weighted(generator, (shape["experts"],), shape, dtype)


def _routed_inputs(shape: Shape, dtype: str, generator: np.random.Generator) -> Inputs:
    chosen, weights = drawn_routing(generator, shape)
    positions, source, block_expert, blocks = plan(chosen, shape["experts"], _rows(shape))
    return {
        "x": drawn(generator, (shape["tokens"], shape["features"]), "bf16"), **_weights(shape, dtype, generator),
        "source": source, "block_expert": block_expert, "blocks": blocks, "positions": positions, "weights": weights,
    }  # fmt: skip


def _routed_values(inputs: Inputs) -> tuple[Array, ...]:
    rows = inputs["source"].shape[1]
    chosen = inputs["block_expert"][inputs["positions"] // rows, 0]
    x, weights = inputs["x"].astype(np.float64), inputs["weights"].astype(np.float64)
    return (mixed(x, chosen, weights, inputs["gate_up"], inputs["down"]),)


def _few_inputs(shape: Shape, dtype: str, generator: np.random.Generator) -> Inputs:
    gate, hits, count = hit(*drawn_routing(generator, shape), shape["experts"])
    return {
        "xT": drawn(generator, (shape["features"], shape["tokens"]), "bf16"), **_weights(shape, dtype, generator),
        "gate": gate, "hits": hits, "count": count,
    }  # fmt: skip


def _few_values(inputs: Inputs) -> tuple[Array, ...]:
    gate = inputs["gate"].astype(np.float64)
    every = np.tile(np.arange(gate.shape[1]), (len(gate), 1))
    return (mixed(inputs["xT"].T.astype(np.float64), every, gate, inputs["gate_up"], inputs["down"]),)


def _router_inputs(shape: Shape, dtype: str, generator: np.random.Generator) -> Inputs:
    return {
        "xT": drawn(generator, (shape["features"], shape["tokens"]), dtype),
        "router": drawn(generator, (shape["features"], shape["experts"]), dtype), "top": shape["top"],
    }  # fmt: skip


def _dispatch_inputs(shape: Shape, _dtype: str, generator: np.random.Generator) -> Inputs:
    chosen, _ = drawn_routing(generator, shape)
    return {"chosen": chosen, "experts": shape["experts"], "rows": 128}


def _gates_inputs(shape: Shape, _dtype: str, generator: np.random.Generator) -> Inputs:
    chosen, weights = drawn_routing(generator, shape)
    return {"chosen": chosen, "weights": weights, "experts": shape["experts"]}


def _layer_inputs(shape: Shape, dtype: str, generator: np.random.Generator) -> Inputs:
    inputs = {**_router_inputs(shape, "bf16", generator), **_weights(shape, dtype, generator)}
    return {**inputs, "x": np.ascontiguousarray(inputs["xT"].T), "rows": _rows(shape)}


def _layer_few_inputs(shape: Shape, dtype: str, generator: np.random.Generator) -> Inputs:
    return {**_router_inputs(shape, "bf16", generator), **_weights(shape, dtype, generator)}


def _layer_values(inputs: Inputs) -> tuple[Array, ...]:
    chosen, weights = chosen_of(inputs["xT"], inputs["router"], inputs["top"])
    return (mixed(inputs["xT"].T.astype(np.float64), chosen, weights, inputs["gate_up"], inputs["down"]),)


def expected_blocks(tokens: int, experts: int, top: int, rows: int) -> float:
    """Blocks in use where every expert is as likely as another: Σ P(more than j · rows tokens) over experts and j."""
    part = top / experts
    if part == 1.0:
        return float(experts * -(-tokens // rows))
    count = np.arange(tokens + 1.0)
    ways = np.concatenate(([0.0], np.cumsum(np.log(count[:0:-1]) - np.log(count[1:]))))
    chance = np.exp(ways + count * np.log(part) + (tokens - count) * np.log1p(-part))
    return float(experts * (chance * np.ceil(count / rows)).sum())


def _operator(shape: Shape, dtype: str, blocks: float, rows: int) -> Operator:
    """``active``: reads of an expert's weights, each for ``rows`` rows."""
    return Operator(
        method="experts",
        arguments={
            "tokens": blocks * rows, "active": blocks, "k": shape["features"], "n": shape["hidden"], "gated": True,
            "dtype": "bf16", "weights": dtype,
        },
    )  # fmt: skip


def _routed_operator(shape: Shape, dtype: str) -> Operator:
    rows = _rows(shape)
    blocks = expected_blocks(shape["tokens"], shape["experts"], shape["top"], rows)
    return _operator(shape, dtype, blocks, rows)


def _few_operator(shape: Shape, dtype: str) -> Operator:
    hits = expected_blocks(shape["tokens"], shape["experts"], shape["top"], shape["tokens"])
    return _operator(shape, dtype, hits, shape["tokens"])


def _shapes(axes: tuple[str, ...], *sizes: tuple[int, ...]) -> tuple[Shape, ...]:
    return tuple(dict(zip(axes, each, strict=True)) for each in sizes)


def _entry(name: str, kernel: Any, make_inputs: Any, reference: Any, *sizes: tuple[int, ...],
           operator: Any = None, dtypes: tuple[str, ...] = ("bf16", "fp8")) -> Reference:  # fmt: skip
    axes = _AXES[: len(sizes[0])]
    return Reference(
        name=f"moe.{name}", kernel=kernel, axes=axes, make_inputs=make_inputs, reference=reference, operator=operator,
        dtypes=dtypes, tolerance=dict.fromkeys(dtypes, 2.0**-6), shapes=_shapes(axes, *sizes),
    )  # fmt: skip


REFERENCES: tuple[Reference, ...] = (
    _entry(
        "route", route, _router_inputs, lambda inputs: chosen_of(inputs["xT"], inputs["router"], inputs["top"]),
        (200, 16, 4, 256), (3, 4, 2, 128), dtypes=("bf16",),
    ),
    _entry(
        "dispatch", dispatch, _dispatch_inputs,
        lambda inputs: plan(inputs["chosen"], inputs["experts"], inputs["rows"]),
        (200, 8, 2), (5, 16, 3), dtypes=("bf16",),
    ),
    _entry(
        "gates", gates, _gates_inputs, lambda inputs: hit(inputs["chosen"], inputs["weights"], inputs["experts"]),
        (4, 32, 2), (128, 8, 3), dtypes=("bf16",),
    ),
    _entry("routed", routed, _routed_inputs, _routed_values, (200, 4, 2, 256, 128), (5, 8, 3, 128, 256),
           operator=_routed_operator),
    _entry("few", few, _few_inputs, _few_values, (4, 8, 2, 256, 128), (100, 3, 1, 128, 256), operator=_few_operator),
    _entry("layer", layer, _layer_inputs, _layer_values, (300, 4, 2, 128, 128)),
    _entry("layer_few", layer_few, _layer_few_inputs, _layer_values, (6, 16, 2, 128, 128)),
)  # fmt: skip
