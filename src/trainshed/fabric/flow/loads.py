"""Where sends load a network: one way per pair of chips that exchange anything, and what a send adds to its bytes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trainshed.core import UserError
from trainshed.fabric.flow.sends import Floats, Ints, Sends, Transport
from trainshed.fabric.network.graph import Network
from trainshed.fabric.network.routing import latency, routes


@dataclass(frozen=True, kw_only=True, eq=False)
class Loads:
    """The columns that network models work on. Sends of one pair of chips take one way."""

    pair: Ints
    """``[sends]`` which pair of chips."""
    first: Ints
    """``[pairs + 1]``: of ``link`` and ``share``."""
    link: Ints
    """A link that a pair's bytes pass; above ``links``: a chip's DMA engines."""
    share: Floats
    """Part of the pair's bytes on that link."""
    capacity: Floats
    """``[links + chips]`` (``[links]`` where engines do not limit) B/s that can be reached."""
    links: int
    """Links of the network: those after them are engines."""
    latency: Floats
    """``[pairs]`` s from the last byte's leaving to its arrival."""
    hop: Floats
    """``[pairs]`` s of software before the first byte leaves."""
    message: Floats
    """``[pairs]`` s that issuing keeps the sender busy."""
    start: Floats
    """``[sends]`` s: earliest time, launch included."""
    finish: Floats
    """``[sends]`` s that what has arrived needs until it is where it belongs; 0 where somebody waits for the send."""


def column(values: Mapping[str, float], levels: Sequence[str], default: float = 0.0) -> Floats:
    """A transport's constants as ``[levels]``."""
    return np.array([values.get(name, default) for name in levels], dtype=np.float64)


def loads(network: Network, sends: Sends, transport: Transport, routing: str = "spray") -> Loads:
    """Ways of all pairs of chips in ``sends``, and their constants by the outermost level that they pass."""
    _check(network, sends)
    keys, pair = np.unique(sends.source * network.chips + sends.target, return_inverse=True)
    source, target = keys // network.chips, keys % network.chips
    ways = routes(network, source, target, routing)
    first, link, share = ways.first, ways.link, ways.share
    outermost = np.zeros(len(keys), dtype=np.int64)
    np.maximum.at(outermost, np.repeat(np.arange(len(keys)), np.diff(first)), network.level[link])
    by_level = {name: column(getattr(transport, name), network.levels)[outermost] for name in ("hop", "message")}
    capacity = network.bandwidth * column(transport.reach, network.levels, 1.0)[network.level]
    late = latency(network, ways)
    last = column(transport.last_step, network.levels)[outermost]
    finish = _finish(sends, pair, late + by_level["hop"], last / alone(first, capacity[link] / share))
    if transport.inject < _most_sent(network, capacity, link):
        # every byte of a send passes its chip's engines: one more link, the first on the way
        link = np.insert(link, first[:-1], network.links + source)
        share = np.insert(share, first[:-1], 1.0)
        first = first + np.arange(len(first))
        capacity = np.concatenate((capacity, np.full(network.chips, transport.inject)))
    return Loads(
        pair=pair, first=first, link=link, share=share, capacity=capacity, links=network.links, latency=late,
        start=sends.earliest + _launch(network, sends, transport, outermost[pair]), finish=finish, **by_level,
    )  # fmt: skip


def alone(first: Ints, rate: Floats) -> Floats:
    """``[pairs]`` B/s of a flow that is alone."""
    out, some = np.full(len(first) - 1, np.inf), np.flatnonzero(np.diff(first))
    if len(some):
        out[some] = np.minimum.reduceat(rate, first[some])
    return out


def _finish(sends: Sends, pair: Ints, hop: Floats, per_byte: Floats) -> Floats:
    awaited = np.zeros(len(sends), dtype=bool)
    awaited[sends.before] = True
    extra: Floats = np.where(per_byte[pair] > 0.0, hop[pair] + per_byte[pair] * sends.size, 0.0)
    return np.where(awaited, 0.0, extra)


def _most_sent(network: Network, capacity: Floats, link: Ints) -> float:
    """B/s that the links in use of any one chip could send together: engines that move more limit nobody."""
    used = np.unique(link)
    own = used[network.source[used] < network.chips]
    return float(np.bincount(network.source[own], weights=capacity[own]).max(initial=0.0))


def _launch(network: Network, sends: Sends, transport: Transport, level: Ints) -> Floats:
    """``[sends]`` s: launch of the outermost level that a send's collective reaches."""
    groups, group = np.unique(sends.group, return_inverse=True)
    reached = np.zeros(len(groups), dtype=np.int64)
    np.maximum.at(reached, group, level)
    return column(transport.launch, network.levels)[reached][group]


def _check(network: Network, sends: Sends) -> None:
    for name, chips in (("source", sends.source), ("target", sends.target)):
        wrong: NDArray[np.intp] = np.flatnonzero((chips < 0) | (chips >= network.chips))
        if len(wrong):
            raise UserError(
                f"{name} of send {wrong[0]} is no chip", where=network.name, value=int(chips[wrong[0]]),
                expected=f"0 to {network.chips - 1}",
            )  # fmt: skip
