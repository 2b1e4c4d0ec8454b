"""``neuronxcc.nki``: kernels of NKI Beta 1, of which public code has many, run as they are.

What runs: ``nl.load`` and ``nl.store``, tensors with ``par_dim`` and block dimensions, ``nl.arange`` and
``nl.mgrid`` indices, masks made of boxes, value-returning instructions, ``+=`` of products in PSUM, operators of
tiles, launch grids, ``nki.simulate_kernel`` and ``nki.baremetal``. What does not says in one sentence, with the
kernel's line, what NKI 0.3 and later have instead. Its instructions are today's, with their rules and records.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from trainshed.chip.core import Target, active
from trainshed.chip.tensor import NkiTensor
from trainshed.nki.arguments import rebuild
from trainshed.nki.beta1 import compiler, isa, language, typing
from trainshed.nki.beta1.refuse import Absent
from trainshed.nki.beta1.tile import Operand, Tile, flush
from trainshed.nki.run import Kernel, Simulated

__all__ = [
    "Kernel", "baremetal", "benchmark", "compiler", "isa", "jit", "language", "nki_jit", "profile", "simulate_kernel",
    "tensor", "trace", "typing",
]  # fmt: skip

tensor = typing.tensor
FrameworkKernel = Absent("nki.FrameworkKernel", "nki.jit, which takes tensors of any framework")
kernels = Absent("neuronxcc.nki.kernels", "nkilib, AWS's kernel library")


def _adapted(function: Callable[..., Any]) -> Callable[..., Any]:
    """A Beta-1 function as a kernel of today: tensors become tiles on the way in, and tensors again on the way out."""

    @functools.wraps(function)
    def kernel(*args: Any, **kwargs: Any) -> Any:
        active().state["split-patterns"] = True
        positional, named = _tiles(args), _tiles(kwargs)
        returned = function(*positional, **named)
        flush()
        return _tensors(returned)

    kernel.beta1 = function  # type: ignore[attr-defined]
    return kernel


def _tiles(value: Any) -> Any:
    return Tile(value) if isinstance(value, NkiTensor) else rebuild(value, _tiles)


def _tensors(value: Any) -> Any:
    return value.at() if isinstance(value, Operand) else rebuild(value, _tensors)


def _kernel(function: Any) -> Kernel:
    if isinstance(function, Kernel):
        return function
    if hasattr(function, "beta1"):
        return Kernel(function)
    return Jit(_adapted(function))


class Jit(Kernel):
    """A Beta-1 kernel: ``kernel[grid](…)``; inside another kernel, a plain function."""

    def __getitem__(self, grid: Any) -> Kernel:
        return Jit(self.function, tuple(int(size) for size in grid) if isinstance(grid, tuple | list) else (int(grid),))

    def check_launch(self, target: Target) -> None:
        """A grid of Beta 1 is one of programs, not of physical cores."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if any(isinstance(value, Operand) for value in (*args, *kwargs.values())):
            return self.function.beta1(*args, **kwargs)  # type: ignore[attr-defined]
        return simulate_kernel(self, *args, **kwargs)


def jit(function: Callable[..., Any] | None = None, **_: Any) -> Any:
    """A kernel; ``mode``, ``platform_target`` and the like choose nothing here: it is simulated."""
    return jit if function is None else _kernel(function)


nki_jit = trace = jit
baremetal = jit


class _Latency:
    """What ``benchmark`` would have measured."""

    def __getattr__(self, name: str) -> Any:
        return Absent(f"nki.benchmark's {name}", "the profile of nki.simulate, or neuron-profile on a device")


def benchmark(function: Callable[..., Any] | None = None, **_: Any) -> Any:
    """The kernel, run once; it measures nothing."""
    if function is None:
        return benchmark
    made = _kernel(function)
    made.benchmark_result = _Latency()  # type: ignore[attr-defined]
    return made


profile = benchmark


def simulate_kernel(kernel: Any, *args: Any, **kwargs: Any) -> Any:
    """Run a kernel (or ``kernel[grid]``) on arrays.

    Capacity is not checked: Beta 1's compiler spilled what did not fit.
    """
    return Simulated(_kernel(kernel), check=False)(*args, **kwargs)
