"""A kernel's run on one logical NeuronCore: one or more physical cores, shared HBM, barriers, exchange.

Cores take turns (``chip/turns.py``): two runs of one kernel execute the same instructions in the same order.
"""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable, Hashable, Sequence
from typing import Any

from trainshed.chip.core import NeuronCore, Options, Target, enter
from trainshed.chip.errors import violation
from trainshed.chip.memory import Storage
from trainshed.chip.turns import Turns
from trainshed.chip.undefined import propagate
from trainshed.numerics.formats import DType


class Launch:
    """The cores of one launch and what they share."""

    def __init__(self, target: Target, options: Options, cores: int = 1, *, turns: Turns | None = None) -> None:
        self.cores = [NeuronCore(target, options, index=i, cores=cores) for i in range(cores)]
        for core in self.cores:
            core.launch = weakref.proxy(self)  # no cycle: a launch and its bytes end with their last user
        #: What cores exchange, by any key; see ``put`` and ``take``.
        self._mail: dict[Hashable, Any] = {}
        self._shared: dict[tuple[str, int], Storage] = {}
        self._seen: list[dict[str, int]] = [{} for _ in range(cores)]
        self._arrived: dict[Hashable, set[int]] = {}
        #: Whose turn it is: among these cores alone, or with the cores of other ranks.
        self.turns = turns or Turns()
        for core in self.cores:
            self.turns.join(core)
        #: The ranks of an exchange that this launch is one of (nki/world.py), and its number among them.
        self.world: Any = None
        self.rank = 0
        #: What the kernel returned on core 0, before it becomes arrays.
        self.returned: Any = None

    # --- running ------------------------------------------------------------------------------------------

    def run(self, body: Callable[[NeuronCore], Any]) -> list[Any]:
        """``body(core)`` on every core; its results in order. The first error of any core is raised."""
        if len(self.cores) == 1:
            before = enter(self.cores[0])
            # Records only grow: to look through them for garbage over and over takes a tenth of the time.
            collects = gc.isenabled() and not self.cores[0].options.values
            if collects:
                gc.disable()
            try:
                return [self._ended(self.cores[0], body(self.cores[0]))]
            finally:
                enter(before)
                if collects:
                    gc.enable()
        return self.turns.run([(core, self.job(body)) for core in self.cores])

    def job(self, body: Callable[[NeuronCore], Any]) -> Callable[[NeuronCore], Any]:
        """``body`` and what ends it, to be run on a core."""
        return lambda core: self._ended(core, body(core))

    @staticmethod
    def _ended(core: NeuronCore, result: Any) -> Any:
        """What is still to be said of the core's last instruction is said."""
        if core.pending is not None:
            propagate(core.pending)
            core.pending = None
        return result

    def wait(self, core: NeuronCore, ready: Callable[[], bool], what: str) -> None:
        """Let other cores run until ``ready()``; ``what`` names the instruction that waits."""
        self.turns.wait(core, ready, what)

    # --- what cores share ---------------------------------------------------------------------------------

    def shared(
        self, core: NeuronCore, key: str, shape: tuple[int, ...], dtype: DType, make: Callable[[], Storage]
    ) -> Storage:
        """The n-th shared allocation under ``key`` is one storage, whichever core comes first."""
        seen = self._seen[core.index]
        count = seen[key] = seen.get(key, -1) + 1
        storage = self._shared.get((key, count))
        if storage is None:
            storage = self._shared[key, count] = make()
        elif storage.shape != shape or storage.dtype != dtype:
            raise violation(
                "ndarray", key, "shared_hbm allocation of this core", value=(shape, str(dtype)), rule="lnc-divergence",
                expected=f"{storage.shape} {storage.dtype}, as on the other core",
            )  # fmt: skip
        return storage

    def barrier(self, core: NeuronCore, cores: Sequence[int], key: Hashable, what: str) -> None:
        """Wait until every core of ``cores`` has come to the barrier ``key``."""
        arrived = self._arrived.setdefault(key, set())
        arrived.add(core.index)
        self.wait(core, lambda: arrived.issuperset(cores), what)

    def put(self, key: Hashable, value: Any) -> None:
        """Leave something for another core."""
        self._mail[key] = value

    def take(self, core: NeuronCore, key: Hashable, what: str) -> Any:
        """What another core leaves under ``key``, waiting for it."""
        self.wait(core, lambda: key in self._mail, what)
        return self._mail.pop(key)
