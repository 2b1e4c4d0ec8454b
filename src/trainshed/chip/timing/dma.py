"""The DMA engines of a core: each serves its descriptors one after the other."""

from __future__ import annotations


class DmaEngines:
    """When transfers move, in the order in which they are asked for. Times are femtoseconds.

    A transfer's descriptors go round the engines, beginning behind the last one of the transfer before.
    """

    def __init__(self, engines: int) -> None:
        self._free = [0] * engines
        self._even: int | None = 0
        """When all are free, where that is the same for all."""
        self._next = 0

    def serve(self, count: int, each: int, ready: int) -> tuple[int, int]:
        """When the first of ``count`` descriptors of ``each`` femtoseconds begins, and when the last has ended."""
        engines = len(self._free)
        share, more = divmod(count, engines)
        if self._even is not None:
            begin = max(self._even, ready)
            if not more:
                self._even = begin + each * share
                return begin, self._even
            self._free = [self._even] * engines
            self._even = None
        start, end = ready + (1 << 62), 0
        for place in range(engines if share else more):
            which = (self._next + place) % engines
            begin = max(self._free[which], ready)
            done = begin + each * (share + (place < more))
            self._free[which] = done
            start, end = min(start, begin), max(end, done)
        self._next = (self._next + more) % engines
        if min(self._free) == max(self._free):
            self._even = self._free[0]
        return start, end

    def state(self, now: int) -> tuple[int, ...]:
        """All that decides what comes, relative to ``now``."""
        free = self._free if self._even is None else [self._even] * len(self._free)
        return (self._next, *(max(moment - now, 0) for moment in free))

    def later(self, by: int) -> None:
        """The same some time later."""
        self._free = [moment + by for moment in self._free]
        if self._even is not None:
            self._even += by
