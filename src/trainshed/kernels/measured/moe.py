"""Experts of a MoE layer at decode: fp8 weights that are gathered from HBM, a few tokens, one NeuronCore.

A plain kernel of our own, written from the columns of the rows alone: ``experts`` weights of ``expert_blob_bytes`` each
in HBM, of which those that a token's ``topk`` hits are loaded; ``hidden``, ``gate_up_rows``, ``down_rows``. How the
measured kernels are written is not known here.

| argument | shape | what |
|---|---|---|
| ``x`` | [tokens, hidden] bf16 | activations |
| ``blobs`` | [experts, 128, row] uint8 | weights of each expert, a row of bytes per partition (:class:`Blob`) |
| ``experts`` | [1, jobs] int32 | the expert of each job |
| ``gates`` | [jobs, tokens] or [jobs, 1] float32 | how much of an expert's output a job adds, per token of the job |

Returns [tokens, hidden] bf16.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

import trainshed.nki as nki
import trainshed.nki.isa as nisa
import trainshed.nki.language as nl
from trainshed.kernels.measured.launch import Array
from trainshed.kernels.measured.shapes import MOVING, PARTITIONS, Tensor, multiple, part, require, same
from trainshed.numerics.formats import float8_e4m3

#: Bytes per partition of the gates that are loaded at a time.
_GATES = 8192


@dataclass(frozen=True, kw_only=True)
class Blob:
    """Sizes of an expert, and where its bytes lie in the 128 rows of its blob.

    Of a row, with ``chunks`` = hidden / 128 and ``wide`` = gate (or up) rows, in fp8:

    - gate, then up: [chunks, wide]; partition p has hidden p * chunks + c,
    - down: [chunks / 2, 128]; partition p < 64 has row p of the first half of the chunks, p + 64 of the second;
      column m of chunk c is hidden m * chunks + c,

    then float32 scales, of which gate, up and down have one for every block of 128 hidden: the three of this
    partition's block, and all ``chunks`` of down.
    """

    hidden: int
    wide: int
    row: int

    @property
    def chunks(self) -> int:
        """Hidden elements of a partition."""
        return self.hidden // PARTITIONS

    @property
    def up(self) -> int:
        """First byte of the up projection."""
        return self.chunks * self.wide

    @property
    def down(self) -> int:
        """First byte of the down projection."""
        return 2 * self.up

    @property
    def scales(self) -> int:
        """First byte of the scales."""
        return self.down + self.chunks * self.wide

    @classmethod
    def of(cls, kernel: str, hidden: int, row: int) -> Blob:
        """The blob whose down projection fills both halves of the partitions."""
        made = cls(hidden=hidden, wide=PARTITIONS // 2, row=row)
        multiple(kernel, "hidden", hidden, 2 * PARTITIONS)
        least = made.scales + 4 * (3 + made.chunks)
        require(
            row >= least and row % 4 == 0, kernel, "bytes of a row of blobs", row, f"at least {least}, a multiple of 4"
        )
        return made


def packed(gate: Array, up: Array, down: Array, scales: Array, row: int) -> Array:
    """The blob of an expert, as :class:`Blob` lays it out.

    ``gate`` and ``up`` are [hidden, wide], ``down`` [wide, hidden], in fp8; ``scales`` [3, hidden / 128] float32.
    """
    hidden, wide = gate.shape
    blob = Blob.of("moe.packed", hidden, row)
    same("moe.packed", "rows of down", down.shape[0], blob.wide)
    by_chunk = down.reshape(wide, PARTITIONS, blob.chunks).transpose(0, 2, 1)
    halves = by_chunk.reshape(wide, 2, -1).transpose(1, 0, 2)
    columns = np.repeat(scales, multiple("moe.packed", "partitions", PARTITIONS, blob.chunks), axis=1)
    all_of_down = np.broadcast_to(scales[2], (PARTITIONS, blob.chunks))
    parts = (gate, up, halves, np.concatenate([columns.T, all_of_down], axis=1).astype(np.float32))
    rows = [np.ascontiguousarray(one).reshape(PARTITIONS, -1).view(np.uint8) for one in parts]
    made = np.zeros((PARTITIONS, row), np.uint8)
    made[:, : sum(one.shape[1] for one in rows)] = np.concatenate(rows, axis=1)
    return made


def random_blobs(generator: np.random.Generator, experts: int, hidden: int, row: int) -> Array:
    """Blobs of normal weights, with scales that leave activations about as large as they were."""
    blob = Blob.of("moe.random_blobs", hidden, row)

    def weights(*shape: int) -> Array:
        return generator.standard_normal(shape, np.float32).astype(float8_e4m3.storage)

    made = np.empty((experts, PARTITIONS, row), np.uint8)
    for expert in made:
        contracted = np.array([[hidden], [hidden], [blob.wide]])
        scales = generator.uniform(0.5, 1.5, (3, hidden // PARTITIONS)) / contracted**0.5
        three = weights(hidden, blob.wide), weights(hidden, blob.wide), weights(blob.wide, hidden)
        expert[:] = packed(*three, scales, row)
    return made


@nki.jit
def decode_dedupe(x: Tensor, blobs: Tensor, experts: Tensor, gates: Tensor) -> Tensor:
    """Each job is one expert that any token hits, for all tokens; ``gates`` is 0 where a token does not."""
    jobs = _jobs("moe.decode_dedupe", x, experts, gates, x.shape[0])
    return _decode("moe.decode_dedupe", x, blobs, experts, gates, jobs)


@nki.jit
def decode_per_pair(x: Tensor, blobs: Tensor, experts: Tensor, gates: Tensor) -> Tensor:
    """Each job is a token and one of its experts, which is loaded for it alone; a token's jobs follow each other."""
    jobs, tokens = _jobs("moe.decode_per_pair", x, experts, gates, 1), x.shape[0]
    topk = multiple("moe.decode_per_pair", "jobs", jobs, tokens)
    return _decode("moe.decode_per_pair", x, blobs, experts, gates, topk)


def _jobs(kernel: str, x: Tensor, experts: Tensor, gates: Tensor, width: int) -> int:
    require(x.shape[0] <= PARTITIONS, kernel, "tokens", x.shape[0], f"at most {PARTITIONS}")
    jobs = int(experts.shape[1])
    same(kernel, "shape of gates", tuple(gates.shape), (jobs, width))
    return jobs


def _decode(kernel: str, x: Tensor, blobs: Tensor, experts: Tensor, gates: Tensor, jobs: int) -> Tensor:
    """``jobs`` jobs for each group of as many tokens as a row of ``gates`` has; a group has tiles of its own."""
    tokens, hidden = x.shape
    same(kernel, "partitions of blobs", blobs.shape[1], PARTITIONS)
    blob = Blob.of(kernel, hidden, blobs.shape[2])
    by_hidden = across(x, blob.chunks)
    numbers = nl.ndarray(experts.shape, dtype=experts.dtype, buffer=nl.sbuf)
    nisa.dma_copy(dst=numbers, src=experts)
    rounded = nl.ndarray(by_hidden.shape, dtype=x.dtype, buffer=nl.sbuf)
    width, share = gates.shape[1], gates
    together = max(_GATES // (4 * width), 1)
    for group in range(tokens // width):
        which = part(group, width)
        mine, total = (
            nl.ndarray((PARTITIONS, blob.chunks, width), dtype=kind, buffer=nl.sbuf) for kind in (x.dtype, nl.float32)
        )
        nisa.tensor_copy(dst=mine, src=by_hidden[:, :, which])
        nisa.memset(dst=total, value=0.0)
        for job in range(group * jobs, (group + 1) * jobs):
            if job % together == 0:
                share = spread(gates, job, min(together, experts.shape[1] - job))
            weights = loaded(blobs, numbers[0:1, job : job + 1])
            add_down(blob, weights, gated(blob, weights, mine, share[:, part(job % together, width)]), total)
        nisa.tensor_copy(dst=rounded[:, :, which], src=total)
    return _turned_back(rounded)


def across(x: Tensor, chunks: int) -> Tensor:
    """[128, chunks, tokens]: ``x`` [tokens, hidden] from HBM with hidden element p * chunks + c at partition p."""
    tokens, hidden = x.shape
    rows = nl.ndarray((tokens, hidden), dtype=x.dtype, buffer=nl.sbuf)
    nisa.dma_copy(dst=rows, src=x)
    return turned(rows, chunks)


def turned(rows: Tensor, chunks: int) -> Tensor:
    """The same of rows that are in SBUF, by TensorE; a bank of PSUM is copied at a time."""
    tokens, hidden = rows.shape
    found = nl.ndarray((PARTITIONS, chunks, tokens), dtype=rows.dtype, buffer=nl.sbuf)
    columns = rows.ap(pattern=[[hidden, tokens], [1, chunks], [chunks, PARTITIONS]])
    together = min(chunks, MOVING // tokens)
    for first in range(0, chunks, together):
        some = slice(first, min(first + together, chunks))
        bank = nl.ndarray((PARTITIONS, some.stop - first, tokens), dtype=rows.dtype, buffer=nl.psum)
        for chunk in range(first, some.stop):
            nisa.nc_transpose(dst=bank[:, chunk - first, :], data=columns[:, chunk, :], engine=nisa.engine.tensor)
        nisa.tensor_copy(dst=found[:, some, :], src=bank)
    return found


def _turned_back(rounded: Tensor) -> Tensor:
    """[tokens, hidden] in HBM of what is [128, chunks, tokens] in SBUF."""
    (_, chunks, tokens), dtype = rounded.shape, rounded.dtype
    rows = nl.ndarray((tokens, PARTITIONS, chunks), dtype=dtype, buffer=nl.sbuf)
    columns = rows.ap(pattern=[[PARTITIONS * chunks, tokens], [1, chunks], [chunks, PARTITIONS]])
    together = MOVING // PARTITIONS
    for first in range(0, chunks, together):
        some = slice(first, min(first + together, chunks))
        bank = nl.ndarray((tokens, some.stop - first, PARTITIONS), dtype=dtype, buffer=nl.psum)
        for chunk in range(first, some.stop):
            nisa.nc_transpose(dst=bank[:, chunk - first, :], data=rounded[:, chunk, :], engine=nisa.engine.tensor)
        nisa.tensor_copy(dst=columns[:, some, :], src=bank)
    result = nl.ndarray((tokens, PARTITIONS * chunks), dtype=dtype, buffer=nl.shared_hbm)
    nisa.dma_copy(dst=result, src=rows.reshape((tokens, PARTITIONS * chunks)))
    return result


def spread(gates: Tensor, first: int, jobs: int) -> Tensor:
    """The gates of some jobs, the same for each partition."""
    width = gates.shape[1]
    tile = nl.ndarray((PARTITIONS, jobs * width), dtype=gates.dtype, buffer=nl.sbuf)
    nisa.dma_copy(dst=tile, src=gates.ap(pattern=[[0, PARTITIONS], [1, jobs * width]], offset=first * width))
    return tile


def loaded(blobs: Tensor, number: Tensor) -> Tensor:
    """The blob of the expert whose number is in SBUF."""
    row = blobs.shape[2]
    tile = nl.ndarray((PARTITIONS, row), dtype=blobs.dtype, buffer=nl.sbuf)
    source = blobs.ap(pattern=[[row, PARTITIONS], [1, row]], scalar_offset=number, indirect_dim=0)
    nisa.dma_copy(dst=tile, src=source, dge_mode=nisa.dge_mode.swdge)
    return tile


def widened(blob: Blob, weights: Tensor) -> list[Tensor]:
    """Gate and up in bf16 with their scales, [128, chunks, wide] each: ScalarE, a scale per partition."""
    scales, fp8 = weights[:, blob.scales :].view(nl.float32), weights.view(nl.float8_e4m3)
    made = []
    for which, first in enumerate((0, blob.up)):
        wide = nl.ndarray((PARTITIONS, blob.chunks, blob.wide), dtype=nl.bfloat16, buffer=nl.sbuf)
        source = fp8[:, first : first + blob.up].reshape((PARTITIONS, blob.chunks, blob.wide))
        nisa.activation(dst=wide, op=nl.copy, data=source, scale=scales[:, which : which + 1])
        made.append(wide)
    return made


def gated(blob: Blob, weights: Tensor, x: Tensor, share: Tensor = None) -> Tensor:
    """silu(gate) * up (* share) in bf16 [128, tokens], twice over: partitions p and p + 64 have the same row."""
    tokens = x.shape[2]
    products = []
    for wide in widened(blob, weights):
        product = nl.ndarray((PARTITIONS, tokens), dtype=nl.float32, buffer=nl.psum)
        free = blob.chunks * blob.wide
        for chunk in range(blob.chunks):
            twice = wide.ap(pattern=[[free, PARTITIONS], [0, 2], [1, blob.wide]], offset=chunk * blob.wide)
            nisa.nc_matmul(dst=product, stationary=twice, moving=x[:, chunk, :])
        products.append(product)
    gate, up, inner = (
        nl.ndarray((PARTITIONS, tokens), dtype=kind, buffer=nl.sbuf) for kind in (nl.float32, nl.float32, nl.bfloat16)
    )
    nisa.activation(dst=gate, op=nl.silu, data=products[0])
    nisa.tensor_tensor(dst=inner if share is None else up, data1=gate, data2=products[1], op=nl.multiply)
    if share is not None:
        nisa.tensor_tensor(dst=inner, data1=up, data2=share, op=nl.multiply)
    return inner


def add_down(blob: Blob, weights: Tensor, inner: Tensor, total: Tensor) -> None:
    """``total`` [128, chunks, tokens] += scale * down.T @ inner; each half of the array has half of the chunks."""
    scale, fp8 = weights[:, blob.scales :].view(nl.float32)[:, 2:3], weights.view(nl.float8_e4m3)
    tokens, half = inner.shape[1], blob.chunks // 2
    together = min(blob.chunks, MOVING // tokens)
    for first in range(0, blob.chunks, together):
        some = slice(first, min(first + together, blob.chunks))
        bank = nl.ndarray((PARTITIONS, some.stop - first, tokens), dtype=nl.float32, buffer=nl.psum)
        for chunk in range(first, some.stop):
            side, column = chunk // half * blob.wide, blob.down + chunk % half * PARTITIONS
            rows = slice(side, side + blob.wide)
            nisa.nc_matmul(
                dst=bank[:, chunk - first, :], stationary=fp8[rows, column : column + PARTITIONS],
                moving=inner[rows, :], tile_position=(side, 0), tile_size=(blob.wide, PARTITIONS),
            )  # fmt: skip
        nisa.scalar_tensor_tensor(
            dst=total[:, some, :], data=bank, op0=nl.multiply, operand0=scale, op1=nl.add, operand1=total[:, some, :]
        )
