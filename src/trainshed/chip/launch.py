"""A kernel's run on one logical NeuronCore: one or more physical cores, shared HBM, barriers, exchange.

Cores take turns on threads of their own, one at a time and in a fixed order, and change only where a core
waits for another: two runs of one kernel therefore execute the same instructions in the same order.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable, Sequence
from typing import Any

from trainshed.chip.core import NeuronCore, Options, Target, enter
from trainshed.chip.errors import Source, source, violation
from trainshed.chip.memory import Storage
from trainshed.chip.undefined import propagate
from trainshed.numerics.formats import DType


class _Abandoned(BaseException):
    """Unwinds a core after another one failed."""


class Launch:
    """The cores of one launch and what they share."""

    def __init__(self, target: Target, options: Options, cores: int = 1) -> None:
        self.cores = [NeuronCore(target, options, index=i, cores=cores) for i in range(cores)]
        for core in self.cores:
            core.launch = self
        #: What cores exchange, by any key; see ``put`` and ``take``.
        self._mail: dict[Hashable, Any] = {}
        self._shared: dict[tuple[str, int], Storage] = {}
        self._seen: list[dict[str, int]] = [{} for _ in range(cores)]
        self._arrived: dict[Hashable, set[int]] = {}
        self._condition = threading.Condition()
        self._turn = 0
        self._done = [False] * cores
        self._waiting: dict[int, tuple[Callable[[], bool], str, Source]] = {}
        self._error: BaseException | None = None
        #: What the kernel returned on core 0, before it becomes arrays.
        self.returned: Any = None

    # --- running ------------------------------------------------------------------------------------------

    def run(self, body: Callable[[NeuronCore], Any]) -> list[Any]:
        """``body(core)`` on every core; its results in order. The first error of any core is raised."""
        if len(self.cores) == 1:
            before = enter(self.cores[0])
            try:
                return [self._ended(self.cores[0], body(self.cores[0]))]
            finally:
                enter(before)
        results: list[Any] = [None] * len(self.cores)
        threads = [
            threading.Thread(
                target=self._body, args=(core, body, results), name=f"neuroncore-{core.index}", daemon=True
            )
            for core in self.cores
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if self._error is not None:
            raise self._error
        return results

    @staticmethod
    def _ended(core: NeuronCore, result: Any) -> Any:
        """What is still to be said of the core's last instruction is said."""
        if core.pending is not None:
            propagate(core.pending)
            core.pending = None
        return result

    def _body(self, core: NeuronCore, body: Callable[[NeuronCore], Any], results: list[Any]) -> None:
        enter(core)
        try:
            with self._condition:
                self._condition.wait_for(lambda: self._turn == core.index or self._error is not None)
            if self._error is None:
                results[core.index] = self._ended(core, body(core))
        except _Abandoned:
            pass
        except BaseException as error:  # whatever a kernel raises is the caller's to see
            self._error = self._error or error
        finally:
            with self._condition:
                self._done[core.index] = True
                self._pass_on(core.index)

    def _pass_on(self, index: int) -> None:
        """Give the turn to the next core that can run (with the condition held)."""
        count = len(self.cores)
        for step in range(1, count + 1):
            other = (index + step) % count
            if not self._done[other] and (other not in self._waiting or self._waiting[other][0]()):
                self._turn = other
                break
        else:
            if self._waiting and self._error is None:
                core, (_, what, at) = next(iter(self._waiting.items()))
                self._error = violation(
                    what, "", f"core {core} waits for ever", value="no other core arrives", rule="lnc-divergence",
                    expected="both cores to follow the same control flow", at=at,
                )  # fmt: skip
        self._condition.notify_all()

    def wait(self, core: NeuronCore, ready: Callable[[], bool], what: str) -> None:
        """Let other cores run until ``ready()``; ``what`` names the instruction that waits."""
        if ready():
            return
        with self._condition:
            self._waiting[core.index] = (ready, what, source())
            self._pass_on(core.index)
            self._condition.wait_for(lambda: self._turn == core.index or self._error is not None)
            self._waiting.pop(core.index, None)
        if self._error is not None:
            raise _Abandoned

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
