"""How the attention kernels cut their work, and in which order they do it: pure functions of the sizes."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from trainshed.kernels.attention_tiles import BANK, parts
from trainshed.kernels.common import PARTITIONS

#: Keys that one instruction of VectorE and ScalarE takes: two PSUM banks of scores.
CHUNK = 1024
#: Keys that share one maximum.
SECTION = 4096
#: Keys that stay in SBUF for all the queries of their heads, or in the backward pass queries for all blocks of keys;
#: of more, every group of queries, or block of keys, reads its own.
RESIDENT = 8192
#: Query tiles of a group, which one DMA loads and one stores.
GROUP = 8
#: Queries, or keys, that one DMA loads.
PIECE = GROUP * PARTITIONS
#: Bytes per partition for what adds up in SBUF: dq of a head, and where heads share keys dk and dv.
SUMS = 1 << 17
#: Tiles of 128 keys that one DMA loads.
RUN = 64
#: Columns of scores (tiles of 128 keys times queries) that a pass has, if not of a single head.
COLUMNS = 512
#: Columns of scores of one head, at most: 64 KiB of each partition.
LONGEST = 1 << 14


@dataclass(frozen=True, kw_only=True)
class Block:
    """The keys of one section that one tile of queries attends to."""

    head: int
    query: int
    """Tile of queries."""
    keys: tuple[slice, ...]
    """By chunk."""
    first: bool
    """The first section of its tile."""
    last: bool
    diagonal: bool
    """The last 128 keys are on the diagonal."""

    @property
    def key(self) -> tuple[int, int, int]:
        """Head, tile of queries and where the section begins."""
        return self.head, self.query, self.keys[0].start


def reach(query: int, queries: int, keys: int, causal: bool) -> int:
    """Keys that the ``query``-th tile attends to: the last query sees all, the others whole tiles of 128 less."""
    return keys - queries + (query + 1) * PARTITIONS if causal else keys


@lru_cache(maxsize=8)
def blocks(heads: int, queries: int, keys: int, causal: bool) -> tuple[Block, ...]:
    """All blocks in order: of each head by groups of query tiles, of each group by sections."""
    found = []
    for head in range(heads):
        for group in parts(queries // PARTITIONS, GROUP):
            for section in parts(keys, SECTION):
                for query in range(group.start, group.stop):
                    end = reach(query, queries, keys, causal)
                    if section.start >= end:
                        continue
                    stop = min(section.stop, end)
                    chunks = parts(stop - section.start, CHUNK)
                    found.append(
                        Block(
                            head=head, query=query, first=section.start == 0, last=section.stop >= end,
                            keys=tuple(slice(section.start + c.start, section.start + c.stop) for c in chunks),
                            diagonal=causal and stop == end,
                        )
                    )  # fmt: skip
    return tuple(found)


@lru_cache(maxsize=8)
def steps(chunks: tuple[int, ...]) -> tuple[tuple[str, int, int], ...]:
    """What to do when, as (step, block, chunk), for blocks of so many chunks.

    Beside the ``scores`` of each chunk goes a chunk of the block before, whose maximum is known: its
    ``exponentials``, the ``turn`` of the chunk before that one, the ``values`` of the third before. So every engine
    has work in each turn that waits for nothing of the same turn, nor for what ends late in the one before.
    """
    order: list[tuple[str, int, int]] = []
    line = [(block, chunk) for block, count in enumerate(chunks) for chunk in range(count)]
    done = known = 0
    for block, count in enumerate(chunks):
        for chunk in range(count):
            order.append(("scores", block, chunk))
            if done < known:
                order += _behind(line, done)
                done += 1
        known += count
    for late in range(done, len(line) + 3):
        order += _behind(line, late)
    return tuple(order)


@lru_cache(maxsize=8)
def schedule(heads: int, queries: int, keys: int, causal: bool) -> tuple[tuple[str, Block, int], ...]:
    """The steps of all blocks, as (step, block, chunk)."""
    work = blocks(heads, queries, keys, causal)
    order = steps(tuple(len(block.keys) for block in work))
    return tuple((step, work[index], chunk) for step, index, chunk in order)


def _behind(line: list[tuple[int, int]], at: int) -> list[tuple[str, int, int]]:
    """The steps of the ``at``-th turn that follow scores."""
    found = (("exponentials", at), ("turn", at - 1), ("values", at - 3))
    return [(step, *line[place]) for step, place in found if 0 <= place < len(line)]


def on_scalar(generation: int, turn: int) -> bool:
    """Whether ScalarE takes the ``turn``-th copy of probabilities out of PSUM, so that it works as long as VectorE.

    All but on NeuronCore-v3, where it is every other one: on v2 the two engines take turns at PSUM anyway, and on v4
    exp is VectorE's.
    """
    return generation != 3 or turn % 2 > 0


@dataclass(frozen=True, kw_only=True)
class Unit:
    """One tile of queries against one block of keys."""

    head: int
    block: int
    query: int
    width: int
    """Keys of the block that the tile attends to."""
    diagonal: bool
    """The last 128 of them are on the diagonal."""
    first: bool
    """The first block of this tile of queries."""
    last: bool
    closes: bool
    """The last tile of queries of this block."""


@lru_cache(maxsize=8)
def units(heads: int, queries: int, keys: int, causal: bool) -> tuple[Unit, ...]:
    """All units: of each head by blocks of keys, of each block by tiles of queries."""
    found, tiles = [], queries // PARTITIONS
    for head in range(heads):
        for index, block in enumerate(parts(keys, BANK)):
            for query in range(tiles):
                end = reach(query, queries, keys, causal)
                if end > block.start:
                    found.append(
                        Unit(
                            head=head, block=index, query=query, width=min(end, block.stop) - block.start,
                            diagonal=causal and end <= block.stop, first=index == 0, last=end <= block.stop,
                            closes=query == tiles - 1,
                        )
                    )  # fmt: skip
    return tuple(found)


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """How the heads of all sequences are cut into passes, and their keys into blocks."""

    pairs: int
    """Heads of a pass, of whatever sequence."""
    tiles: int
    """Tiles of 128 keys of a block."""


@lru_cache
def sizes(rows: int, keys: int) -> Sizes:
    """A PSUM bank holds the scores of a block; a pass has at most 128 queries and, of several heads, 512 columns."""
    tiles = keys // PARTITIONS
    return Sizes(pairs=max(1, min(COLUMNS // (tiles * rows), PARTITIONS // rows)), tiles=min(RUN, BANK // rows, tiles))
