"""SwiGLU MLP in one kernel: gate, up, silu, product and down, nothing of it in HBM between.

Weights are the stationary operand of gate and up, so that their product has the hidden features on partitions, as
down wants them: nothing is turned. Rows of x pass in blocks of up to 512, as many as find room beside their hidden
features; every block reads the weights once. Contraction over the features of x is in an order of its own (partition
p has a run of them), so that x and gate and up come in long rows whatever their number.
"""

from __future__ import annotations

from typing import Any

import trainshed.nki as nki
import trainshed.nki.isa as nisa
import trainshed.nki.language as nl
from trainshed.kernels.attention_tiles import BANK, bank, copied, dimensions, multiple, parts, result, same
from trainshed.kernels.common import PARTITIONS, Tensor, loaded, require, sbuf

#: Bytes of each partition for a block's x and hidden features and two tiles of gate and up.
ROOM = 160 << 10
#: Tiles of down that one DMA loads.
DOWN = 4


def block_rows(rows: int, features: int, hidden: int, itemsize: int) -> int:
    """Rows of a block, of as few blocks as can be, as equal as whole tiles of 128 allow; 0: there is no room."""
    held = (features + hidden) // PARTITIONS * itemsize
    room = (ROOM - 2 * 2 * features * itemsize) // held
    most = min(BANK, room // PARTITIONS * PARTITIONS)
    if most < PARTITIONS:
        return 0
    each = -(-rows // -(-rows // most))
    return each if each <= PARTITIONS else -(-each // PARTITIONS) * PARTITIONS


def down_columns(rows: int) -> int:
    """Columns of the result that add up in PSUM together: eight banks for 256 rows and more."""
    return 4 * BANK if rows <= 2 * PARTITIONS else 2 * BANK


@nki.jit
def swiglu(xT: Tensor, gate_up: Tensor, down: Tensor) -> Tensor:
    """``(silu(x · gate) * (x · up)) · down``.

    Args:
        xT: [features, rows]: any number of rows.
        gate_up: [hidden / 128, 128, 2, features / 128, 128]: row ``p * features / 128 + k`` and column ``i * 128 + c``
            of gate (0) or up (1) at [i, p, 0 or 1, k, c].
        down: [hidden, features].

    Features and hidden features are multiples of 128; weights may be narrower than x.

    Returns:
        y [rows, features].
    """
    name = "mlp.swiglu"
    features, rows = dimensions(name, "xT", xT, 2)
    dimensions(name, "down", down, 2)
    hidden = check_weights(name, features, tuple(gate_up.shape), tuple(down.shape))
    size = block_rows(rows, features, hidden, xT.itemsize)
    require(size > 0, name, "features and hidden features", (features, hidden), "fewer: 128 rows of both in SBUF")
    out = result((rows, features), xT.dtype)
    steps = features // PARTITIONS
    for block in parts(rows, size):
        x = loaded(xT.reshape((PARTITIONS, steps, rows))[:, :, block])
        layers(x, gate_up, down, Store(out, block.start))
    return out


def check_weights(name: str, features: int, gate_up: tuple[int, ...], down: tuple[int, ...]) -> int:
    """The hidden features, once the shapes of one expert's weights agree."""
    steps = multiple(name, "features", features, PARTITIONS)
    tiles = multiple(name, "hidden features of down", down[0], PARTITIONS)
    same(name, "shape of gate_up", gate_up, (tiles, PARTITIONS, 2, steps, PARTITIONS))
    same(name, "shape of down", down, (down[0], features))
    return down[0]


def layers(x: Tensor, gate_up: Tensor, down: Tensor, out: Any) -> None:
    """All layers of x [128, features / 128, rows] in SBUF, rows at most 512.

    ``out.take(rows, columns, product)`` gets the result piece by piece, in PSUM.
    """
    rows = x.shape[2]
    held = []
    for index in range(gate_up.shape[0]):
        held.append(_hidden(x, gate_up[index]))
    tiles = parts(rows, PARTITIONS)
    for columns in parts(down.shape[1], down_columns(rows)):
        width = columns.stop - columns.start
        products = []
        for part in tiles:
            products.append(bank(part.stop - part.start, width))
        for group in parts(len(held), DOWN):
            weights = _down(down, group, columns)
            for index in range(group.start, group.stop):
                for place in range(len(tiles)):
                    for piece in parts(width, BANK):
                        nisa.nc_matmul(
                            dst=products[place][:, piece], stationary=held[index][:, tiles[place]],
                            moving=weights[:, index - group.start, piece], accumulate=index > 0,
                        )  # fmt: skip
        for place in range(len(tiles)):
            out.take(tiles[place], columns, products[place])


def _hidden(x: Tensor, gate_up: Tensor) -> Tensor:
    """silu(gate) * up of 128 hidden features, which are on partitions."""
    weights = loaded(gate_up)
    gate = _product(x, weights[:, 0, :, :])
    up = _product(x, weights[:, 1, :, :])
    active = sbuf(gate.shape, nl.float32)
    nisa.activation(dst=active, op=nl.silu, data=gate)
    made = sbuf(gate.shape, x.dtype)
    nisa.tensor_tensor(dst=made, data1=active, data2=up, op=nl.multiply)
    return made


def _product(x: Tensor, weights: Tensor) -> Tensor:
    """x · weights, hidden features on partitions."""
    product = bank(PARTITIONS, x.shape[2])
    for step in range(x.shape[1]):
        nisa.nc_matmul(dst=product, stationary=weights[:, step, :], moving=x[:, step, :], accumulate=step > 0)
    return product


def _down(down: Tensor, group: slice, columns: slice) -> Tensor:
    """Some tiles of down, [128, tiles, columns]."""
    rows = down[group.start * PARTITIONS : group.stop * PARTITIONS, columns]
    return loaded(rows.reshape_dim(0, (group.stop - group.start, PARTITIONS)).permute((1, 0, 2)))


class Store(nl.NKIObject):
    """Stores pieces of a result below a first row; VectorE and ScalarE take them out of PSUM bank by bank."""

    def __init__(self, out: Tensor, first: int) -> None:
        self.out = out
        self.first = first

    def take(self, rows: slice, columns: slice, product: Tensor) -> None:
        """One piece."""
        ready = sbuf(product.shape, self.out.dtype)
        for piece in parts(product.shape[1], BANK):
            copied(ready[:, piece], product[:, piece], scalar=piece.start // BANK % 2 > 0)
        nisa.dma_copy(dst=self.out[self.first + rows.start : self.first + rows.stop, columns], src=ready)
