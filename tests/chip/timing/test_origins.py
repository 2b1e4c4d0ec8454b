"""Instructions grouped by line, opcode and engine."""

import numpy as np

from trainshed.chip.errors import Source
from trainshed.chip.record import Instruction
from trainshed.chip.timing.origins import Origin, origins
from trainshed.chip.words import engine


def item(serial, opcode, on, line):
    return Instruction(serial, 0, opcode, on, (), (), {}, {}, Source("k.py", line), None)


ITEMS = [
    item(0, "dma_copy", engine.dma, 3), item(1, "tensor_copy", engine.vector, 4), item(2, "dma_copy", engine.dma, 3),
    item(3, "tensor_copy", engine.scalar, 4), item(4, "dma_copy", engine.dma, 5),
]  # fmt: skip


def test_one_line_on_two_engines_is_two_origins():
    found = origins(ITEMS)
    assert found.names == (
        Origin("k.py:3", "dma_copy", "dma"), Origin("k.py:4", "tensor_copy", "vector"),
        Origin("k.py:4", "tensor_copy", "scalar"), Origin("k.py:5", "dma_copy", "dma"),
    )  # fmt: skip
    assert found.of.tolist() == [0, 1, 0, 2, 3]
    assert found.on("dma").tolist() == [0, 2, 4]
    assert found.engines == ("scalar", "dma", "vector")  # as nki.isa.engine counts them


def test_a_core_that_did_nothing():
    found = origins([])
    assert found.names == found.engines == ()
    assert np.array_equal(found.on("tensor"), [])
