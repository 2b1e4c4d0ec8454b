"""Random tiles. Source: ``nki.language.rand``, ``random_seed``, ``dropout``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from trainshed.chip.core import active
from trainshed.chip.errors import violation
from trainshed.chip.isa.dma import dma_copy
from trainshed.chip.isa.move import tensor_copy
from trainshed.chip.isa.random import dropout as instruction
from trainshed.chip.isa.random import rand2, rng, set_rng_seed
from trainshed.chip.isa.vector import tensor_scalar
from trainshed.chip.tensor import NkiTensor, as_dtype
from trainshed.chip.words import nc_version
from trainshed.nki.language.creation import ndarray, sbuf
from trainshed.nki.language.elementwise import multiply, on_chip, right_shift


def rand(shape: Sequence[int], dtype: Any, buffer: Any = sbuf, name: str = "") -> NkiTensor:
    """A new tensor of uniform numbers in [0, 1): by ``rand2`` on NeuronCore-v4, from ``rng``'s upper 24 bits before."""
    tensor = ndarray(shape, dtype, buffer, name)
    tile = tensor if tensor.buffer.on_chip else ndarray(shape, dtype, sbuf)
    if active().version >= nc_version.gen4:
        rand2(tile, 0.0, 1.0)
    else:
        bits = ndarray(tile.shape, "uint32", sbuf)
        rng(bits)
        upper = ndarray(tile.shape, "uint32", sbuf)
        tensor_scalar(upper, bits, right_shift, 8)
        tensor_scalar(tile, upper, multiply, 2.0**-24)
    if tile is not tensor:
        dma_copy(tensor, tile)
    return tensor


def random_seed(seed: NkiTensor) -> None:
    """Seed ``rand`` and ``dropout`` with a ``[1, 1]`` tile of 32 bits."""
    set_rng_seed(seed)


def dropout(x: NkiTensor, rate: Any, dtype: Any = None) -> NkiTensor:
    """``x`` with elements replaced by 0 with probability ``rate``, a number or a ``(partitions, 1)`` tile."""
    if not isinstance(x, NkiTensor):
        raise violation("dropout", "x", "operand", value=type(x).__name__, expected="a tile", rule="operand")
    on_chip("dropout", x)
    tile = ndarray(x.shape, x.dtype, sbuf)
    instruction(tile, x, rate)
    if dtype is None or as_dtype(dtype, "dropout") == x.dtype:
        return tile
    cast = ndarray(x.shape, dtype, sbuf)
    tensor_copy(cast, tile)
    return cast
