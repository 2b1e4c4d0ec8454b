"""Sizes that the measured kernels take, and the one error they give for others."""

from __future__ import annotations

from typing import Any

from trainshed.core.errors import UserError

#: Partitions of SBUF and PSUM, and the rows of a stationary tile. Source: nki.language.tile_size, "pmax".
PARTITIONS = 128
#: Columns of a moving tile. Source: nki.language.tile_size, "gemm_moving_fmax".
MOVING = 512


def require(good: bool, kernel: str, what: str, value: object, expected: str) -> None:
    """One sentence for a shape that a kernel cannot take."""
    if not good:
        raise UserError(what, where=f"kernels.measured.{kernel}", value=value, expected=expected)


def multiple(kernel: str, what: str, value: int, of: int) -> int:
    """How many times ``of`` goes into ``value``, which it has to divide."""
    require(value > 0 and value % of == 0, kernel, what, value, f"a multiple of {of}")
    return value // of


def same(kernel: str, what: str, value: object, expected: object) -> None:
    """Two sizes or shapes that have to agree."""
    require(value == expected, kernel, what, value, f"{expected}")


def part(index: int, size: int) -> slice:
    """The ``index``-th run of ``size`` elements."""
    return slice(index * size, (index + 1) * size)


def fitted(cap: int, tiles: int) -> int:
    """The largest block of at most ``cap`` tiles that divides ``tiles``.

    The published block sizes are caps: at each shape the largest divisor not above the cap is taken.
    """
    if cap < 1 or tiles < 1:
        raise UserError(
            "block size", where="kernels.measured", value=(cap, tiles), expected="positive numbers of tiles"
        )
    return next(size for size in range(min(cap, tiles), 0, -1) if tiles % size == 0)


Tensor = Any
"""A tensor of a kernel (``trainshed.chip.tensor.NkiTensor``), whose views are untyped in NKI."""
