"""``neuronxcc.nki.language``: the Beta-1 language over today's instructions.

Source: the Beta-1 type stubs (Neuron SDK 2.26) for signatures, the pages of each function for meaning.
"""

from __future__ import annotations

import builtins
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from trainshed.chip.core import active
from trainshed.chip.tensor import DynamicSlice, NkiTensor
from trainshed.chip.words import MemoryRegion
from trainshed.nki import dtype as _formats
from trainshed.nki.beta1 import isa
from trainshed.nki.beta1.index import Box, ParDim, arange, mgrid, par_dim
from trainshed.nki.beta1.operands import ahead, keep, kind, op_name, part, unmasked
from trainshed.nki.beta1.refuse import Absent, refusal
from trainshed.nki.beta1.strict import strictly
from trainshed.nki.beta1.tile import (
    LoopSum,
    Operand,
    Tile,
    Value,
    binary,
    cast,
    flush,
    on_chip,
    result_type,
    zeroed,
)
from trainshed.nki.beta1.today import nisa, nl
from trainshed.nki.beta1.views import PSUM, SBUF, spread
from trainshed.nki.beta1.views import copy as move
from trainshed.nki.dtype import *  # noqa: F403 - the formats are listed there alone
from trainshed.nki.dtype import float32, int32, uint8
from trainshed.nki.removed import finder

__all__ = [*_formats.__all__, "arange", "mgrid", "par_dim"]

sbuf, psum = MemoryRegion.sbuf, MemoryRegion.psum
hbm = shared_hbm = MemoryRegion.shared_hbm
private_hbm = MemoryRegion.private_hbm
ds = DynamicSlice
tile_size = nl.tile_size

_GRID = "an integer grid of physical cores: kernel[2]"
all_reduce = Absent("nl.all_reduce", "nki.collectives.all_reduce")
atomic_rmw = Absent("nl.atomic_rmw", "nisa.dma_compute")
gemm_grid = Absent("nl.gemm_grid", "slices")
gemm_stationary_grid = Absent("nl.gemm_stationary_grid", "slices")


class _Limits:
    """``nl.fp32.min``: the most negative finite value."""

    def __init__(self, least: float) -> None:
        self.min = least


fp32, bfp16 = _Limits(float(np.finfo(np.float32).min)), _Limits(-3.3895313892515355e38)


def finfo(dtype: Any) -> Any:
    """``numpy.finfo`` of a format."""
    return np.finfo(kind(dtype, float32).storage)


# --- programs and loops -------------------------------------------------------------------------------------------


class _Size(int):
    """A grid size with its kind: ``nl.nc(2)``, ``nl.spmd_dim(nl.nc(2), 4)``."""

    def __mul__(self, other: int) -> _Size:
        return _Size(int(self) * int(other))

    __rmul__ = __mul__


def nc(count: int) -> _Size:
    """Physical cores in a launch grid."""
    return _Size(count)


def spmd_dim(*sizes: int) -> _Size:
    """One grid dimension over several kinds of cores."""
    return _Size(math.prod(int(size) for size in sizes))


def affine_range(*args: Any, **_: Any) -> range:
    """``range``: each iteration runs."""
    return range(*(int(arg) for arg in args))


sequential_range = static_range = affine_range


def program_id(axis: int) -> int:
    """The program's place along an axis of the launch grid."""
    core = active()
    return int(np.unravel_index(core.index, core.grid)[axis]) if core.grid else 0


def num_programs(axes: Any = None) -> int:
    """Programs along axes of the grid, of all when none are named."""
    grid = active().grid
    chosen = range(len(grid)) if axes is None else (axes if isinstance(axes, tuple | list) else (axes,))
    return math.prod(grid[axis] for axis in chosen)


def program_ndim() -> int:
    """Dimensions of the launch grid."""
    return len(active().grid)


# --- tensors ------------------------------------------------------------------------------------------------------


def ndarray(shape: Any, dtype: Any, *, buffer: Any = None, name: str = "", **_: Any) -> Tile:
    """A tensor; on chip, dimensions before ``par_dim`` are blocks, each a tile of its own."""
    sizes = tuple(shape) if isinstance(shape, tuple | list) else (shape,)
    where, made = _buffer(buffer), kind(dtype, float32)
    flush()
    core = active()
    if not where.on_chip:
        return Tile(core.allocate(tuple(int(size) for size in sizes), made, where, name=name))
    first = next((i for i, size in enumerate(sizes) if isinstance(size, ParDim)), 0)
    outer, inner = tuple(int(size) for size in sizes[:first]), tuple(int(size) for size in sizes[first:])
    blocks = np.empty(outer, object)
    for place in np.ndindex(outer):
        label = f"{name}{list(place)}" if name and outer else name
        blocks[place] = core.allocate(inner if len(inner) > 1 else (*inner, 1), made, where, name=label)
    return Tile(blocks)


def _buffer(value: Any) -> MemoryRegion:
    """Where a tensor lives: SBUF when nothing is said; allocators of Beta 1 say SBUF or PSUM."""
    if value is None:
        return SBUF
    if isinstance(value, MemoryRegion):
        return value
    if isinstance(value, str):
        return MemoryRegion.shared_hbm if value == "hbm" else MemoryRegion(value)
    region = getattr(value, "region", None)
    if isinstance(region, MemoryRegion):
        return region
    raise refusal(f"buffer={value!r}", "nl.sbuf, nl.psum, nl.private_hbm or nl.shared_hbm")


def full(shape: Any, fill_value: Any, dtype: Any, *, buffer: Any = None, name: str = "", **_: Any) -> Tile:
    """A tensor of one value."""
    tile = ndarray(shape, dtype, buffer=buffer, name=name)
    for block in tile.blocks.flat:
        if block.buffer.on_chip:
            nisa.memset(block, float(fill_value) if tile.dtype.is_float else int(fill_value))
        else:
            _fill_hbm(block, fill_value)
        if block.buffer is PSUM and fill_value == 0:
            zeroed(block)
    return tile


def _fill_hbm(tensor: NkiTensor, value: Any) -> None:
    """HBM is filled from SBUF, by DMA of one tile repeated."""
    flat = tensor.reshape((tensor.size,))
    size = builtins.min(tensor.size, 2048)
    kept = active().allocate((1, size), tensor.dtype, SBUF)
    nisa.memset(kept, float(value) if tensor.dtype.is_float else int(value))
    for start in range(0, tensor.size, size):
        stop = builtins.min(start + size, tensor.size)
        nisa.dma_copy(flat[start:stop].reshape((1, stop - start)), kept[:, : stop - start])


def zeros(shape: Any, dtype: Any, *, buffer: Any = None, name: str = "", **_: Any) -> Tile:
    """A tensor of zeros."""
    return full(shape, 0, dtype, buffer=buffer, name=name)


def ones(shape: Any, dtype: Any, *, buffer: Any = None, name: str = "", **_: Any) -> Tile:
    """A tensor of ones."""
    return full(shape, 1, dtype, buffer=buffer, name=name)


def zeros_like(a: Operand, dtype: Any = None, *, buffer: Any = None, name: str = "", **_: Any) -> Tile:
    """Zeros in the shape of another tensor."""
    return full(a.shape, 0, dtype or a.dtype, buffer=buffer or a.buffer, name=name)


def empty_like(a: Operand, dtype: Any = None, *, buffer: Any = None, name: str = "", **_: Any) -> Tile:
    """A tensor in the shape of another."""
    return ndarray(a.shape, dtype or a.dtype, buffer=buffer or a.buffer, name=name)


def shared_constant(constant: Any, dtype: Any = None, **_: Any) -> Tile:
    """A constant in HBM."""
    values = np.asarray(constant)
    made = kind(dtype, kind(values.dtype, float32))
    return Tile(nl.shared_constant(values.astype(made.storage), made))


def shared_identity_matrix(n: int, dtype: Any = uint8, **_: Any) -> Tile:
    """An identity matrix in HBM."""
    return shared_constant(np.identity(int(n)), dtype)


def rand(shape: Sequence[int], dtype: Any = float32, **_: Any) -> Value:
    """Uniform random numbers in [0, 1)."""
    sizes = tuple(int(size) for size in shape)
    return Value(sizes, kind(dtype, float32), lambda dst, box: move(dst, nl.rand(dst.shape, float32)))


def random_seed(seed: Any, **_: Any) -> None:
    """Seed the generators, with a number or a tile of one."""
    flush()
    tile = seed.at() if isinstance(seed, Operand) else full((1, 1), int(seed), int32).at()
    nl.random_seed(tile)


# --- data movement ------------------------------------------------------------------------------------------------


def load(src: Operand, *, mask: Any = None, dtype: Any = None, **_: Any) -> Value:
    """From HBM into a tile."""
    shape = src.shape if len(src.shape) > 1 else (*src.shape, 1)
    return Value(
        shape, kind(dtype, src.dtype), lambda dst, box: move(dst, src.at(box)), mask=mask, into=(SBUF,),
        exact=dtype is None,
    )  # fmt: skip


def load_transpose2d(src: Operand, *, mask: Any = None, dtype: Any = None, **_: Any) -> Value:
    """From HBM into a tile, rows as columns."""
    unmasked("load_transpose2d", mask)
    return Value(
        src.shape[::-1], kind(dtype, src.dtype), lambda dst, _: nisa.dma_copy(dst, src.at().permute((1, 0))),
        into=(SBUF,), exact=dtype is None,
    )  # fmt: skip


def store(dst: Operand, value: Any, *, mask: Any = None, **_: Any) -> None:
    """From a tile to HBM."""
    if not isinstance(value, Operand):
        value = full(dst.shape, value, dst.dtype)
    if value.buffer.on_chip:
        value.at(None)
    for box in ahead(mask, dst.shape if mask is not None else ()):
        move(dst.at(box), value.at(box))


def copy(src: Operand, *, mask: Any = None, dtype: Any = None, **_: Any) -> Value:
    """A copy of a tile."""
    return cast(src, dtype or src.dtype, mask)


def static_cast(input_data: Any, dtype: Any) -> Any:
    """A value in another dtype: a tile by a copy, a number by itself."""
    if isinstance(input_data, Operand):
        return cast(input_data, dtype)
    return np.asarray(input_data).astype(kind(dtype, float32).storage)


def broadcast_to(src: Operand, *, shape: Sequence[int], **_: Any) -> Value:
    """A tile repeated along its dimensions of size 1."""
    tile = on_chip(src)
    return Value(tuple(shape), tile.dtype, lambda dst, _: move(dst, spread(tile.at(), dst.shape)))


def expand_dims(data: Operand, axis: int) -> Tile:
    """A new dimension of size 1."""
    view = data.at()
    return Tile(view.expand_dim(axis % (view.ndim + 1)))


def transpose(x: Operand, *, dtype: Any = None, mask: Any = None, **_: Any) -> Value:
    """Rows as columns."""
    return isa.nc_transpose(x, dtype=dtype, mask=mask)


def matmul(x: Operand, y: Operand, *, transpose_x: bool = False, mask: Any = None, **_: Any) -> Value:
    """``x @ y`` in PSUM; with ``transpose_x`` the first operand comes transposed."""
    unmasked("matmul", mask)
    left = on_chip(x)
    if not transpose_x:
        kept = Tile(active().allocate((left.shape[1], left.shape[0]), left.dtype, SBUF))
        kept.assign(isa.nc_transpose(left))
        left = kept
    return isa.nc_matmul(left, y)


def gather_flattened(data: Operand, indices: Operand, *, mask: Any = None, dtype: Any = None, **_: Any) -> Value:
    """Elements of each partition by their place in it."""
    unmasked("gather_flattened", mask)
    tile, places = keep(data, indices)
    return Value(places.shape, kind(dtype, tile.dtype), lambda dst, _: nisa.nc_n_gather(dst, tile.at(), places.at()))


def device_print(prefix: str, x: Operand, *, mask: Any = None, **_: Any) -> None:
    """Print a tile's values."""
    flush()
    nl.device_print(prefix, x.at())


# --- arithmetic ---------------------------------------------------------------------------------------------------


def _two(name: str) -> Callable[..., Value]:
    def function(x: Any, y: Any, *, dtype: Any = None, mask: Any = None, **_: Any) -> Value:
        return binary(name, x, y, dtype, mask)

    function.__name__ = function.__qualname__ = name
    function.__doc__ = f"``{name}`` of tiles and numbers, element by element."
    return function


def _one(name: str) -> Callable[..., Value]:
    def function(x: Operand, *, dtype: Any = None, mask: Any = None, **_: Any) -> Value:
        return isa.activation(name, x, dtype=dtype or (x.dtype if x.dtype.is_float else float32), mask=mask)

    function.__name__ = function.__qualname__ = name
    function.__doc__ = f"``{name}`` of a tile, element by element."
    return function


def _composed(name: str) -> Callable[..., Value]:
    def function(x: Any, *more: Any, dtype: Any = None, mask: Any = None, **_: Any) -> Value:
        tile, *others = keep(x, *more)
        made = kind(dtype, result_type(name, tile, *others))

        def issue(dst: NkiTensor, box: Box | None) -> None:
            move(dst, getattr(nl, name)(tile.at(box), *(part(other, box) for other in others), dtype=made))

        return Value(tile.shape, made, issue, mask=mask)

    function.__name__ = function.__qualname__ = name
    function.__doc__ = f"``{name}`` of a tile, of several instructions."
    return function


add, subtract, multiply, divide = _two("add"), _two("subtract"), _two("multiply"), _two("divide")
maximum, minimum, power = _two("maximum"), _two("minimum"), _two("power")
equal, not_equal, less, less_equal = _two("equal"), _two("not_equal"), _two("less"), _two("less_equal")
greater, greater_equal = _two("greater"), _two("greater_equal")
logical_and, logical_or, logical_xor = _two("logical_and"), _two("logical_or"), _two("logical_xor")
bitwise_and, bitwise_or, bitwise_xor = _two("bitwise_and"), _two("bitwise_or"), _two("bitwise_xor")
left_shift, right_shift = _two("left_shift"), _two("right_shift")

exp, log, sqrt, rsqrt, square, tanh = (
    _one("exp"),
    _one("log"),
    _one("sqrt"),
    _one("rsqrt"),
    _one("square"),
    _one("tanh"),
)
sigmoid, relu, gelu, gelu_dx, silu, silu_dx = (
    _one("sigmoid"), _one("relu"), _one("gelu"), _one("gelu_dx"), _one("silu"), _one("silu_dx")
)  # fmt: skip
gelu_apprx_tanh, gelu_apprx_sigmoid = _one("gelu_apprx_tanh"), _one("gelu_apprx_sigmoid")
softplus, mish, erf, erf_dx, arctan, sign = (
    _one("softplus"), _one("mish"), _one("erf"), _one("erf_dx"), _one("arctan"), _one("sign")
)  # fmt: skip
abs = _one("abs")

sin, cos, tan, floor, ceil, trunc = (
    _composed("sin"), _composed("cos"), _composed("tan"), _composed("floor"), _composed("ceil"), _composed("trunc")
)  # fmt: skip
mod, fmod, invert, logical_not = _composed("mod"), _composed("fmod"), _composed("invert"), _composed("logical_not")
where = _composed("where")


def negative(x: Operand, *, dtype: Any = None, mask: Any = None, **_: Any) -> Value:
    """``-x``."""
    return binary("multiply", x, -1.0, dtype, mask)


def reciprocal(x: Operand, *, dtype: Any = None, mask: Any = None, **_: Any) -> Value:
    """``1 / x``."""
    return isa.reciprocal(x, dtype=dtype, mask=mask)


def loop_reduce(
    x: Operand, op: Any, loop_indices: Sequence[int], *, dtype: Any = None, mask: Any = None, **_: Any
) -> LoopSum:
    """The sum over a loop, to be assigned to one place: the loops named start at 0."""
    unmasked("loop_reduce", mask)
    first = not any(int(index) for index in loop_indices)
    return LoopSum(x, op_name(op), first, kind(dtype, x.dtype))


def dropout(x: Operand, rate: Any, *, dtype: Any = None, mask: Any = None, **_: Any) -> Value:
    """Elements set to 0 with a probability."""
    return isa.dropout(x, rate, dtype=dtype, mask=mask)


# --- reductions ---------------------------------------------------------------------------------------------------


def _reduction(name: str, op: str) -> Callable[..., Value]:
    def function(
        x: Operand, axis: Any, *, dtype: Any = None, mask: Any = None, keepdims: bool = False, **_: Any
    ) -> Value:
        return isa.tensor_reduce(op, x, axis, dtype=dtype, mask=mask, keepdims=keepdims)

    function.__name__ = function.__qualname__ = name
    function.__doc__ = f"``{name}`` along free dimensions."
    return function


max, min = _reduction("max", "maximum"), _reduction("min", "minimum")
sum, prod = _reduction("sum", "add"), _reduction("prod", "multiply")
all = _reduction("all", "logical_and")


def mean(x: Operand, axis: Any, *, dtype: Any = None, mask: Any = None, keepdims: bool = False, **_: Any) -> Value:
    """The mean along free dimensions."""
    count = math.prod(x.shape[a] for a in (axis if isinstance(axis, tuple | list) else (axis,)))
    total = isa.tensor_reduce("add", x, axis, dtype=float32, mask=mask, keepdims=keepdims)
    return binary("multiply", total, 1.0 / count, dtype or x.dtype)


def var(x: Operand, axis: Any, *, dtype: Any = None, mask: Any = None, **_: Any) -> Value:
    """The variance along free dimensions."""
    centred = binary("subtract", x, mean(x, axis, dtype=float32, mask=mask, keepdims=True), float32)
    return mean(_one("square")(centred), axis, dtype=dtype or x.dtype, mask=mask)


def softmax(
    x: Operand, axis: Any, *, dtype: Any = None, compute_dtype: Any = None, mask: Any = None, **_: Any
) -> Value:
    """Softmax along free dimensions."""
    made = compute_dtype or float32
    top = isa.tensor_reduce("maximum", x, axis, dtype=float32, mask=mask, keepdims=True)
    shifted = binary("subtract", x, top, made, mask)
    powers = isa.activation("exp", shifted, dtype=made, mask=mask)
    total = isa.tensor_reduce("add", powers, axis, dtype=float32, mask=mask, keepdims=True)
    return binary("divide", powers, total, dtype or x.dtype, mask)


def rms_norm(
    x: Operand, w: Operand, axis: Any, n: int, epsilon: float = 1e-6, *, dtype: Any = None, compute_dtype: Any = None,
    mask: Any = None, **_: Any,
) -> Value:  # fmt: skip
    """``x / sqrt(mean(x²) + epsilon) * w``."""
    squares = isa.activation("square", x, dtype=float32, mask=mask)
    total = isa.tensor_reduce("add", squares, axis, dtype=float32, mask=mask, keepdims=True)
    root = isa.activation("rsqrt", binary("add", binary("multiply", total, 1.0 / n), epsilon), dtype=float32)
    return binary("multiply", binary("multiply", x, root, float32, mask), w, dtype or x.dtype, mask)


globals().update(strictly(globals()))
__getattr__ = finder("neuronxcc.nki.language", globals())
