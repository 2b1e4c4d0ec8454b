"""How far the operator formulas are from the simulated times of the library's kernels.

``python -m trainshed.kernels.agreement`` times every case (some minutes) and writes ``docs/kernels-agreement.md``.
Both sides assume that all cores of the chip are busy, so that a core has its share of the HBM.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

import trainshed.nki as nki
from trainshed.chip.accesses import accesses
from trainshed.chip.timing.rates import rates
from trainshed.chip.timing.timing import Timing, timing
from trainshed.core import Cost, UserError
from trainshed.hardware.catalogue import Catalogue
from trainshed.kernels.library import library
from trainshed.ops import Rank
from trainshed.ops.neuron import NeuronOps

PAGE = Path("docs/kernels-agreement.md")
TARGETS = ("trn1", "trn2", "trn3")


@dataclass(frozen=True, kw_only=True)
class Case:
    """A kernel of the library at a shape, in a dtype, on a generation."""

    kernel: str
    shape: Mapping[str, int]
    dtype: str
    target: str

    def __str__(self) -> str:
        sizes = " ".join(f"{name}={size}" for name, size in self.shape.items())
        return f"{self.kernel} {sizes} {self.dtype} on {self.target}"


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """Seconds by the kernel's simulation and by its operator's formula."""

    case: Case
    simulated: float
    formula: float
    limit: str
    """The bound that is nearest to the simulated time."""
    largest: str
    """What the formula takes for the longest engine."""

    @property
    def error(self) -> float:
        """The formula's, relative to the simulation."""
        return self.formula / self.simulated - 1


def _sizes(axes: Sequence[str], *shapes: tuple[int, ...]) -> list[dict[str, int]]:
    return [dict(zip(axes, shape, strict=True)) for shape in shapes]


def _matmuls() -> Iterator[Case]:
    axes, few, many = ("m", "k", "n"), (1, 16, 128), (512, 2048)
    weights = ((1024, 1024), (4096, 1024), (2048, 4096), (4096, 4096))
    plans: list[tuple[str, str, tuple[str, ...], Sequence[int], Sequence[tuple[int, int]]]] = [
        ("gemm.matmul", "bf16", TARGETS, (*few, *many), weights),
        ("gemm.matmul", "fp32", TARGETS, (64, 512), ((2048, 2048),)),
        ("gemm.matmul_fp8", "fp8", ("trn2",), (16, 512, 2048), weights[1:3]),
        *(("gemm.matmul_mx", dtype, ("trn3",), (16, 512, 2048), weights[2:]) for dtype in ("fp8", "mxfp8", "mxfp4")),
    ]  # fmt: skip
    for kernel, dtype, targets, rows, sides in plans:
        for (k, n), m, target in product(sides, rows, targets):
            yield Case(kernel=kernel, shape=dict(zip(axes, (m, k, n), strict=True)), dtype=dtype, target=target)


def _rowwise() -> Iterator[Case]:
    for name, one in library().items():
        if one.axes == ("rows", "columns"):
            for shape in _sizes(one.axes, (256, 1024), (4096, 2048), (2048, 8192)):
                for target in one.targets:
                    yield Case(kernel=name, shape=shape, dtype="bf16", target=target)
    for shape in _sizes(("tokens", "heads", "dim"), (512, 8, 128), (4096, 32, 64)):
        for target in TARGETS:
            yield Case(kernel="rowwise.rope", shape=shape, dtype="bf16", target=target)


def _attention() -> Iterator[Case]:
    axes, cached = ("heads", "kv_heads", "queries", "keys", "d"), ("sequences", "heads", "kv_heads", "keys", "d")
    square = _sizes(
        axes, (2, 1, 512, 512, 128), (1, 1, 2048, 2048, 128), (2, 2, 1024, 1024, 64), (8, 2, 1024, 1024, 128)
    )
    full = _sizes(
        axes,
        (4, 4, 128, 128, 128),
        (8, 2, 128, 1024, 64),
        (1, 1, 512, 4096, 128),
        (2, 1, 256, 8192, 64),
        (1, 1, 4096, 4096, 64),
    )
    causal = _sizes(
        axes, (4, 2, 384, 640, 96), (4, 1, 256, 4096, 128), (1, 1, 4096, 4096, 128), (1, 1, 1024, 8192, 128)
    )
    back = _sizes(axes, (4, 1, 128, 2048, 128), (2, 1, 1024, 2048, 64))
    few = _sizes(
        cached, (1, 8, 1, 4096, 128), (8, 8, 1, 2048, 128), (2, 32, 8, 4096, 64), (1, 32, 8, 8192, 128),
        (16, 8, 8, 1024, 128), (64, 8, 1, 512, 128), (1, 128, 8, 8192, 128), (1, 64, 4, 4096, 128),
        (2, 16, 2, 4096, 64),
    )  # fmt: skip
    tokens = _sizes(cached, (1, 8, 1, 4096, 128), (4, 16, 4, 2048, 64), (2, 16, 4, 2048, 64), (8, 8, 2, 8192, 128))
    plans = [
        ("attention.prefill", [*square[:3], *full], ("bf16",)),
        ("attention.prefill_causal", [*square, *causal], ("bf16",)),
        ("attention.backward", [*square[:3], *back], ("bf16",)), ("attention.backward_causal", square, ("bf16",)),
        ("attention.decode", few, ("bf16", "fp8")), ("attention.decode_tokens", tokens, ("bf16",)),
    ]  # fmt: skip
    for kernel, shapes, dtypes in plans:
        for shape, dtype, target in product(shapes, dtypes, TARGETS):
            yield Case(kernel=kernel, shape=shape, dtype=dtype, target=target)


def _layers() -> Iterator[Case]:
    dense = _sizes(("rows", "features", "hidden"), (1, 2048, 4096), (128, 2048, 4096), (1024, 2048, 2048))
    sparse = ("tokens", "experts", "top", "features", "hidden")
    plans = [
        ("mlp.swiglu", dense, ("bf16", "fp8")),
        ("moe.few", _sizes(sparse, (4, 16, 2, 2048, 1024), (64, 8, 2, 1024, 1024)), ("bf16", "fp8")),
        ("moe.routed", _sizes(sparse, (1024, 4, 2, 1024, 1024)), ("bf16",)),
    ]  # fmt: skip
    for kernel, shapes, dtypes in plans:
        for shape, dtype, target in product(shapes, dtypes, TARGETS):
            yield Case(kernel=kernel, shape=shape, dtype=dtype, target=target)


def cases() -> list[Case]:
    """All cases."""
    return [*_matmuls(), *_rowwise(), *_attention(), *_layers()]


def simulated(case: Case) -> Timing:
    """The kernel's time on one core of a busy chip."""
    one = library()[case.kernel]
    inputs = one.inputs(case.shape, case.dtype, np.random.default_rng(0))
    run = nki.simulate(one.kernel, target=case.target, values=False)
    run(**inputs)
    assert run.launch is not None
    return timing([accesses(core) for core in run.launch.cores], rates(case.target).busy_chip())


def formula(case: Case) -> Cost:
    """What ``ops`` says of the same."""
    operator = library()[case.kernel].operator
    if operator is None:
        raise UserError(
            "kernel without a formula", where="agreement", value=case.kernel, expected="one with an operator"
        )
    found = operator(case.shape, case.dtype)
    ops = NeuronOps(Rank(chip=Catalogue().chip(case.target)), alone=True)
    cost: Any = getattr(ops, found.method)(what=case.kernel, **found.arguments)
    time: Cost = cost.time
    return time


def compare(case: Case) -> Agreement:
    """Both."""
    found, said = simulated(case), formula(case)
    return Agreement(
        case=case,
        simulated=found.seconds,
        formula=float(np.asarray(said.value)),
        limit=found.limit,
        largest=_largest(said),
    )


def _largest(cost: Cost) -> str:
    """The longest engine of an operator's tree, of the plan that it chose."""
    for node in cost.scalar().walk():
        if node.what == "engines":
            return max(node.children, key=lambda pair: float(np.asarray(pair[1].value)))[1].what
    return cost.what


def page(found: Sequence[Agreement]) -> str:
    """The table of errors, and the cases that are furthest off."""
    errors = np.abs([one.error for one in found])
    lines = [
        "# Operator formulas and simulated kernels",
        "",
        "Written by `make agreement` (`python -m trainshed.kernels.agreement`). What `ops` says of an operator,",
        "against the simulated time of the library's kernel for it, on one core of a busy chip, nothing fitted.",
        "",
        f"**{len(found)} cases: median error {np.median(errors):.1%}, worst {errors.max():.1%}; "
        f"{int((errors > 0.15).sum())} are further off than 15 %.**",
        "",
        "| kernel | chip | cases | median error | worst |",
        "|---|---|---:|---:|---:|",
    ]
    for kernel, target in dict.fromkeys((one.case.kernel, one.case.target) for one in found):
        part = np.abs([one.error for one in found if (one.case.kernel, one.case.target) == (kernel, target)])
        lines.append(f"| {kernel} | {target} | {len(part)} | {np.median(part):.1%} | {part.max():.1%} |")
    lines += [
        "",
        "## Furthest off",
        "",
        "| case | simulated | formula | error | nearest bound |",
        "|---|---:|---:|---:|---|",
    ]
    for one in sorted(found, key=lambda one: -abs(one.error))[:12]:
        times = f"{one.simulated * 1e6:.1f} us | {one.formula * 1e6:.1f} us"
        lines.append(f"| {one.case} | {times} | {one.error:+.1%} | {one.limit} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Compare every case, in as many processes as there are processors, and write the page."""
    every = cases()
    found = []
    with ProcessPoolExecutor() as pool:
        for number, one in enumerate(pool.map(compare, every), 1):
            print(f"{number}/{len(every)} {one.case}: {one.error:+.1%}", flush=True)
            found.append(one)
    PAGE.write_text(page(found), encoding="utf-8")
    print(f"wrote {PAGE}")


if __name__ == "__main__":
    main()
