from dataclasses import dataclass

import pytest

from trainshed.chip.words import MemoryRegion, NKIObject, nc_version


@dataclass
class Decorated(NKIObject):
    x: int
    y: bool = False
    z = None

    def toggle(self):
        self.y = not self.y


class Plain(NKIObject):
    x: int
    y: bool = False

    def __post_init__(self):
        self.twice = 2 * (self.x or 0)


class Own(NKIObject):
    x: int = 1

    def __init__(self, x):
        self.x = x + 1


def test_a_decorated_class_takes_every_attribute_as_a_field_and_none_for_what_is_missing():
    made = Decorated(1, z=3)
    made.toggle()
    assert (made.x, made.y, made.z) == (1, True, 3)
    assert (Decorated().x, Decorated().y) == (None, False)
    assert Decorated(1) == Decorated(1)


def test_a_plain_class_does_the_same_and_calls_post_init():
    assert (Plain(4).x, Plain(4).y, Plain(4).twice) == (4, False, 8)
    assert Plain(x=5, y=True).y is True
    with pytest.raises(TypeError, match="2 fields"):
        Plain(1, True, 3)


def test_a_class_with_its_own_initialiser_keeps_it():
    assert Own(1).x == 2


def test_generations_compare_and_memories_are_words():
    assert nc_version.gen4 >= nc_version.gen3
    assert MemoryRegion.sbuf == "sbuf"
    assert MemoryRegion.psum.on_chip
    assert not MemoryRegion.shared_hbm.on_chip
