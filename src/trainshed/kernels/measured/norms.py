"""Norms at decode and norms with quantised rows, as AWS's library has them as targets; kernels of our own.

Source of what lies where: nki-library, ``layernorm_tkg`` (hidden over partitions, sums by TensorE) and
``rmsnorm_quant`` (a row in each partition). On two cores each takes half of the rows.
"""

from __future__ import annotations

import trainshed.nki as nki
import trainshed.nki.isa as nisa
import trainshed.nki.language as nl
from trainshed.kernels.measured.rowwise import EPSILON, epsilon_of
from trainshed.kernels.measured.shapes import PARTITIONS, Tensor, multiple, require, same

#: Largest value of float8_e4m3, which scales map the largest of a row to. Source: ``numerics.formats``.
LARGEST = 240.0


def _own(rows: int) -> slice:
    """This core's rows; the first takes the odd one."""
    core, cores = nl.program_id(0), nl.num_programs(0)
    each = -(-rows // cores)
    return slice(min(core * each, rows), min((core + 1) * each, rows))


def _sbuf(shape: tuple[int, ...], dtype: object = nl.float32) -> Tensor:
    return nl.ndarray(shape, dtype=dtype, buffer=nl.sbuf)


@nki.jit
def layernorm_decode(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """LayerNorm of ``x`` [tokens, hidden], few tokens; ``weight`` and ``bias`` [1, hidden].

    Partition p has hidden elements p * hidden / 128 and on of every token, so that one token fills the engines.
    """
    tokens, hidden = x.shape
    width = multiple("norms.layernorm_decode", "hidden", hidden, PARTITIONS)
    for name, one in (("weight", weight), ("bias", bias)):
        same("norms.layernorm_decode", f"shape of {name}", tuple(one.shape), (1, hidden))
    result = nl.ndarray(x.shape, dtype=x.dtype, buffer=nl.shared_hbm)
    mine = _own(tokens)
    count = mine.stop - mine.start
    if not count:
        return result
    across = [[width, PARTITIONS], [hidden, count], [1, width]]
    data = _sbuf((PARTITIONS, count, width), x.dtype)
    nisa.dma_copy(dst=data, src=x.ap(pattern=across, offset=mine.start * hidden))
    factors = [_sbuf((PARTITIONS, width), one.dtype) for one in (weight, bias)]
    for tile, one in zip(factors, (weight, bias), strict=True):
        nisa.dma_copy(dst=tile, src=one.reshape((PARTITIONS, width)))
    mean, scale = _moments(data, hidden)
    centred, normed, out = (_sbuf(data.shape, kind) for kind in (nl.float32, nl.float32, x.dtype))
    nisa.tensor_tensor(dst=centred, data1=data, data2=_along(mean, width), op=nl.subtract)
    nisa.tensor_tensor(dst=normed, data1=centred, data2=_along(scale, width), op=nl.multiply)
    nisa.tensor_tensor(dst=centred, data1=normed, data2=_each(factors[0], count), op=nl.multiply)
    nisa.tensor_tensor(dst=out, data1=centred, data2=_each(factors[1], count), op=nl.add)
    nisa.dma_copy(dst=result.ap(pattern=across, offset=mine.start * hidden), src=out)
    return result


def _along(column: Tensor, width: int) -> Tensor:
    """[128, tokens] as often as a token has elements."""
    return column.expand_dim(2).broadcast(2, width)


def _each(row: Tensor, tokens: int) -> Tensor:
    """[128, width] for every token."""
    return row.expand_dim(1).broadcast(1, tokens)


def _moments(data: Tensor, hidden: int) -> tuple[Tensor, Tensor]:
    """Mean and 1 / sqrt(variance + ε) of each token, [128, tokens], the same in every partition."""
    _, tokens, _ = data.shape
    squares, sums = _sbuf(data.shape), _sbuf((PARTITIONS, 2, tokens))
    nisa.activation(dst=squares, op=nl.square, data=data)
    nisa.tensor_reduce(dst=sums[:, 0, :], op=nl.add, data=data, axis=2)
    nisa.tensor_reduce(dst=sums[:, 1, :], op=nl.add, data=squares, axis=2)
    share, totals = _sbuf((PARTITIONS, PARTITIONS)), nl.ndarray(sums.shape, dtype=nl.float32, buffer=nl.psum)
    nisa.memset(dst=share, value=1.0 / hidden)
    nisa.nc_matmul(dst=totals, stationary=share, moving=sums)
    means = _sbuf(sums.shape)
    nisa.tensor_copy(dst=means, src=totals)
    squared, variance, scale = (_sbuf((PARTITIONS, tokens)) for _ in range(3))
    nisa.tensor_tensor(dst=squared, data1=means[:, 0, :], data2=means[:, 0, :], op=nl.multiply)
    nisa.tensor_tensor(dst=variance, data1=means[:, 1, :], data2=squared, op=nl.subtract)
    nisa.activation(dst=scale, op=nl.rsqrt, data=variance, bias=epsilon_of(PARTITIONS))
    return means[:, 0, :], scale


@nki.jit
def rmsnorm_quant(x: Tensor, weight: Tensor, bound: float = 0.0) -> tuple[Tensor, Tensor]:
    """``x`` [rows, columns] normed as ``rowwise.rmsnorm`` does, then as :func:`quant`."""
    same("norms.rmsnorm_quant", "shape of weight", tuple(weight.shape), (1, x.shape[1]))
    return _quantised("norms.rmsnorm_quant", x, weight, bound)


@nki.jit
def quant(x: Tensor, bound: float = 0.0) -> tuple[Tensor, Tensor]:
    """``x`` in fp8 and the float32 scale of each row, [rows, columns] and [rows, 1]: value = fp8 * scale.

    With a ``bound`` values are clipped to it first.
    """
    return _quantised("norms.quant", x, None, bound)


def _quantised(kernel: str, x: Tensor, weight: Tensor | None, bound: float) -> tuple[Tensor, Tensor]:
    require(len(x.shape) == 2, kernel, "dimensions of x", len(x.shape), "2")
    require(bound >= 0, kernel, "bound", bound, "0 (none) or more")
    columns = x.shape[1]
    out = nl.ndarray(x.shape, dtype=nl.float8_e4m3, buffer=nl.shared_hbm)
    scales = nl.ndarray((x.shape[0], 1), dtype=nl.float32, buffer=nl.shared_hbm)
    mine, weights = _own(x.shape[0]), None
    for first in range(mine.start, mine.stop, PARTITIONS):
        rows = slice(first, min(first + PARTITIONS, mine.stop))
        data = _sbuf((rows.stop - rows.start, columns), x.dtype)
        nisa.dma_copy(dst=data, src=x[rows, :])
        if weight is not None:
            if weights is None:
                weights = _sbuf(data.shape, weight.dtype)
                nisa.dma_copy(dst=weights, src=weight.broadcast(0, data.shape[0]))
            data = _normed(data, weights[0 : data.shape[0], :])
        if bound:
            clipped = _sbuf(data.shape, data.dtype)
            nisa.tensor_scalar(dst=clipped, data=data, op0=nl.minimum, operand0=bound, op1=nl.maximum, operand1=-bound)
            data = clipped
        _stored(out, scales, rows, data)
    return out, scales


def _normed(data: Tensor, weights: Tensor) -> Tensor:
    squares, total, scale = _sbuf(data.shape, data.dtype), _sbuf((data.shape[0], 1)), _sbuf((data.shape[0], 1))
    nisa.activation_reduce(dst=squares, op=nl.square, data=data, reduce_op=nl.add, reduce_res=total)
    nisa.activation(dst=scale, op=nl.rsqrt, data=total, scale=1.0 / data.shape[1], bias=epsilon_of(data.shape[0]))
    normed = _sbuf(data.shape, data.dtype)
    nisa.scalar_tensor_tensor(dst=normed, data=data, op0=nl.multiply, operand0=scale, op1=nl.multiply, operand1=weights)
    return normed


def _stored(out: Tensor, scales: Tensor, rows: slice, data: Tensor) -> None:
    """The largest of each row becomes the largest of fp8."""
    height = data.shape[0]
    most, scale, inverse = _sbuf((height, 1)), _sbuf((height, 1)), _sbuf((height, 1))
    nisa.tensor_scalar_reduce(
        dst=_sbuf(data.shape, data.dtype), data=data, op0=nl.abs, operand0=None, reduce_op=nl.maximum, reduce_res=most
    )
    nisa.tensor_scalar(
        dst=scale, data=most, op0=nl.multiply, operand0=1.0 / LARGEST, op1=nl.maximum, operand1=EPSILON / LARGEST
    )
    nisa.reciprocal(dst=inverse, data=scale)
    made = _sbuf(data.shape, out.dtype)
    nisa.tensor_scalar(dst=made, data=data, op0=nl.multiply, operand0=inverse)
    nisa.dma_copy(dst=out[rows, :], src=made)
    nisa.dma_copy(dst=scales[rows, :], src=scale)
