"""Two layers of a transformer on eight virtual Trainium3 chips, tensor parallel, with values and with time.

    python examples/transformer_block.py [--trace block.pftrace]

Each rank is one NeuronCore of a chip of its own. It has an eighth of the heads and of the MLP's hidden features; two
all_reduces per layer add up what the ranks have made of theirs. All kernels but ``turned`` are those of
``trainshed.kernels``. The program prints how far the result is from NumPy's in float32, and what the formulas of
``trainshed.ops`` and ``trainshed.fabric`` add up to beside the simulated time.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

import trainshed.nki as nki
import trainshed.nki.collectives as ncc
import trainshed.nki.isa as nisa
import trainshed.nki.language as nl
from trainshed.core import Cost, total
from trainshed.fabric import Group, collective
from trainshed.hardware.catalogue import Catalogue
from trainshed.kernels.attention_prefill import prefill
from trainshed.kernels.gemm import matmul
from trainshed.kernels.library import library
from trainshed.kernels.mlp import packed
from trainshed.kernels.mlp_swiglu import swiglu
from trainshed.kernels.norms import rmsnorm
from trainshed.kernels.rowwise import add
from trainshed.ops import Rank
from trainshed.ops.neuron import NeuronOps
from trainshed.report.kernel_trace import write_ranks

Array = np.ndarray[Any, Any]
Tensor = Any
SYSTEM = "trn3-gen2"
EPSILON = 1e-6
#: Rows of a tile, and elements of a partition that one DMA moves at least.
TILE, ROW = 128, 2048


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """Of the block."""

    layers: int = 2
    tokens: int = 512
    hidden: int = 2048
    heads: int = 16
    features: int = 8192
    """Hidden features of the MLP."""
    ranks: int = 8

    @property
    def dim(self) -> int:
        """Of a head."""
        return self.hidden // self.heads


# --- the program of a rank ------------------------------------------------------------------------------------


@nki.jit
def turned(x: Tensor) -> Tensor:
    """``x`` [heads, tokens / 128, 128, columns], tokens last: [heads * columns, tokens]. TensorE turns tiles."""
    heads, tiles, _, columns = x.shape
    out = nl.ndarray((heads * columns, tiles * TILE), dtype=x.dtype, buffer=nl.shared_hbm)
    each, together = min(columns, TILE), max(1, ROW // columns)
    for head in range(heads):
        loaded = []
        for first in range(0, tiles, together):
            view = x[head, first : min(first + together, tiles)].permute((1, 0, 2))
            loaded.append(nl.ndarray(view.shape, dtype=x.dtype, buffer=nl.sbuf))
            nisa.dma_copy(dst=loaded[-1], src=view)
        for start in range(0, columns, each):
            turn = nl.ndarray((each, tiles * TILE), dtype=x.dtype, buffer=nl.psum)
            for tile in range(tiles):
                data = loaded[tile // together][:, tile % together, start : start + each]
                nisa.nc_transpose(dst=turn[:, tile * TILE : (tile + 1) * TILE], data=data)
            ready = nl.ndarray(turn.shape, dtype=x.dtype, buffer=nl.sbuf)
            on = nisa.scalar_engine if start // each % 2 else nisa.vector_engine
            nisa.tensor_copy(dst=ready, src=turn, engine=on)
            nisa.dma_copy(dst=out[head * columns + start : head * columns + start + each, :], src=ready)
    return out


def summed(x: Tensor, group: Tensor) -> Tensor:
    """The sum of all ranks' ``x``."""
    out = nl.ndarray(x.shape, dtype=x.dtype, buffer=nl.shared_hbm)
    ncc.all_reduce([x], [out], group, nl.add)
    return out


@nki.jit
def block(x: Tensor, layers: Any, ranks: int, dim: int) -> Tensor:
    """``x`` [tokens, hidden] through all layers; their weights are those of this rank (:func:`weights_of`)."""
    tokens, hidden = x.shape
    group = ncc.ReplicaGroup([list(range(ranks))])
    for norm1, qk, v, out, norm2, gate_up, down in layers:
        normal = turned(rmsnorm(x, norm1, EPSILON).reshape((1, tokens // TILE, TILE, hidden)))
        both = matmul(qk, normal)
        own = both.shape[0] // 2 // dim
        queries = both[0 : own * dim, :].reshape((own, dim, tokens))
        keys = both[own * dim :, :].reshape((own, dim, tokens))
        values = matmul(normal, v).reshape((tokens // TILE, TILE, own, dim)).permute((2, 1, 0, 3))
        mixed = turned(prefill(queries, keys, values).permute((0, 2, 1, 3)))
        x = add(x, summed(matmul(mixed, out), group))
        normal = turned(rmsnorm(x, norm2, EPSILON).reshape((1, tokens // TILE, TILE, hidden)))
        x = add(x, summed(swiglu(normal, gate_up, down), group))
    return x


# --- weights, and what NumPy makes of them ----------------------------------------------------------------------


def weights(sizes: Sizes, generator: np.random.Generator) -> list[dict[str, Array]]:
    """Of every layer, in bf16, of a size that keeps the values' own."""
    h, f = sizes.hidden, sizes.features
    shapes = {"q": (h, h), "k": (h, h), "v": (h, h), "out": (h, h), "gate": (h, f), "up": (h, f), "down": (f, h)}

    def drawn(rows: int, columns: int) -> Array:
        found = generator.standard_normal((rows, columns), np.float32) / np.float32(np.sqrt(rows))
        return found.astype(ml_dtypes.bfloat16)

    def norm() -> Array:
        return (1 + generator.standard_normal((1, h), np.float32) / 8).astype(ml_dtypes.bfloat16)

    return [
        {name: drawn(*shape) for name, shape in shapes.items()} | {"norm1": norm(), "norm2": norm()}
        for _ in range(sizes.layers)
    ]


def weights_of(rank: int, layers: list[dict[str, Array]], sizes: Sizes) -> list[tuple[Array, ...]]:
    """A rank's share: columns of what makes its heads and hidden features, rows of what takes them in."""
    heads, hidden = sizes.hidden // sizes.ranks, sizes.features // sizes.ranks
    head, part = slice(rank * heads, (rank + 1) * heads), slice(rank * hidden, (rank + 1) * hidden)
    return [
        (
            w["norm1"], np.concatenate((w["q"][:, head], w["k"][:, head]), axis=1), w["v"][:, head], w["out"][head],
            w["norm2"], packed(w["gate"][:, part], w["up"][:, part]), w["down"][part],
        )
        for w in layers
    ]  # fmt: skip


def reference(x: Array, layers: list[dict[str, Array]], sizes: Sizes) -> Array:
    """The block in float32."""

    def normal(x: Array, weight: Array) -> Array:
        found: Array = x / np.sqrt((x * x).mean(1, keepdims=True) + np.float32(EPSILON)) * weight
        return found

    def split(x: Array) -> Array:
        return x.reshape(sizes.tokens, sizes.heads, sizes.dim).transpose(1, 0, 2)

    x, later = x.astype(np.float32), np.triu(np.ones((sizes.tokens, sizes.tokens), bool), 1)
    for layer in layers:
        w = {name: item.astype(np.float32) for name, item in layer.items()}
        y = normal(x, w["norm1"])
        scores = split(y @ w["q"]) @ split(y @ w["k"]).transpose(0, 2, 1) / np.float32(np.sqrt(sizes.dim))
        scores = np.where(later, -np.inf, scores)
        powers = np.exp(scores - scores.max(-1, keepdims=True))
        mixed = powers / powers.sum(-1, keepdims=True) @ split(y @ w["v"])
        x = x + mixed.transpose(1, 0, 2).reshape(x.shape) @ w["out"]
        y = normal(x, w["norm2"])
        gate = y @ w["gate"]
        x = x + gate / (1 + np.exp(-gate)) * (y @ w["up"]) @ w["down"]
    return x


# --- what formulas say of its time ------------------------------------------------------------------------------


def predicted(sizes: Sizes) -> list[Cost]:
    """The operators of ``ops`` and the collectives of ``fabric``, one after another as the program has them."""
    system = Catalogue().system(SYSTEM)
    ops = NeuronOps(Rank(chip=system.chip), alone=True)
    tokens, hidden, own = sizes.tokens, sizes.hidden, sizes.heads // sizes.ranks

    def kernel(name: str, **shape: int) -> Cost:
        operator = library()[name].operator
        assert operator is not None
        found = operator(shape, "bf16")
        time: Cost = getattr(ops, found.method)(what=name, **found.arguments).time
        return time

    def turn(heads: int, columns: int) -> Cost:
        # Rows of the loads are as long as those of the kernel's DMAs, rows of the stores are all tokens.
        loaded = columns * min(tokens // TILE, max(1, ROW // columns))
        return ops.elementwise(
            what="turned", elements=tokens * heads * columns, reads=1, writes=1, vector=0.5, transcendental=0,
            copies=0.5, dtype="bf16", row=2 / (1 / loaded + 1 / tokens),
        ).time  # fmt: skip

    summing = collective(
        "all_reduce", size=tokens * hidden * 2.0, group=Group(ranks=sizes.ranks), levels=system.levels
    ).time.named("all_reduce")
    norm, residual = (kernel(name, rows=tokens, columns=hidden) for name in ("norms.rmsnorm", "rowwise.add"))
    return [
        norm, turn(1, hidden), kernel("gemm.matmul", m=2 * own * sizes.dim, k=hidden, n=tokens),
        kernel("gemm.matmul", m=tokens, k=hidden, n=own * sizes.dim),
        kernel("attention.prefill_causal", heads=own, kv_heads=own, queries=tokens, keys=tokens, d=sizes.dim),
        turn(own, sizes.dim), kernel("gemm.matmul", m=tokens, k=own * sizes.dim, n=hidden), summing, residual,
        norm, turn(1, hidden), kernel("mlp.swiglu", rows=tokens, features=hidden, hidden=sizes.features // sizes.ranks),
        summing, residual,
    ] * sizes.layers  # fmt: skip


def run(sizes: Sizes, seed: int = 0, values: bool = True) -> tuple[Any, Array, list[dict[str, Array]]]:
    """The block on all ranks, its input and its weights."""
    generator = np.random.default_rng(seed)
    x = generator.standard_normal((sizes.tokens, sizes.hidden), np.float32).astype(ml_dtypes.bfloat16)
    layers = weights(sizes, generator)
    inputs = [(x, weights_of(rank, layers, sizes), sizes.ranks, sizes.dim) for rank in range(sizes.ranks)]
    return nki.simulate_ranks(block, inputs, values=values, system=SYSTEM, ranks_per_chip=1), x, layers


def main() -> None:
    """Run, compare, and write the trace where one is asked for."""
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--trace", type=Path, help="write a trace for ui.perfetto.dev")
    defaults = Sizes()
    for name in ("layers", "tokens", "hidden", "heads", "features"):
        asked.add_argument(f"--{name}", type=int, default=getattr(defaults, name))
    given = vars(asked.parse_args())
    trace = given.pop("trace")
    sizes = Sizes(**given)
    ranks, x, layers = run(sizes)
    wanted = reference(x, layers, sizes)
    error = np.sqrt(np.mean((np.stack(list(ranks)).astype(np.float32) - wanted) ** 2) / np.mean(wanted**2))
    print(f"values: {error:.2%} from NumPy's float32 (root mean square; a bf16 has 8 bits, {2**-8:.2%})")
    parts = predicted(sizes)
    links = sum(float(part.value) for part in parts if part.what == "all_reduce")
    whole = float(total("block", parts).value)
    print(f"time: {ranks.seconds * 1e6:.1f} us on 8 chips of {SYSTEM}")
    print(f"formulas: {whole * 1e6:.1f} us ({whole / ranks.seconds - 1:+.1%}), {links * 1e6:.1f} us of it all_reduce")
    one = ranks.collectives[0]
    print(f"an all_reduce goes by {one.algorithm}: {one.seconds * 1e6:.1f} us, by formula {one.closed * 1e6:.1f} us")
    if trace is not None:
        write_ranks(trace, ranks)
        print(f"wrote {trace}")


if __name__ == "__main__":
    main()
