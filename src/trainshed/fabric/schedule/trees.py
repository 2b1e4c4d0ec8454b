"""Trees: all_reduce up and down one or two binary trees, and broadcasts, in pieces that follow each other.

The in-order tree is the one NCCL builds (``src/graph/trees.cc``): ranks with an odd number are leaves, rank 0 is the
root and has one child. A second tree, mirrored or shifted so that leaves of the first are inside, takes the other half
of the data: every rank then sends and receives about as much (Sanders, Speck, Träff, "Two-tree Algorithms for Full
Bandwidth Broadcast, Reduction and Scan", 2009). Pieces of one edge go one after another (``Step.repeat``); pieces of
different edges only wait for what they carry.
"""

from __future__ import annotations

import numpy as np

from trainshed.core import UserError
from trainshed.fabric.schedule.gather import ring
from trainshed.fabric.schedule.registry import algorithm
from trainshed.fabric.schedule.steps import Ints, Schedule, Step


def parents(ranks: int) -> Ints:
    """``[ranks]`` the parent of each rank in the in-order binary tree; the root 0 is its own."""
    r = np.arange(ranks)
    bit = r & -r
    up = (r ^ bit) | (bit << 1)
    return np.where(up < ranks, up, r ^ bit)


def depths(parent: Ints, root: int = 0) -> Ints:
    """``[ranks]`` edges from the root."""
    depth, at = np.zeros_like(parent), np.arange(len(parent))
    while (at != root).any():
        depth += at != root
        at = np.where(at == root, at, parent[at])
    return depth


def second(ranks: int) -> Ints:
    """``[ranks]`` who takes the place of each rank in the second tree: mirrored, or shifted if their number is odd."""
    r = np.arange(ranks)
    return (r + 1) % ranks if ranks % 2 else ranks - 1 - r


def down(names: Ints, pieces: int, base: int = 0) -> list[Step]:
    """Pieces ``base`` to ``base + pieces`` down the in-order tree of ranks ``names``, one step for each depth."""
    parent = parents(len(names))
    depth = depths(parent)
    steps = []
    for level in range(1, int(depth.max()) + 1):
        child = np.flatnonzero(depth == level)
        slot = np.full(len(child), base)
        steps.append(Step(source=names[parent[child]], target=names[child], slot=slot, to=slot, repeat=pieces,
                          shift=1, wrap=base + pieces))  # fmt: skip
    return steps


def up(names: Ints, pieces: int, base: int = 0) -> list[Step]:
    """The same from the leaves to the root, added up."""
    return [
        Step(source=s.target, target=s.source, slot=s.slot, to=s.to, repeat=pieces, shift=1, wrap=s.wrap, reduce=True)
        for s in reversed(down(names, pieces, base))
    ]


def _pieces(pieces: int) -> int:
    if pieces < 1 or int(pieces) != pieces:
        raise UserError("pieces", where="tree", value=pieces, expected="a whole number, at least 1")
    return int(pieces)


def _made(kind: str, ranks: int, slots: int, steps: list[Step], root: int = 0) -> Schedule:
    return Schedule(kind=kind, algorithm="", ranks=ranks, slots=slots, slot_share=1.0 / slots, steps=tuple(steps),
                    root=root)  # fmt: skip


@algorithm("all_reduce", "binary_tree")
def one_tree(ranks: int, pieces: int = 8) -> Schedule:
    """Up and down one binary tree, in pieces."""
    names = np.arange(ranks)
    return _made("all_reduce", ranks, _pieces(pieces), [*up(names, pieces), *down(names, pieces)])


@algorithm("all_reduce", "tree")
def two_trees(ranks: int, pieces: int = 8) -> Schedule:
    """Up and down NCCL's double binary tree, each tree with half of the data in pieces."""
    one, two = np.arange(ranks), second(ranks)
    steps = [*up(one, _pieces(pieces)), *up(two, pieces, pieces), *down(one, pieces), *down(two, pieces, pieces)]
    return _made("all_reduce", ranks, 2 * pieces, steps)


def _from(root: int, ranks: int) -> Ints:
    """``[ranks]`` all ranks from the root around."""
    if not 0 <= root < ranks:
        raise UserError("root", where="broadcast", value=root, expected=f"a rank from 0 to {ranks - 1}")
    return (np.arange(ranks) + root) % ranks


@algorithm("broadcast", "ring")
def chain(ranks: int, root: int = 0, pieces: int = 8) -> Schedule:
    """Each hands on to the next, in pieces."""
    names, slot = _from(root, ranks), np.zeros(1, np.int64)
    steps = [
        Step(source=names[k : k + 1], target=names[k + 1 : k + 2], slot=slot, to=slot, repeat=_pieces(pieces), shift=1,
             wrap=pieces)
        for k in range(ranks - 1)
    ]  # fmt: skip
    return _made("broadcast", ranks, _pieces(pieces), steps, root)


@algorithm("broadcast", "binary_tree")
def broadcast_tree(ranks: int, root: int = 0, pieces: int = 8) -> Schedule:
    """Down one binary tree, in pieces."""
    return _made("broadcast", ranks, _pieces(pieces), down(_from(root, ranks), pieces), root)


@algorithm("broadcast", "tree")
def broadcast_two_trees(ranks: int, root: int = 0, pieces: int = 8) -> Schedule:
    """Half down each of two trees below the root, in which no other rank is inside twice (Sanders, Speck, Träff)."""
    names = _from(root, ranks)
    rest = names[1:]
    two = np.concatenate([names[:1], np.roll(rest, -1) if ranks % 2 == 0 else rest[::-1]])
    return _made("broadcast", ranks, 2 * _pieces(pieces), [*down(names, pieces), *down(two, pieces, pieces)], root)


@algorithm("broadcast", "binomial")
def binomial(ranks: int, root: int = 0) -> Schedule:
    """⌈log2 n⌉ steps: everyone who has the whole buffer sends it to one who has not, far ones first."""
    names, steps = _from(root, ranks), []
    near = 1 << (ranks - 1).bit_length() >> 1
    while near:
        have = np.arange(0, ranks - near, 2 * near)
        zero = np.zeros_like(have)
        steps.append(Step(source=names[have], target=names[have + near], slot=zero, to=zero))
        near //= 2
    return _made("broadcast", ranks, 1, steps, root)


@algorithm("broadcast", "mesh")
def to_all(ranks: int, root: int = 0) -> Schedule:
    """The root sends to everyone at once, for small sizes."""
    others, zero = _from(root, ranks)[1:], np.zeros(ranks - 1, np.int64)
    steps = [Step(source=np.full(ranks - 1, root), target=others, slot=zero, to=zero)] if ranks > 1 else []
    return _made("broadcast", ranks, 1, steps, root)


@algorithm("broadcast", "scatter_ring")
def scatter_ring(ranks: int, root: int = 0) -> Schedule:
    """The root sends each rank its S/n, then a ring gathers (van de Geijn; Thakur, Rabenseifner, Gropp 2005)."""
    others = _from(root, ranks)[1:]
    scatter = Step(source=np.full(ranks - 1, root), target=others, slot=others, to=others)
    steps = [scatter, *ring(ranks).steps] if ranks > 1 else []
    return _made("broadcast", ranks, ranks, steps, root)
