"""A cost tree as a trace for the Perfetto viewer (ui.perfetto.dev): the terms of ``explain`` laid out in time.

Parts of a sum follow one another; of parts that run side by side the longest stays on the track and the others lie
on a track of their own beneath it; a repeated part is drawn once, stretched over its repetitions.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from trainshed.core import Cost
from trainshed.report.whole import write_whole

REPEATED = "times * each"


@dataclass(frozen=True, kw_only=True)
class Span:
    """A piece of a track, in seconds."""

    name: str
    start: float
    duration: float
    track: str
    how: str


def spans(cost: Cost, track: str, start: float = 0.0, times: float = 1.0) -> Iterator[Span]:
    """The spans of a scalar time cost, its root first."""
    duration = float(cost.value) * times
    if duration <= 0.0:
        return
    yield Span(name=cost.what, start=start, duration=duration, track=track, how=cost.expression or cost.how)
    parts = [child for _, child in cost.children if child.unit == "s"]
    if cost.how == "sum":
        for part in parts:
            yield from spans(part, track, start, times)
            start += float(part.value) * times
    elif cost.how == "max":
        ordered = sorted(parts, key=lambda part: -float(part.value))
        for i, part in enumerate(ordered):
            yield from spans(part, track if i == 0 else f"{track} · side by side {i}", start, times)
    elif cost.expression == REPEATED and len(parts) == 1:
        count = next(float(value) for name, value in cost.inputs if name == "times")
        yield from spans(parts[0], track, start, times * count)


def events(tracks: Mapping[str, Cost]) -> list[dict[str, object]]:
    """Trace events of one cost per track (Chrome's trace format, microseconds)."""
    every = [span for name, cost in tracks.items() for span in spans(cost, name)]
    numbers = {name: i for i, name in enumerate(dict.fromkeys(span.track for span in every))}
    named: list[dict[str, object]] = [
        {"ph": "M", "name": "thread_name", "pid": 0, "tid": i, "args": {"name": name}} for name, i in numbers.items()
    ]
    order: list[dict[str, object]] = [
        {"ph": "M", "name": "thread_sort_index", "pid": 0, "tid": i, "args": {"sort_index": i}}
        for i in numbers.values()
    ]
    drawn: list[dict[str, object]] = [
        {
            "ph": "X", "name": s.name, "pid": 0, "tid": numbers[s.track], "ts": s.start * 1e6, "dur": s.duration * 1e6,
            "args": {"seconds": s.duration, "how": s.how},
        }
        for s in every
    ]  # fmt: skip
    return [*named, *order, *drawn]


def write(path: Path, title: str, tracks: Mapping[str, Cost]) -> None:
    """Write a trace whole or not at all."""
    head = {"ph": "M", "name": "process_name", "pid": 0, "args": {"name": title}}
    trace = {"traceEvents": [head, *events(tracks)], "displayTimeUnit": "ms"}
    write_whole(path, json.dumps(trace).encode())
