"""What attention, MLP and MoE kernels share: checks of shapes, PSUM tiles, masks, copies of either engine."""

from __future__ import annotations

import math
from typing import Any

import trainshed.nki.isa as nisa
import trainshed.nki.language as nl
from trainshed.kernels.common import PARTITIONS, Tensor, require, sbuf

#: Columns of a matmul, and float32 of a PSUM bank. Source: nki.language.tile_size, "gemm_moving_fmax".
BANK = 512
#: What masked scores get: a bfloat16 that no score outweighs.
HIDDEN = -1e30


def multiple(kernel: str, what: str, value: int, of: int) -> int:
    """How many times ``of`` goes into ``value``, which it has to divide."""
    require(value > 0 and value % of == 0, kernel, what, value, f"a multiple of {of}")
    return value // of


def same(kernel: str, what: str, value: object, expected: object) -> None:
    """Two sizes or shapes that have to agree."""
    require(value == expected, kernel, what, value, f"{expected}")


def dimensions(kernel: str, what: str, tensor: Tensor, count: int) -> tuple[int, ...]:
    """The shape of a tensor of so many dimensions."""
    require(len(tensor.shape) == count, kernel, f"dimensions of {what}", len(tensor.shape), f"{count}")
    return tuple(tensor.shape)


def parts(size: int, most: int) -> list[slice]:
    """Runs of at most ``most`` that cover ``size``."""
    return [slice(start, min(start + most, size)) for start in range(0, size, most)]


def bank(rows: int, columns: int, dtype: Any = nl.float32) -> Tensor:
    """A new PSUM tile: one bank, or several side by side."""
    return nl.ndarray((rows, columns), dtype=dtype, buffer=nl.psum)


def result(shape: tuple[int, ...], dtype: Any) -> Tensor:
    """A tensor that the kernel returns."""
    return nl.ndarray(shape, dtype=dtype, buffer=nl.shared_hbm)


def older() -> bool:
    """NeuronCore-v2, whose ScalarE has no plain copies."""
    return nisa.get_nc_version() < nisa.nc_version.gen3


def copied(dst: Tensor, src: Tensor, scalar: bool) -> None:
    """A copy on VectorE or on ScalarE, whatever the generation."""
    if not scalar:
        nisa.tensor_copy(dst=dst, src=src, engine=nisa.engine.vector)
    elif older():
        nisa.activation(dst=dst, op=nl.copy, data=src)
    else:
        nisa.tensor_copy(dst=dst, src=src, engine=nisa.engine.scalar)


def identity(dtype: Any) -> Tensor:
    """Ones on the diagonal, for TensorE to add what moves to PSUM as it is."""
    ones = sbuf((PARTITIONS, PARTITIONS), dtype)
    nisa.memset(dst=ones, value=1.0)
    return kept(ones, nl.equal, 0.0)


def above_diagonal(dtype: Any) -> Tensor:
    """``HIDDEN`` where the column is past the row, else 0."""
    zeros = sbuf((PARTITIONS, PARTITIONS), dtype)
    nisa.memset(dst=zeros, value=0.0)
    return kept(zeros, nl.greater_equal, HIDDEN)


def kept(data: Tensor, compare: Any, otherwise: float) -> Tensor:
    """``data`` where row - column compares with 0."""
    made = sbuf(data.shape, data.dtype)
    nisa.affine_select(
        dst=made, pattern=[[-1, data.shape[1]]], channel_multiplier=1, on_true_tile=data, on_false_value=otherwise,
        cmp_op=compare,
    )  # fmt: skip
    return made


def ready_for_exp() -> None:
    """ScalarE has its table of exp, loaded while the first operands are."""
    one = sbuf((PARTITIONS, 1), nl.float32)
    nisa.memset(dst=one, value=0.0)
    nisa.activation(dst=one, op=nl.exp, data=one)


def softmax_scale(scale: float | None, dim: int) -> float:
    """The factor of the scores: 1/√d unless given."""
    return 1.0 / math.sqrt(dim) if scale is None else float(scale)
