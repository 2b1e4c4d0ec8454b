"""Point-to-point traffic: permute, all_to_all, and the dispatch and combine of experts.

Where an interconnect's library copies with SMs (NCCL), a message is cut over channels, each copying at ``channel``
bytes per second, and the number of channels per peer follows NCCL's rule: that is the staircase of measured permutes.
All channels together reach what the links reach, so that one copies at ``bandwidth · efficiency / channels``. In LL's
words half of a channel's threads send and half receive: each reaches half of what a ring's channel does in LL.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from trainshed.core import Constant, Cost, Number, formula, longest, total
from trainshed.fabric.algorithms import Call, Way
from trainshed.fabric.group import Share
from trainshed.fabric.terms import latency, transfer
from trainshed.fabric.topology import one_link

#: Mechanisms that the channels of a library need; without them only links count.
CHANNELS = (
    "channels", "channels_per_peer", "ring_channels", "low_latency", "part_least", "part_least_low_latency",
    "part_most", "low_latency_most", "chunk",
)  # fmt: skip


def permute(call: Call) -> Way:
    """Every member sends S to its neighbour in the group; those on the outermost level decide.

    Of the members on one chip only the last has its neighbour elsewhere.
    """
    shares = call.shares
    inside = shares[0].level.topology == "chip"
    on_chip = np.asarray(shares[0].members if inside else shares[0].inner)
    carried = [s.active * call.size / (1.0 if s.level.topology == "chip" else on_chip) for s in shares]
    steps = latency(shares, [s.outermost for s in shares])
    moved = transfer(shares, carried, [one_link(s) for s in shares], call.concurrent)
    n = np.asarray(call.ranks)
    mean = [call.size * e / n for e in call.edges]
    return Way(time=total("permute", [steps, _slower(call, moved, peers=1.0, message=call.size)]), carried=mean)


def direct(call: Call) -> Way:
    """Every member sends S / n to every other member, all at once."""
    shares, n = call.shares, np.asarray(call.ranks)
    carried = call.spreading
    moved = transfer(shares, carried, call.direct_links, call.concurrent)
    experts = call.kind.startswith("moe")  # kernels of their own write to peers with whole SMs, not through channels
    slower = moved if experts else _slower(call, moved, peers=n - 1.0, message=call.size / n)
    start = [latency(shares, [s.outermost for s in shares]), *call.messages(1.0), _peers(call)]
    return Way(time=total("direct", [*start, slower]),
               carried=carried)  # fmt: skip


def two_level(call: Call) -> Way:
    """Level by level: first among members of one domain, then among those with the same place in each (AWS)."""
    stages = []
    carried: list[Number] = []
    for share in call.shares:
        alone = replace(share, inner=1.0, members=share.fan, ranks=share.fan)
        stage = direct(replace(call, shares=(alone,)))
        stages.append(stage.time.named(f"all_to_all over {share.level.name}"))
        carried += stage.carried
    return Way(time=total("hierarchical", stages), carried=carried)


def once_per_domain(call: Call) -> Way:
    """Dispatch and combine with one copy of a token per domain, forwarded inside (DeepEP's normal kernels).

    ``copies`` experts per token hit D · (1 − (1 − 1 / D)^copies) of D equal domains on average.
    """
    shares = call.shares
    token = call.size / call.copies
    carried: list[Number] = []
    for share, way in zip(shares, call.distances, strict=True):
        domains = np.asarray(share.ranks / share.inner)
        reached = domains * (1.0 - (1.0 - 1.0 / np.maximum(domains, 1.0)) ** np.asarray(call.copies))
        away = reached * (1.0 - 1.0 / share.fan)
        carried.append(share.active * token * np.minimum(away, call.copies) * way)
    moved = transfer(shares, carried, call.direct_links, call.concurrent)
    steps = latency(shares, [s.active for s in shares])
    return Way(time=total("hierarchical", [steps, _peers(call), moved]), carried=carried)


def _peers(call: Call) -> Cost:
    """What a library spends on setting up all pairs of a group; beyond the groups measured it grows with the ranks."""
    names: dict[str, Number | Constant] = {}
    words = []
    for i, share in enumerate(call.shares):
        fitted = share.level.fitted
        if "pair" in fitted and "pair_most" in fitted:
            names |= {f"ranks{i}": share.ranks * share.outermost, f"pair{i}": fitted["pair"],
                      f"most{i}": fitted["pair_most"]}  # fmt: skip
            words.append(f"ranks{i} * min(ranks{i}, most{i}) * pair{i}")
    return formula("pairs", "s", " + ".join(words) or "0.0", **names)


def _slower(call: Call, moved: Cost, *, peers: Number, message: Number) -> Cost:
    """The links or the channels, whichever takes longer; channels of the innermost level serve all."""
    first = call.shares[0]
    if any(key not in first.level.fitted for key in CHANNELS):
        return moved
    return longest("links or channels", [moved, channels(first, peers=peers, message=message, ranks=call.ranks)])


def channels(share: Share, *, peers: Number, message: Number, ranks: Number) -> Cost:
    """Time to copy ``message`` bytes to each of ``peers`` through a library's channels.

    NCCL (``src/enqueue.cc``): channels per peer start at all of them shared by the ranks, a power of two, a part is at
    least ``part_least``; they double while a part is above ``part_most``. Messages up to ``low_latency_most`` per
    channel of a peer go in LL words. An all_to_all passes a FIFO, so that a chunk's copy comes on top.
    """
    know = {key: share.level.fitted[key] for key in CHANNELS}
    value = {key: np.asarray(know[key].value, dtype=np.float64) for key in CHANNELS}
    message, n = np.asarray(message, dtype=np.float64), np.asarray(ranks, dtype=np.float64)
    low = message <= value["low_latency_most"] * value["channels_per_peer"]
    least = np.where(low, value["part_least_low_latency"], value["part_least"])
    start = 2.0 ** np.floor(np.log2(np.maximum(value["channels"] / n, 1.0)))
    start = np.minimum(np.minimum(start, value["channels_per_peer"]), np.ceil(message / least))
    part = np.maximum(message / np.maximum(start, 1.0), least)
    doubled = 2.0 ** np.ceil(np.log2(np.maximum(part / value["part_most"], 1.0)))
    each = np.clip(np.maximum(start, 1.0) * doubled, 1.0, value["channels_per_peer"])
    turns = np.ceil(peers * each / value["channels"])
    fill = np.where(np.asarray(peers) > 1.0, np.minimum(message / each, value["chunk"]), 0.0)
    return formula(
        "channels", "s",
        "on * (turns * message / each * (low * 2.0 * ring_channels / low_latency + (1.0 - low) * channels)"
        " + (1.0 - low) * fill * channels) / (bandwidth * efficiency)",
        on=share.active, turns=turns, message=message, each=each, low=np.where(low, 1.0, 0.0), fill=fill,
        bandwidth=share.level.bandwidth, efficiency=share.level.fitted["efficiency"],
        **{key: know[key] for key in ("channels", "ring_channels", "low_latency")},
    )  # fmt: skip
