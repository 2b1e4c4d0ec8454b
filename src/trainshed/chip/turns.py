"""Cores that take turns: one runs at a time, each on a thread of its own, and changes only where one waits.

The order is fixed, so two runs execute the same instructions in the same order, and a core that waits for what
no other brings is found at once.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

from trainshed.chip.core import NeuronCore, enter
from trainshed.chip.errors import Source, source, violation


class _Abandoned(BaseException):
    """Unwinds a core after another one failed."""


class Turns:
    """The turn that the cores of one or several launches pass on. A core is known by its place in the round."""

    def __init__(self) -> None:
        self._places: dict[int, int] = {}
        self._condition = threading.Condition()
        self._turn = 0
        self._done: list[bool] = []
        self._waiting: dict[int, tuple[Callable[[], bool], str, Source]] = {}
        self._error: BaseException | None = None

    def join(self, core: NeuronCore) -> None:
        """Give a core the next place."""
        self._places[id(core)] = len(self._done)
        self._done.append(False)

    def run(self, jobs: Sequence[tuple[NeuronCore, Callable[[NeuronCore], Any]]]) -> list[Any]:
        """``job(core)`` for each, in turns; their results in order. The first error of any is raised."""
        results: list[Any] = [None] * len(jobs)
        threads = []
        for number, (core, job) in enumerate(jobs):
            name = f"neuroncore-{self._places[id(core)]}"
            arguments = (core, job, results, number)
            threads.append(threading.Thread(target=self._body, args=arguments, name=name, daemon=True))
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if self._error is not None:
            raise self._error
        return results

    def _body(self, core: NeuronCore, job: Callable[[NeuronCore], Any], results: list[Any], number: int) -> None:
        enter(core)
        place = self._places[id(core)]
        try:
            with self._condition:
                self._condition.wait_for(lambda: self._turn == place or self._error is not None)
            if self._error is None:
                results[number] = job(core)
        except _Abandoned:
            pass
        except BaseException as error:  # whatever a kernel raises is the caller's to see
            self._error = self._error or error
        finally:
            with self._condition:
                self._done[place] = True
                self._pass_on(place)

    def _pass_on(self, place: int) -> None:
        """Give the turn to the next core that can run (with the condition held)."""
        count = len(self._done)
        for step in range(1, count + 1):
            other = (place + step) % count
            if not self._done[other] and (other not in self._waiting or self._waiting[other][0]()):
                self._turn = other
                break
        else:
            if self._waiting and self._error is None:
                core, (_, what, at) = next(iter(self._waiting.items()))
                self._error = violation(
                    what, "", f"core {core} waits for ever", value="no other core arrives", rule="lnc-divergence",
                    expected="all cores to follow the same control flow", at=at,
                )  # fmt: skip
        self._condition.notify_all()

    def wait(self, core: NeuronCore, ready: Callable[[], bool], what: str) -> None:
        """Let others run until ``ready()``; ``what`` names the instruction that waits."""
        if ready():
            return
        place = self._places[id(core)]
        with self._condition:
            self._waiting[place] = (ready, what, source())
            self._pass_on(place)
            self._condition.wait_for(lambda: self._turn == place or self._error is not None)
            self._waiting.pop(place, None)
        if self._error is not None:
            raise _Abandoned if len(self._done) > 1 else self._error
