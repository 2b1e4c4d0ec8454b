"""The state-space scan of a Mamba layer, in the steps of AWS's tutorial on fusing it.

``delta`` and ``u`` are [channels, sequence], ``A`` [channels, state], ``B`` and ``C`` [state, sequence]; the result is
[channels, sequence]. For each channel, with h = 0 before the first element:

    h[s] = exp(delta * A[s]) * h[s] + delta * u * B[s];   y = sum over s of C[s] * h[s]

Channels lie in partitions. ScalarE takes exponentials, TensorE brings rows of B and C to every partition, VectorE
does the rest: four products or sums and a scan for each state.

Source of the steps and of the loop orders: NKI tutorial "Fused Mamba", versions 2 and 3.
"""

from __future__ import annotations

import trainshed.nki as nki
import trainshed.nki.isa as nisa
import trainshed.nki.language as nl
from trainshed.kernels.measured.shapes import MOVING, PARTITIONS, Tensor, multiple, part, require, same

#: Elements of the sequence that version 3 takes at a time. Source: the tutorial.
SEQUENCE_TILE = 512
#: Longest run of the sequence taken at a time: a row of float32 fills PSUM.
LONGEST = 4096


@nki.jit
def reordered(delta: Tensor, u: Tensor, A: Tensor, B: Tensor, C: Tensor) -> Tensor:
    """Version 2: ``delta`` and ``u`` are loaded once for all states; the whole sequence at a time."""
    return _scanned("mamba.reordered", (delta, u, A, B, C), delta.shape[1])


@nki.jit
def sequence_tiled(delta: Tensor, u: Tensor, A: Tensor, B: Tensor, C: Tensor) -> Tensor:
    """Version 3: besides, 512 elements of the sequence at a time, so that what is in between stays in SBUF."""
    return _scanned("mamba.sequence_tiled", (delta, u, A, B, C), SEQUENCE_TILE)


def _scanned(kernel: str, arguments: tuple[Tensor, ...], width: int) -> Tensor:
    delta, u, A, B, C = arguments
    channels, sequence = delta.shape
    tiles = multiple(kernel, "channels", channels, PARTITIONS)
    steps = multiple(kernel, "sequence", sequence, width)
    require(width <= LONGEST, kernel, "sequence", width, f"at most {LONGEST}")
    states = A.shape[1]
    for name, tensor, shape in (("u", u, (channels, sequence)), ("A", A, (channels, states)),
                                ("B", B, (states, sequence)), ("C", C, (states, sequence))):  # fmt: skip
        same(kernel, f"shape of {name}", tuple(tensor.shape), shape)
    result = nl.ndarray(delta.shape, dtype=delta.dtype, buffer=nl.shared_hbm)
    for tile in nl.affine_range(tiles):
        channel = part(tile, PARTITIONS)
        total = _tile(sequence, delta)
        nisa.memset(dst=total, value=0.0)
        both = [_loaded(of[channel, :]) for of in (delta, u)]
        ones = nl.ndarray((1, PARTITIONS), dtype=delta.dtype, buffer=nl.sbuf)
        nisa.memset(dst=ones, value=1.0)
        for state in nl.affine_range(states):
            rate, carried = _loaded(A[channel, state : state + 1]), None
            for step in range(steps):
                some = part(step, width)
                rows = [of[state : state + 1, some] for of in (B, C)]
                carried = _state(both[0][:, some], both[1][:, some], rate, rows, ones, carried, total[:, some])
        nisa.dma_copy(dst=result[channel, :], src=total)
    return result


def _tile(width: int, like: Tensor) -> Tensor:
    return nl.ndarray((PARTITIONS, width), dtype=like.dtype, buffer=nl.sbuf)


def _loaded(view: Tensor) -> Tensor:
    tile = nl.ndarray(view.shape, dtype=view.dtype, buffer=nl.sbuf)
    nisa.dma_copy(dst=tile, src=view)
    return tile


def _everywhere(row: Tensor, ones: Tensor) -> Tensor:
    """A row of HBM in every partition of PSUM: a product with ones."""
    loaded, width = _loaded(row), row.shape[1]
    rows = nl.ndarray((PARTITIONS, width), dtype=nl.float32, buffer=nl.psum)
    for first in range(0, width, MOVING):
        some = slice(first, min(first + MOVING, width))
        nisa.nc_matmul(dst=rows[:, some], stationary=ones, moving=loaded[:, some])
    return rows


def _state(
    delta: Tensor, u: Tensor, rate: Tensor, rows: list[Tensor], ones: Tensor, carried: Tensor | None, total: Tensor
) -> Tensor:
    """One state over a part of the sequence, added to ``total``; returns the scan's last column.

    PSUM need not hold the rows of B and C at once.
    """
    width = delta.shape[1]
    decay, inputs, driven, scan, out = (_tile(width, delta) for _ in range(5))
    nisa.activation(dst=decay, op=nl.exp, data=delta, scale=rate)
    nisa.tensor_tensor(dst=inputs, data1=delta, data2=u, op=nl.multiply)
    nisa.tensor_tensor(dst=driven, data1=inputs, data2=_everywhere(rows[0], ones), op=nl.multiply)
    initial = 0.0 if carried is None else carried
    nisa.tensor_tensor_scan(dst=scan, data0=decay, data1=driven, initial=initial, op0=nl.multiply, op1=nl.add)
    nisa.tensor_tensor(dst=out, data1=scan, data2=_everywhere(rows[1], ones), op=nl.multiply)
    nisa.tensor_tensor(dst=total, data1=total, data2=out, op=nl.add)
    return scan[:, width - 1 : width]
