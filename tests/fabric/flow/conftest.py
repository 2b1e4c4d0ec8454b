"""Small networks and sends, random and not."""

from __future__ import annotations

import numpy as np

from trainshed.fabric.flow.sends import Sends
from trainshed.fabric.network.graph import Network


def star(chips: int, bandwidth: float = 1e9, latency: float = 1e-6, level: str = "rack") -> Network:
    """Chips behind one switch: link 2c up, 2c + 1 down."""
    chip, switch = np.arange(chips), np.full(chips, chips)
    ends = np.stack([np.stack([chip, switch], 1), np.stack([switch, chip], 1)], 1).reshape(-1, 2)
    return Network(
        name="star", chips=chips, kinds=("chip", "switch"), kind=np.array([0] * chips + [1]),
        names=[*(f"chip {c}" for c in range(chips)), "switch"], levels=(level,), source=ends[:, 0], target=ends[:, 1],
        level=np.zeros(2 * chips, np.int64), bandwidth=np.full(2 * chips, bandwidth),
        latency=np.full(2 * chips, latency / 2),
    )  # fmt: skip


def table(
    rows: list[tuple[int, int, float]], before: dict[int, list[int]] | None = None, *, earliest: float = 0.0,
    group: list[int] | None = None,
) -> Sends:  # fmt: skip
    """Sends from rows of source, target, bytes."""
    waits = [(before or {}).get(k, []) for k in range(len(rows))]
    source, target, size = zip(*rows, strict=True)
    return Sends(
        source=np.array(source), target=np.array(target), size=np.array(size, np.float64),
        first=np.cumsum([0, *map(len, waits)]), before=np.array([b for row in waits for b in row], np.int64),
        earliest=np.full(len(rows), earliest), group=np.array(group or [0] * len(rows)),
    )  # fmt: skip


def random_network(random: np.random.Generator) -> Network:
    """Two to six chips on a tree of one to three switches, some on two of them; rates and latencies at random."""
    chips, switches = int(random.integers(2, 7)), int(random.integers(1, 4))
    joined = [(chips + s, chips + int(random.integers(0, s)), 1) for s in range(1, switches)]
    for chip in range(chips):
        many = min(switches, int(random.integers(1, 3)))
        joined += [(chip, chips + int(s), 0) for s in random.choice(switches, size=many, replace=False)]
    one, other, level = np.array(joined).T
    return Network(
        name="random", chips=chips, kinds=("chip", "switch"), kind=np.array([0] * chips + [1] * switches),
        names=[f"node {k}" for k in range(chips + switches)], levels=("in", "out"),
        source=np.concatenate([one, other]), target=np.concatenate([other, one]), level=np.tile(level, 2),
        bandwidth=np.tile(random.uniform(0.5e9, 2e9, len(joined)), 2),
        latency=np.tile(random.uniform(0.0, 2e-6, len(joined)), 2),
    )  # fmt: skip


def random_sends(random: np.random.Generator, chips: int, *, waiting: bool = True) -> Sends:
    """Three to fifteen sends of 100 to 400 kB of two collectives; half wait for one or two earlier ones."""
    count = int(random.integers(3, 16))
    rows, before = [], {}
    for k in range(count):
        source = int(random.integers(chips))
        target = (source + int(random.integers(1, chips))) % chips
        rows.append((source, target, float(random.uniform(1e5, 4e5))))
        if waiting and k and random.random() < 0.5:
            before[k] = sorted({int(b) for b in random.integers(0, k, int(random.integers(1, 3)))})
    return table(rows, before, group=[int(g) for g in random.integers(0, 2, count)])
