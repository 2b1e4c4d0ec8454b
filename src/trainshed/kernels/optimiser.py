"""The optimiser step: AdamW on bf16 weights with float32 master weights and moments."""

from __future__ import annotations

import numpy as np

import trainshed.nki as nki
import trainshed.nki.isa as nisa
import trainshed.nki.language as nl
from trainshed.core.errors import UserError
from trainshed.kernels.common import PARTITIONS, Tensor, flat, loaded, loaded_run, require, runs, sbuf

#: Elements of each partition in a block: 4 KiB of float32.
COLUMNS = 1024


def step_rates(
    step: int, learning_rate: float, *, beta1: float = 0.9, beta2: float = 0.95, decay: float = 0.1
) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
    """What of AdamW changes from step to step, as the kernel's ``rates`` [1, 3]; steps count from 1.

    The learning rate over the bias correction of the first moment, what decay leaves of a weight, and one over the
    bias correction of the second moment.
    """
    if step < 1:
        raise UserError("step", where="kernels.optimiser", value=step, expected="at least 1")
    first, second = 1 - beta1**step, 1 - beta2**step
    return np.array([[learning_rate / first, 1 - learning_rate * decay, 1 / second]], np.float32)


@nki.jit
def adamw(
    master: Tensor, gradient: Tensor, first: Tensor, second: Tensor, rates: Tensor, beta1: float = 0.9,
    beta2: float = 0.95, epsilon: float = 1e-8,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    """One step: new master weights, both moments (float32) and the weights in the gradient's dtype, all of one shape.

    Args:
        master: float32 weights, any shape.
        gradient: their gradient, bf16 or float32.
        first: float32 running mean of the gradient.
        second: float32 running mean of its square.
        rates: float32 [1, 3], see :func:`step_rates`; in HBM, so that a kernel serves every step.
        beta1: how much of ``first`` stays.
        beta2: how much of ``second`` stays.
        epsilon: added to the root of the second moment.

    VectorE makes five passes, GpSimdE takes the root and the quotient, ScalarE scales the gradient and rounds weights.
    """
    shape = tuple(master.shape)
    require(tuple(gradient.shape) == shape, "optimiser.adamw", "shape of gradient", tuple(gradient.shape), str(shape))
    require(tuple(first.shape) == shape, "optimiser.adamw", "shape of first", tuple(first.shape), str(shape))
    require(tuple(second.shape) == shape, "optimiser.adamw", "shape of second", tuple(second.shape), str(shape))
    require(tuple(rates.shape) == (1, 3), "optimiser.adamw", "shape of rates", tuple(rates.shape), "(1, 3)")
    outputs: list[Tensor] = []
    for dtype in (nl.float32, nl.float32, nl.float32, gradient.dtype):
        outputs.append(nl.ndarray(master.shape, dtype=dtype, buffer=nl.shared_hbm))
    factors = loaded(rates.broadcast(0, PARTITIONS))
    for run in runs(master, COLUMNS):
        g, mean, square = loaded_run(gradient, run), loaded_run(first, run), loaded_run(second, run)
        mean, square = _moments(g, mean, square, beta1, beta2)
        inverse = _inverse(square, factors[0 : run[1], 2:3], epsilon)
        weight = _stepped(loaded_run(master, run), mean, inverse, factors[0 : run[1], :])
        narrow = sbuf(run[1:], gradient.dtype)
        nisa.activation(dst=narrow, op=nl.copy, data=weight)
        results = (weight, mean, square, narrow)
        for at in nl.affine_range(4):
            nisa.dma_copy(dst=flat(outputs[at], run), src=results[at])
    return outputs[0], outputs[1], outputs[2], outputs[3]


def _moments(g: Tensor, mean: Tensor, square: Tensor, beta1: float, beta2: float) -> tuple[Tensor, Tensor]:
    """The running means of the gradient and of its square."""
    share, squared = sbuf(g.shape, nl.float32), sbuf(g.shape, nl.float32)
    new_mean, new_square = sbuf(g.shape, nl.float32), sbuf(g.shape, nl.float32)
    nisa.activation(dst=share, op=nl.copy, data=g, scale=1 - beta1)
    nisa.scalar_tensor_tensor(dst=squared, data=g, op0=nl.multiply, operand0=1 - beta2, op1=nl.multiply, operand1=g)
    nisa.scalar_tensor_tensor(
        dst=new_square, data=square, op0=nl.multiply, operand0=beta2, op1=nl.add, operand1=squared
    )
    nisa.scalar_tensor_tensor(dst=new_mean, data=mean, op0=nl.multiply, operand0=beta1, op1=nl.add, operand1=share)
    return new_mean, new_square


def _inverse(square: Tensor, correction: Tensor, epsilon: float) -> Tensor:
    """``1 / (sqrt(square * correction) + epsilon)``."""
    root, inverse = sbuf(square.shape, nl.float32), sbuf(square.shape, nl.float32)
    nisa.tensor_scalar(
        dst=root, data=square, op0=nl.multiply, operand0=correction, op1=nl.power, operand1=0.5,
        engine=nisa.gpsimd_engine,
    )  # fmt: skip
    nisa.tensor_scalar(
        dst=inverse, data=root, op0=nl.add, operand0=epsilon, op1=nl.power, operand1=-1.0, engine=nisa.gpsimd_engine
    )
    return inverse


def _stepped(weight: Tensor, mean: Tensor, inverse: Tensor, factors: Tensor) -> Tensor:
    """``weight * kept - mean * rate * inverse``."""
    change, new = sbuf(weight.shape, nl.float32), sbuf(weight.shape, nl.float32)
    nisa.scalar_tensor_tensor(
        dst=change, data=mean, op0=nl.multiply, operand0=factors[:, 0:1], op1=nl.multiply, operand1=inverse
    )
    nisa.scalar_tensor_tensor(
        dst=new, data=weight, op0=nl.multiply, operand0=factors[:, 1:2], op1=nl.subtract, operand1=change
    )
    return new
