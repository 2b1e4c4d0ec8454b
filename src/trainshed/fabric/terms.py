"""The terms that every algorithm is made of: launch, steps of latency, bytes over the links of each level."""

from __future__ import annotations

from collections.abc import Sequence

from trainshed.core import Constant, Cost, Number, formula
from trainshed.fabric.group import Share
from trainshed.fabric.topology import extra_layers

Names = dict[str, Number | Constant]


def launch(shares: Sequence[Share]) -> Cost:
    """The fixed time of one collective: of the outermost level that the group reaches."""
    names: Names = {}
    for i, share in enumerate(shares):
        names |= {f"on{i}": share.outermost, f"launch{i}": share.level.fitted["launch"]}
    return formula("launch", "s", " + ".join(f"on{i} * launch{i}" for i in range(len(shares))) or "0.0", **names)


def start_of(shares: Sequence[Share], mechanism: str) -> Cost:
    """What a protocol takes at its start beyond the launch, at the outermost level that the group reaches."""
    known = [(i, s) for i, s in enumerate(shares) if mechanism in s.level.fitted]
    names: Names = {}
    for i, share in known:
        names |= {f"on{i}": share.outermost, f"{mechanism}{i}": share.level.fitted[mechanism]}
    return formula(
        "start of the protocol", "s", " + ".join(f"on{i} * {mechanism}{i}" for i, _ in known) or "0.0", **names
    )


def latency(shares: Sequence[Share], steps: Sequence[Number], *, protocol: str = "") -> Cost:
    """``steps`` dependent steps at each level: the wire's latency, software per hop, more layers of switches.

    ``protocol`` names a mechanism that each hop takes on top (``bulk``: the fence of NCCL's Simple protocol).
    """
    names: Names = {}
    words = []
    for i, (share, count) in enumerate(zip(shares, steps, strict=True)):
        fitted = share.level.fitted
        names |= {f"steps{i}": count, f"wire{i}": share.level.latency, f"hop{i}": fitted["hop"]}
        word = f"wire{i} + hop{i}"
        if protocol in fitted:
            word += f" + {protocol}{i}"
            names[f"{protocol}{i}"] = fitted[protocol]
        if share.level.topology == "leaf-spine" and "layer" in fitted:
            word += f" + more{i} * layer{i}"
            names |= {f"more{i}": extra_layers(share), f"layer{i}": fitted["layer"]}
        words.append(f"steps{i} * ({word})")
    return formula("steps", "s", " + ".join(words) or "0.0", **names)


def messages(shares: Sequence[Share], counts: Sequence[Number]) -> Cost | None:
    """Issuing ``counts`` messages of each member at each level, where an interconnect has a rate for that."""
    names: Names = {}
    words = []
    for i, (share, count) in enumerate(zip(shares, counts, strict=True)):
        if "message" in share.level.fitted:
            names |= {f"sent{i}": count * share.per_chip, f"message{i}": share.level.fitted["message"]}
            words.append(f"sent{i} * message{i}")
    return formula("messages", "s", " + ".join(words), **names) if words else None


def transfer(
    shares: Sequence[Share], carried: Sequence[Number], links: Sequence[Number], concurrent: Number = 1.0, *,
    fraction: str = "", local: Number | None = None, together: bool = True,
) -> Cost:  # fmt: skip
    """``carried`` bytes of one member over each level.

    ``together``: all levels at work at once, so that the slowest counts; else one after another. ``links``: the part of
    a chip's links of that level in use. ``fraction`` names a mechanism that the rate is multiplied with
    (``low_latency``: NCCL's LL words carry flags; ``in_network``: a switch that adds up). ``local``: bytes copied
    inside a rank, at ``last_step`` of a link byte's cost.
    """
    names: Names = {}
    words = []
    for i, (share, size, part) in enumerate(zip(shares, carried, links, strict=True)):
        fitted = share.level.fitted
        names |= {
            f"carried{i}": size, f"sharing{i}": share.per_chip * concurrent / part,
            f"bandwidth{i}": share.level.bandwidth, f"efficiency{i}": fitted["efficiency"],
        }  # fmt: skip
        moved, rate = f"carried{i}", f"bandwidth{i} * efficiency{i}"
        if local is not None and i == 0 and "last_step" in fitted:
            moved = "(carried0 + local * last_step0)"
            names |= {"local": local, "last_step0": fitted["last_step"]}
        if fraction in fitted:
            rate += f" * {fraction}{i}"
            names[f"{fraction}{i}"] = fitted[fraction]
        words.append(f"{moved} * sharing{i} / ({rate})")
    joined = f"max({', '.join(words)})" if together else " + ".join(words)
    expression = words[0] if len(words) == 1 else joined if words else "0.0"
    return formula("bytes over links", "s", expression, **names)


def pipelined(what: str, steps: Cost, moved: Cost) -> Cost:
    """A chain of steps that a buffer passes in pieces of the best size: (√steps + √bytes)².

    k pieces over d steps of latency a take (d + k)(a + bytes / k); the best k leaves d·a + bytes + 2·√(d·a·bytes)
    (the classic bound of pipelined trees: Sanders, Speck, Träff, Parallel Computing 35, 2009).
    """
    return formula(what, "s", "steps + moved + 2.0 * sqrt(steps * moved)", steps=steps, moved=moved)
