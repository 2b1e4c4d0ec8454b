"""Edges between named instructions."""

import pytest

from trainshed.chip.call import Call
from trainshed.chip.errors import NkiValidationError
from trainshed.chip.schedule import apply_schedule
from trainshed.chip.words import engine


def issue(name, reads=(), writes=()):
    return Call("touch", name).issue(engine.vector, tuple(reads), tuple(writes))


def test_edges_are_added_once(core, empty):
    x, y = empty((128, 8)), empty((128, 8))
    recip, plus = issue("recip", writes=[x]), issue("plus1", writes=[y])
    third = issue("third")
    apply_schedule([core], [("plus1", "recip"), ("third", ["recip", "plus1"])])
    apply_schedule([core], [("plus1", "recip")])
    assert plus.after == (recip.serial,)
    assert third.after == (recip.serial, plus.serial)


def test_independent_instructions_may_be_turned_around(core, empty):
    x = empty((128, 8))
    first, second = issue("a", writes=[x[:, 0:4]]), issue("b", writes=[x[:, 4:8]])
    apply_schedule([core], [("a", "b")])
    assert first.after == (second.serial,)


def test_a_consumer_never_waits_for_what_needs_it(core, empty):
    x, y, z = empty((128, 8)), empty((128, 8)), empty((128, 8))
    issue("a", writes=[x])
    issue(None, reads=[x], writes=[y])
    issue("b", reads=[y], writes=[z])
    with pytest.raises(NkiValidationError, match="with_schedule, a: must wait for 'b'") as error:
        apply_schedule([core], [("a", "b")])
    assert error.value.rule == "schedule"
    with pytest.raises(NkiValidationError):
        apply_schedule([core], [("a", "a")])


def test_an_unknown_name(core):
    issue("recip")
    with pytest.raises(
        NkiValidationError, match="with_schedule: name of an instruction: 'recipe'; expected one of recip"
    ):
        apply_schedule([core], [("recip", "recipe")])
