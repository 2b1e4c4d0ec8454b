"""Records: what ``depends_on`` takes."""

import pytest

from trainshed.chip.core import Options, enter, target
from trainshed.chip.errors import NkiValidationError
from trainshed.chip.isa.move import memset
from trainshed.chip.launch import Launch
from trainshed.chip.words import MemoryRegion
from trainshed.numerics.formats import DType


@pytest.fixture
def cores():
    """Two instructions of each of two cores."""
    launch = Launch(target("trn2"), Options(values=False), 2)

    def kernel(core):
        tile = core.allocate((1, 8), DType("float32"), MemoryRegion.sbuf)
        return memset(tile, 0.0), memset(tile, 1.0)

    yield launch.run(kernel)
    enter(None)


def test_producers_are_kept_and_calls_chain(cores):
    (a, b), _ = cores
    assert b.depends_on(a) is b
    assert b.after == (a.serial,)
    assert b.depends_on().after == (a.serial,)


@pytest.mark.parametrize("choose", [
    lambda cores: 3, lambda cores: None, lambda cores: [cores[0][0]], lambda cores: cores[0][1],
    lambda cores: cores[1][0],
])  # fmt: skip
def test_a_producer_is_another_instruction_of_the_core(cores, choose):
    consumer = cores[0][1]
    with pytest.raises(NkiValidationError, match=r"test_record\.py:\d+: depends_on: producer of memset on core 0: .*; "
                       "expected another instruction of this core") as caught:  # fmt: skip
        consumer.depends_on(choose(cores))
    assert caught.value.rule == "depends-on"
    assert consumer.after == ()
