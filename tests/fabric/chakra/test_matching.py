"""Which nodes of different ranks belong together."""

from __future__ import annotations

import pytest

from trainshed.core import UserError
from trainshed.fabric.chakra import Builder, Call, schema
from trainshed.fabric.chakra.matching import match, program

REDUCE, GATHER = Call(kind="all_reduce"), Call(kind="all_gather")


def test_order_is_by_id_where_dependencies_allow_it() -> None:
    made = Builder(name="t", ranks=2)
    made.add(0, schema.COMPUTE, "late", [2], id=1)
    made.add(0, schema.COMPUTE, "third", id=7)
    made.add(0, schema.COMPUTE, "second", id=5)
    made.add(0, schema.COMPUTE, "first", id=0)
    made.add(1, schema.COMPUTE, "b", id=3)
    made.add(1, schema.COMPUTE, "a", id=2)
    assert program(made.trace()).tolist() == [2, 3, 1, 0, 5, 4]


def test_the_kth_call_of_each_member_is_one_collective() -> None:
    made = Builder(name="t", ranks=3)
    two, every = made.group([0, 1]), made.group(range(3))
    for rank in range(3):
        made.collective(rank, "x", REDUCE, 8.0, every)
        if rank < 2:
            made.collective(rank, "y", GATHER, 16.0, two)
        made.collective(rank, "z", REDUCE, 8.0, every)
    found = match(made.trace())
    # rank 0: x y z, rank 1: x y z, rank 2: x z
    x, y, z = found.meeting[:3]
    assert found.meeting.tolist() == [x, y, z, x, y, z, x, z]
    assert found.members[[x, y, z]].tolist() == [3, 2, 3]


def test_messages_match_by_ranks_and_tag_in_order() -> None:
    made = Builder(name="t", ranks=2)
    sends = [made.send(0, "s", size, 1, tag) for size, tag in ((1.0, 5), (2.0, 6), (3.0, 5))]
    receives = [made.receive(1, "r", size, 0, tag) for size, tag in ((2.0, 6), (1.0, 5), (3.0, 5))]
    partner = match(made.trace()).partner
    assert partner[sends].tolist() == [receives[1], receives[0], receives[2]]
    assert partner[receives].tolist() == [sends[1], sends[0], sends[2]]


def _cycle(made: Builder) -> None:
    for k, parent in enumerate((3, 0, 1, 2)):
        made.add(0, schema.COMPUTE, "n", [parent], id=10 + k)


def _own(made: Builder) -> None:
    made.add(0, schema.COMPUTE, "n", [0])


def _alone(made: Builder) -> None:
    made.collective(0, "x", REDUCE, 8.0, made.group(range(2)))


def _unlike(made: Builder) -> None:
    for rank in range(2):
        made.collective(rank, "x", REDUCE if rank else GATHER, 8.0, made.group(range(2)))


def _sizes(made: Builder) -> None:
    for rank in range(2):
        made.collective(rank, "x", REDUCE, 8.0 + rank, made.group(range(2)))


def _unsent(made: Builder) -> None:
    made.receive(0, "r", 8.0, 1, 3)


def _unreceived(made: Builder) -> None:
    made.send(0, "s", 8.0, 1, 3)


def _two_sizes(made: Builder) -> None:
    made.send(0, "s", 8.0, 1, 3)
    made.receive(1, "r", 9.0, 0, 3)


@pytest.mark.parametrize(
    ("fill", "message"),
    [
        (_cycle, r"t\.0\.et: node 1\d \(n, COMP_NODE\): nodes that wait for each other: '.*10 -> 11.*'"),
        (_own, "wait for each other: '0 -> 0'"),
        (_alone, r"t\.0\.et: node 0 \(x, COMM_COLL_NODE\): a collective that not all .*: 'rank 1 is missing'"),
        (_unlike, r"t\.1\.et: node 0 .* call differently: 'all_reduce of 8 bytes'; expected all_gather of 8 bytes"),
        (_sizes, "'all_reduce of 9 bytes'; expected all_reduce of 8 bytes"),
        (_unsent, "a message without its send: 'tag 3'; expected a send of rank 1"),
        (_unreceived, "a message without its receive"),
        (_two_sizes, r"t\.1\.et: node 0 .*a message of two sizes: 9\.0; expected 8 bytes"),
    ],
)  # fmt: skip
def test_what_does_not_match_is_one_sentence(fill: object, message: str) -> None:
    made = Builder(name="t", ranks=2)
    fill(made)  # type: ignore[operator]
    with pytest.raises(UserError, match=message):
        match(made.trace())
