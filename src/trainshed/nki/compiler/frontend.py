"""``nki.compiler.frontend``: what stands where the vendor's front end translates a kernel.

Nothing is translated: a kernel is run without values, so that its shapes, views and assertions are checked and
its instructions recorded.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from trainshed.chip.launch import Launch
from trainshed.chip.record import Instruction
from trainshed.nki.run import simulate


class Compiled:
    """A kernel as recorded: the instructions of each core."""

    def __init__(self, launch: Launch) -> None:
        self.instructions: tuple[tuple[Instruction, ...], ...] = tuple(tuple(c.instructions) for c in launch.cores)


class NKIFrontend:
    """Base of the front ends."""

    def compile(
        self, kernel: Callable[..., Any], *, inputs: Mapping[str, Any], target: str, lnc: int = 1, **_: Any
    ) -> Compiled:
        """Check and record ``kernel`` on ``inputs`` for ``target`` and ``lnc`` physical cores."""
        simulated = simulate(kernel, target=target, values=False)[lnc]
        simulated(**inputs)
        assert simulated.launch is not None
        return Compiled(simulated.launch)


class ParserFrontend(NKIFrontend):
    """The default front end up to NKI 0.6."""


class TracerFrontend(NKIFrontend):
    """The front end that runs a kernel's Python, as ours does."""


__all__ = ["Compiled", "NKIFrontend", "ParserFrontend", "TracerFrontend"]
