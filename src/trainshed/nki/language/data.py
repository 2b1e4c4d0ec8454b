"""Moving tiles: load, store, transposes, matmul, broadcasts. Source: ``nki.language``, "Memory and matmul"."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from trainshed.chip.core import active
from trainshed.chip.errors import violation
from trainshed.chip.isa.dma import dma_copy, dma_transpose
from trainshed.chip.isa.gather import nc_n_gather
from trainshed.chip.isa.move import tensor_copy
from trainshed.chip.isa.tensor import nc_matmul, nc_transpose
from trainshed.chip.numbers import wholes
from trainshed.chip.tensor import NkiTensor, as_dtype
from trainshed.nki.language.creation import ndarray, psum, sbuf


def _tensor(function: str, operand: str, value: Any) -> None:
    if not isinstance(value, NkiTensor):
        raise violation(
            function, operand, "operand", value=type(value).__name__, expected="a tensor", rule="operand"
        )  # fmt: skip


def load(src: NkiTensor, dtype: Any = None) -> NkiTensor:
    """A tensor of HBM in a new tile of SBUF."""
    _tensor("load", "src", src)
    if src.buffer.on_chip:
        raise violation("load", repr(src), "memory", value=src.buffer.value, expected="hbm", rule="memory")
    shape = src.shape if src.ndim > 1 else (1, *src.shape)
    tile = ndarray(shape, dtype or src.dtype, sbuf)
    dma_copy(tile, src)
    return tile


def store(dst: NkiTensor, value: Any) -> None:
    """A tile into a tensor of HBM."""
    _tensor("store", "dst", dst)
    if dst.buffer.on_chip:
        raise violation("store", repr(dst), "memory", value=dst.buffer.value, expected="hbm", rule="memory")
    if isinstance(value, NkiTensor) and value.buffer is psum:
        moved = ndarray(value.shape, dst.dtype, sbuf)
        tensor_copy(moved, value)
        value = moved
    dma_copy(dst, value)


def load_transpose2d(src: NkiTensor, dtype: Any = None) -> NkiTensor:
    """A two-dimensional tensor of HBM, transposed, in a new tile of SBUF."""
    if src.ndim != 2:
        raise violation("load_transpose2d", repr(src), "dimensions", value=src.ndim, expected="2", rule="shape")
    tile = ndarray((src.shape[1], src.shape[0]), src.dtype, sbuf)
    dma_transpose(tile, src)
    if dtype is None or as_dtype(dtype, "load_transpose2d") == src.dtype:
        return tile
    cast = ndarray(tile.shape, dtype, sbuf)
    tensor_copy(cast, tile)
    return cast


def transpose(x: NkiTensor, dtype: Any = None) -> NkiTensor:
    """A tile with its partition and free dimension exchanged, in PSUM."""
    tile = ndarray((x.free_size, x.shape[0]), dtype or x.dtype, psum)
    nc_transpose(tile, x)
    return tile


def matmul(x: NkiTensor, y: NkiTensor, transpose_x: bool = False) -> NkiTensor:
    """``x @ y`` as a tile in PSUM; ``x`` is given transposed: ``transpose_x`` must be True."""
    if not transpose_x:
        raise violation("matmul", "transpose_x", "transpose_x", value=transpose_x, rule="unsupported",
                        expected="True, with x transposed: TensorE contracts over partitions")  # fmt: skip
    tile = ndarray((x.free_size, y.free_size), "float32", psum)
    nc_matmul(tile, x, y)
    return tile


def broadcast_partitions(x: NkiTensor, partitions: int) -> NkiTensor:
    """A tile of one partition repeated in ``partitions`` of them."""
    if x.shape[0] != 1:
        raise violation("broadcast_to", repr(x), "partitions", value=x.shape[0], expected="1", rule="shape")
    if x.buffer is psum:
        moved = ndarray(x.shape, x.dtype, sbuf)
        tensor_copy(moved, x)
        x = moved
    tile = ndarray((partitions, *x.shape[1:]), x.dtype, sbuf)
    # One transfer that reads the one partition again and again: its stride is 0.
    dma_copy(tile, x.ap([[0, partitions], *x.get_pattern()[1:]], offset=0))
    return tile


def broadcast_to(x: NkiTensor, shape: Sequence[int], dtype: Any = None) -> NkiTensor:
    """A tile in a larger shape, by NumPy's rules of broadcasting."""
    sizes = wholes("broadcast_to", "shape", shape, "size")
    view = x if x.shape[0] == sizes[0] else broadcast_partitions(x, sizes[0])
    while view.ndim < len(sizes):
        view = view.expand_dim(1)
    for dim, size in enumerate(sizes):
        if view.shape[dim] != size:
            view = view.broadcast(dim, size)
    tile = ndarray(sizes, dtype or x.dtype, sbuf)
    tensor_copy(tile, view)
    return tile


def expand_dims(x: NkiTensor, axis: Any) -> NkiTensor:
    """A view with new dimensions of size 1."""
    axes = axis if isinstance(axis, tuple | list) else (axis,)
    count = x.ndim + len(axes)
    view = x
    for place in sorted(item % count for item in wholes("expand_dims", "axis", axes, "dimension")):
        view = view.expand_dim(place)
    return view


def gather_flattened(data: NkiTensor, indices: NkiTensor, axis: int = 0, dtype: Any = None) -> NkiTensor:
    """Elements of each partition's flattened row at ``indices``."""
    whole = indices
    if indices.dtype != "uint32":
        whole = ndarray(indices.shape, "uint32", sbuf)
        tensor_copy(whole, indices)
    tile = ndarray(indices.shape, data.dtype, sbuf)
    nc_n_gather(tile, data, whole)
    if dtype is None or as_dtype(dtype, "gather_flattened") == data.dtype:
        return tile
    cast = ndarray(tile.shape, dtype, sbuf)
    tensor_copy(cast, tile)
    return cast


def device_print(print_prefix: str, tensor: NkiTensor) -> None:
    """Print a prefix and a tensor's values, at once.

    Source: ``nki.language.device_print``: "in CPU simulation, this prints immediately to stdout".
    """
    if not isinstance(print_prefix, str):
        raise violation("device_print", "print_prefix", "prefix", value=print_prefix, expected="a string known when "
                        "the kernel is compiled", rule="operand")  # fmt: skip
    core = active()
    where = f"[core {core.index}] " if core.cores > 1 else ""
    print(f"{where}{print_prefix} {tensor.dtype}{list(tensor.shape)}\n{tensor}")
