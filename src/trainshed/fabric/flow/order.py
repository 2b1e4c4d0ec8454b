"""Connections: sends of one collective from one chip to another go in order, as on a queue pair or a DMA ring.

Those that begin at the same time (of several ranks on the chips) go side by side; later ones wait until all of them
have left. Were they to share the wire with each other, time would depend on rounding: a ring out of step doubles an
error every few steps.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Any

import numpy as np

from trainshed.fabric.flow.sends import Ints, Sends


class Connections:
    """Which sends may begin."""

    def __init__(self, sends: Sends, pair: Ints) -> None:
        _, self._connection, count = np.unique(
            np.stack((pair, sends.group)), axis=1, return_inverse=True, return_counts=True
        )
        self.single = count[self._connection] == 1
        """``[sends]`` whether a send has its connection to itself."""
        self._of: Any = self._connection.data
        self._single: Any = self.single.data
        self._under_way = [0] * len(count)
        self._opened = [-1.0] * len(count)
        """s: since when those under way are, if more may join them."""
        self._waiting: dict[int, deque[tuple[float, int]]] = {}

    def admit(self, now: float, sends: Iterable[int]) -> list[int]:
        """Those that begin now; the others will when their turn comes."""
        begin = []
        for send in sends:
            if not self._single[send]:
                connection = self._of[send]
                if not self._under_way[connection]:
                    self._opened[connection] = now
                elif self._opened[connection] != now:
                    self._waiting.setdefault(connection, deque()).append((now, send))
                    continue
                self._under_way[connection] += 1
            begin.append(send)
        return begin

    def leave(self, sends: Iterable[int]) -> list[int]:
        """Those whose turn has come as these left."""
        begin = []
        for send in sends:
            if self._single[send]:
                continue
            connection = self._of[send]
            self._under_way[connection] -= 1
            queue = self._waiting.get(connection)
            if queue and not self._under_way[connection]:
                since = queue[0][0]
                self._opened[connection] = -1.0
                while queue and queue[0][0] == since:
                    begin.append(queue.popleft()[1])
                    self._under_way[connection] += 1
        return begin
