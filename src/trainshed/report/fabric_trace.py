"""A collective's sends as a Perfetto trace: per chip what it sends, and per level how many sends are under way.

Field numbers are those of ``protos/perfetto/trace``. Source: perfetto.dev, "TrackEvent". Times are in nanoseconds.
"""

from __future__ import annotations

import heapq
from pathlib import Path

import numpy as np

from trainshed.fabric.play import Played
from trainshed.report.protobuf import message, number, text
from trainshed.report.whole import write_whole

_PACKET, _TIME, _SEQUENCE, _EVENT, _FLAGS, _DESCRIPTOR = 1, 8, 10, 11, 13, 60
_UUID, _NAME, _PARENT, _COUNTER, _ORDERING, _RANK = 1, 2, 5, 8, 11, 12
_KIND, _TRACK, _EVENT_NAME, _ANNOTATION, _VALUE, _BEGIN, _END, _COUNT = 9, 11, 23, 4, 30, 1, 2, 4
_KEY, _UINT, _EXPLICIT = 10, 3, 3
_FIRST = number(_SEQUENCE, 1) + number(_FLAGS, 1)
_SAME = number(_SEQUENCE, 1)


def write_trace(path: Path, done: Played) -> None:
    """Write the trace whole or not at all."""
    packets = [message(_PACKET, _FIRST)]
    order = np.lexsort((done.run.begin, done.sends.source))
    chips, starts = np.unique(done.sends.source[order], return_index=True)
    track = 0
    for chip, own in zip(chips.tolist(), np.split(order, starts[1:]), strict=True):
        track += 1
        root = track
        packets.append(_described(root, done.network.names[chip]))
        lanes = _lanes(done, own)
        for rank, lane in enumerate(lanes):
            track += 1
            packets.append(_described(track, "sends", root, rank))
            packets += _slices(done, track, lane)
    packets += _under_way(done, track + 1)
    write_whole(path, b"".join(packets))


def _described(track: int, name: str, parent: int = 0, rank: int = 0, *, counter: bool = False) -> bytes:
    about = [number(_UUID, track), text(_NAME, name)]
    about += [number(_PARENT, parent), number(_RANK, rank)] if parent else [number(_ORDERING, _EXPLICIT)]
    if counter:
        about.append(message(_COUNTER))
    return message(_PACKET, _SAME, message(_DESCRIPTOR, *about))


def _lanes(done: Played, own: np.ndarray[tuple[int], np.dtype[np.int64]]) -> list[list[int]]:
    """Sends of one chip, those that overlap on lanes of their own."""
    lanes: list[list[int]] = []
    free: list[tuple[float, int]] = []
    for send in own.tolist():
        if free and free[0][0] <= done.run.begin[send]:
            lane = heapq.heappop(free)[1]
        else:
            lane = len(lanes)
            lanes.append([])
        lanes[lane].append(send)
        heapq.heappush(free, (float(done.run.end[send]), lane))
    return lanes


def _slices(done: Played, track: int, lane: list[int]) -> list[bytes]:
    made = []
    place = number(_TRACK, track)
    for send in lane:
        name = text(_EVENT_NAME, f"to {done.network.names[int(done.sends.target[send])]}")
        size = message(_ANNOTATION, text(_KEY, "bytes"), number(_UINT, round(float(done.sends.size[send]))))
        made.append(_event(float(done.run.begin[send]), number(_KIND, _BEGIN), place, name, size))
        made.append(_event(float(done.run.end[send]), number(_KIND, _END), place))
    return made


def _event(seconds: float, *fields: bytes) -> bytes:
    return message(_PACKET, number(_TIME, round(seconds * 1e9)), _SAME, message(_EVENT, *fields))


def _under_way(done: Played, track: int) -> list[bytes]:
    """A counter of sends under way."""
    moments = np.concatenate((done.run.begin, done.run.end))
    change = np.concatenate((np.ones(len(done.sends), np.int64), -np.ones(len(done.sends), np.int64)))
    at, inverse = np.unique(moments, return_inverse=True)
    level = np.cumsum(np.bincount(inverse, weights=change, minlength=len(at))).astype(np.int64)
    made = [_described(track, "sends under way", counter=True)]
    place = number(_KIND, _COUNT) + number(_TRACK, track)
    for moment, value in zip(at.tolist(), level.tolist(), strict=True):
        made.append(_event(moment, place, number(_VALUE, max(value, 0))))
    return made
