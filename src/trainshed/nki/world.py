"""Several ranks of one kernel, run together so that ``nki.collectives`` have somebody to exchange with.

Each rank is a launch of its own, with its own HBM; all cores of all ranks take turns. Values are exact and in the
ranks' order; links take no time here.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Any

from trainshed.chip.core import NeuronCore
from trainshed.chip.launch import Launch
from trainshed.chip.turns import Turns
from trainshed.core.errors import UserError
from trainshed.nki.run import Simulated


class World:
    """The launches of all ranks."""

    def __init__(self, size: int) -> None:
        self.turns = Turns()
        self.launches: list[Launch] = []
        self.size = size
        self._mail: dict[Hashable, dict[int, Any]] = {}
        self._read: dict[Hashable, int] = {}

    def add(self, launch: Launch) -> None:
        """Take a launch in as the next rank."""
        launch.world, launch.rank = self, len(self.launches)
        self.launches.append(launch)

    def exchange(self, core: NeuronCore, members: tuple[int, ...], value: Any, what: str) -> list[Any]:
        """Every member's value, in the order of ``members``: the n-th exchange of this core with that of theirs."""
        counts: dict[Hashable, int] = core.state.setdefault("collectives", {})
        turn = counts[members] = counts.get(members, -1) + 1
        key = (members, core.index, turn)
        box = self._mail.setdefault(key, {})
        box[core.launch.rank] = what, value
        core.launch.wait(core, lambda: len(box) == len(members), what)
        found = [box[rank] for rank in members]
        for rank, (other, _) in zip(members, found, strict=True):
            if other != what:
                raise UserError(
                    f"{what}: collective of rank {rank} at the same place", where=f"rank {core.launch.rank}",
                    value=other, expected=what,
                )  # fmt: skip
        self._read[key] = self._read.get(key, 0) + 1
        if self._read[key] == len(members):
            del self._mail[key], self._read[key]
        return [given for _, given in found]


def simulate_ranks(
    kernel: Any, inputs: Sequence[tuple[Any, ...] | dict[str, Any]], *, target: str | None = None, values: bool = True,
    quantize_rule: str | None = None,
) -> list[Any]:  # fmt: skip
    """Run ``kernel`` (or ``kernel[lnc]``) as ``len(inputs)`` ranks that can exchange by ``nki.collectives``.

    Args:
        kernel: an ``@nki.jit`` kernel or a plain function; every rank runs it.
        inputs: each rank's arguments: a tuple of positional ones, or a dictionary of named ones.
        target, values, quantize_rule: as of ``nki.simulate``.

    Returns:
        Each rank's results, as ``nki.simulate`` gives them.
    """
    world = World(len(inputs))
    runs = [Simulated(kernel, target=target, values=values, quantize_rule=quantize_rule) for _ in inputs]
    jobs: list[tuple[NeuronCore, Callable[[NeuronCore], Any]]] = []
    for run, given in zip(runs, inputs, strict=True):
        args, kwargs = ((), given) if isinstance(given, dict) else (tuple(given), {})
        body = run.prepare(args, kwargs, turns=world.turns)
        assert run.launch is not None
        world.add(run.launch)
        jobs.extend((core, run.launch.job(body)) for core in run.launch.cores)
    returned = iter(world.turns.run(jobs))
    return [run.finish([next(returned) for _ in range(run.lnc)]) for run in runs]
