"""Names spelled when asked for."""

from __future__ import annotations

import pytest

from trainshed.fabric.network.names import Block, Names

NAMES = Names([Block(3, "chip"), Block(4, "rack", "plane", 2), Block(2, "plane 0 leaf")])


def test_spelling_and_finding_are_inverse() -> None:
    assert list(NAMES) == [
        "chip 0", "chip 1", "chip 2", "rack 0 plane 0", "rack 0 plane 1", "rack 1 plane 0", "rack 1 plane 1",
        "plane 0 leaf 0", "plane 0 leaf 1",
    ]  # fmt: skip
    assert [NAMES.index(name) for name in NAMES] == list(range(len(NAMES)))
    assert NAMES[-1] == "plane 0 leaf 1"
    assert NAMES[1:4] == ["chip 1", "chip 2", "rack 0 plane 0"]


@pytest.mark.parametrize(
    "name", ["chip 3", "chip -1", "chip", "chip 01", "rack 2 plane 0", "rack 0 plane 2", "", "leaf"]
)
def test_what_is_not_there(name: str) -> None:
    assert name not in NAMES
    with pytest.raises(ValueError, match="not in the network"):
        NAMES.index(name)


def test_past_the_end() -> None:
    with pytest.raises(IndexError):
        NAMES[9]
