"""Beta-1 tensors: tiles with block dimensions, values that instructions return, and in-place accumulation.

Beta 1 wrote ``c[...] = nisa.activation(op, a)``; the instruction of today is given its destination. A value is
therefore kept back until it is known where it goes: assigned at once, it is issued straight into that place; used
otherwise, it gets a tile of its own first. Only the last value can be kept back, so that the order of
instructions is that of the program.

Source: the migration guides from Beta 1, and "Removing block dimensions from NKI kernels".
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from trainshed.chip.core import active
from trainshed.chip.errors import violation
from trainshed.chip.tensor import NkiTensor
from trainshed.chip.words import MemoryRegion
from trainshed.nki.beta1.access import Pattern
from trainshed.nki.beta1.index import Array, Box, boxes
from trainshed.nki.beta1.refuse import refusal
from trainshed.nki.beta1.today import nisa
from trainshed.nki.beta1.views import PSUM, SBUF, copy, narrow, same, spread, to_sbuf, undefined
from trainshed.numerics.formats import DType, bfloat16, bool_, float32, lookup

#: Issues an instruction into a destination; the box is the part of the value that is wanted.
Issue = Callable[[NkiTensor, Box | None], Any]
_PENDING, _ZEROED = "beta1 pending value", "beta1 zeroed storages"


class Operand:
    """What instructions take: a tile, or an indexed part of one."""

    shape: tuple[int, ...]
    dtype: DType
    buffer: MemoryRegion
    __array_ufunc__ = None  # numpy_array + tile is the tile's addition

    def at(self, box: Box | None = None) -> NkiTensor:
        """The operand as the chip's tensor, or the part of it in a box."""
        raise NotImplementedError

    @property
    def ndim(self) -> int:
        return len(self.shape)

    def assign(self, value: Any) -> None:
        """``target[…] = value``."""
        if isinstance(value, LoopSum):
            value.add_to(self)
        elif not isinstance(value, Operand):
            flush()
            nisa.memset(self.at(), _number(value, self.dtype))
        elif isinstance(value, Value) and value.fits(self):
            value.issue_into(self)
        elif not same(self.at(), source := value.at()):
            flush()
            copy(self.at(), source)

    def __iadd__(self, other: Any) -> Operand:
        if isinstance(other, Product) and other.pending and _accumulates(self.at()):
            other.accumulate_into(self)
        else:
            self.assign(binary("add", self, other))
        return self

    def __isub__(self, other: Any) -> Operand:
        self.assign(binary("subtract", self, other))
        return self

    def __imul__(self, other: Any) -> Operand:
        self.assign(binary("multiply", self, other))
        return self

    def __add__(self, other: Any) -> Value:
        return binary("add", self, other)

    def __radd__(self, other: Any) -> Value:
        return binary("add", other, self)

    def __sub__(self, other: Any) -> Value:
        return binary("subtract", self, other)

    def __rsub__(self, other: Any) -> Value:
        return binary("subtract", other, self)

    def __mul__(self, other: Any) -> Value:
        return binary("multiply", self, other)

    def __rmul__(self, other: Any) -> Value:
        return binary("multiply", other, self)

    def __truediv__(self, other: Any) -> Value:
        return binary("divide", self, other)

    def __rtruediv__(self, other: Any) -> Value:
        return binary("divide", other, self)

    def __neg__(self) -> Value:
        return binary("multiply", self, -1.0)

    def __lt__(self, other: Any) -> Value:
        return binary("less", self, other)

    def __le__(self, other: Any) -> Value:
        return binary("less_equal", self, other)

    def __gt__(self, other: Any) -> Value:
        return binary("greater", self, other)

    def __ge__(self, other: Any) -> Value:
        return binary("greater_equal", self, other)

    def __and__(self, other: Any) -> Value:
        return binary("bitwise_and", self, other)

    def __or__(self, other: Any) -> Value:
        return binary("bitwise_or", self, other)

    def __bool__(self) -> bool:
        if not self.buffer.on_chip:
            return True  # `if tensor:` asks whether an argument was given
        raise refusal("a tile as a Python condition", "an instruction that selects, or nl.while_loop on a register")

    def reshape(self, shape: Sequence[int]) -> Tile:
        """The same elements under another shape."""
        return Tile(self.at().reshape(tuple(shape)))

    def broadcast_to(self, shape: Sequence[int]) -> Operand:
        """Free dimensions of size 1 repeated."""
        return Tile(spread(self.at(), tuple(shape)))

    def astype(self, dtype: Any) -> Value:
        """A copy in another dtype."""
        return cast(self, dtype)

    def view(self, dtype: Any) -> Tile:
        """The same bytes as another dtype."""
        return Tile(self.at().view(dtype))

    def __repr__(self) -> str:
        return f"<{type(self).__name__.lower()} {self.dtype}{list(self.shape)} in {self.buffer.value}>"


class Tile(Operand):
    """A tensor: ``blocks`` of tiles on chip, or one tensor in HBM."""

    def __init__(self, blocks: Array | NkiTensor) -> None:
        if isinstance(blocks, NkiTensor):
            blocks, one = np.empty((), object), blocks
            blocks[()] = one
        self._blocks: Array = blocks
        one = blocks.flat[0]
        self.shape = (*blocks.shape, *one.shape)
        self.dtype, self.buffer = one.dtype, one.buffer

    @property
    def blocks(self) -> Array:
        return self._blocks

    def at(self, box: Box | None = None) -> NkiTensor:
        if self.blocks.size != 1:
            raise violation(
                "indexing", repr(self), "block dimensions", value=self.blocks.shape,
                expected="an index for each: an instruction takes one tile", rule="view",
            )  # fmt: skip
        return narrow(self.blocks.flat[0], box)

    def __getitem__(self, key: Any) -> Operand:
        keys = _expand(key if isinstance(key, tuple) else (key,), self.ndim)
        if None in [item if item is None else 0 for item in keys]:
            return self._with_new_axes(keys)
        if any(isinstance(item, np.ndarray | Operand) for item in keys) or self._overruns(keys):
            return Access(self, keys)
        count = self.blocks.ndim
        if not keys or all(item == slice(None) for item in keys):
            return self
        chosen = self.blocks[tuple(_block(item) for item in keys[:count])]
        if not isinstance(chosen, np.ndarray):
            chosen, one = np.empty((), object), chosen
            chosen[()] = one
        if len(keys) <= count:
            return Tile(chosen)
        inner = np.empty(chosen.shape, object)
        for place in np.ndindex(chosen.shape):
            inner[place] = chosen[place][tuple(_plain(item) for item in keys[count:])]
        return Tile(inner)

    def __setitem__(self, key: Any, value: Any) -> None:
        self[key].assign(value)

    def _overruns(self, keys: tuple[Any, ...]) -> bool:
        """Whether a slice ends beyond the tensor, which a mask may make good."""
        return any(
            isinstance(item, slice) and item.stop is not None and item.stop > size
            for item, size in zip(keys, self.shape, strict=False)
        )

    def _with_new_axes(self, keys: tuple[Any, ...]) -> Operand:
        """``None`` in an index: a dimension of size 1. A reduced tile has the one it lost."""
        if self.buffer.on_chip and self.shape[1:] == (1,) and keys[1:] == (None,):
            return self
        tile = self[tuple(item for item in keys if item is not None)]
        places = [place for place, item in enumerate(keys) if item is None]
        view = tile.at()
        for place in places:
            view = view.expand_dim(place)
        return Tile(view)


class Access(Operand):
    """A tile indexed with arrays, or with a tile of indices."""

    def __init__(self, tile: Tile, keys: tuple[Any, ...]) -> None:
        count = tile.blocks.ndim
        if any(isinstance(item, np.ndarray) and item.size != 1 for item in keys[:count]):
            raise refusal("an index array on a block dimension", "a list of tiles and a Python loop")
        chosen = tile.blocks[tuple(_block(item) for item in keys[:count])]
        base = chosen if isinstance(chosen, NkiTensor) else chosen.flat[0]
        dynamic = {dim: item for dim, item in enumerate(keys[count:]) if isinstance(item, Operand)}
        if len(dynamic) > 1:
            raise refusal("more than one tile of indices", "one .ap(vector_offset=…)")
        self._pattern = Pattern(base, keys[count:], {dim: _index_shape(item) for dim, item in dynamic.items()})
        self._dynamic = next(iter(dynamic.items()), None)
        self.shape, self.dtype, self.buffer = self._pattern.shape, base.dtype, base.buffer

    @property
    def indirect(self) -> bool:
        return self._dynamic is not None

    def at(self, box: Box | None = None) -> NkiTensor:
        if self._dynamic is None:
            return self._pattern.view(box)
        dim, index = self._dynamic
        part = None if box is None else (box[0], slice(0, 1))
        return self._pattern.view(box, index.at(part if index.shape[0] > 1 else None), dim)

    def __getitem__(self, key: Any) -> Operand:
        if key is Ellipsis or key == (Ellipsis,):
            return self
        return Tile(self.at())[key]

    def __setitem__(self, key: Any, value: Any) -> None:
        self[key].assign(value)


class Value(Tile):
    """What an instruction returns: issued when its place is known."""

    def __init__(
        self, shape: Sequence[int], dtype: DType, issue: Issue, *, mask: Any = None,
        home: MemoryRegion = SBUF, into: tuple[MemoryRegion, ...] = (SBUF, PSUM), exact: bool = False,
    ) -> None:  # fmt: skip
        """``exact``: the instruction casts to any dtype by itself (DMA), so that no rounding is left out."""
        flush()
        self.shape, self.dtype, self.buffer = tuple(shape), dtype, home
        self._issue, self.mask, self._into, self._exact = issue, mask, into, exact
        self._made: Array | None = None
        self.pending = True
        active().state[_PENDING] = self

    @property
    def blocks(self) -> Array:
        if self._made is None:
            self._done()
            shape = self.shape if len(self.shape) > 1 else (*self.shape, 1)
            tensor = active().allocate(shape, self.dtype, self.buffer)
            self._made = np.empty((), object)
            self._made[()] = tensor
            self._fill(tensor, lambda box: narrow(tensor, box))
        return self._made

    def fits(self, target: Operand) -> bool:
        """Whether the instruction may write to the target itself."""
        shapes = [tuple(size for size in shape if size != 1) for shape in (self.shape, target.shape)]
        rounds = self.dtype == target.dtype or self.dtype == float32 or self._exact
        return self.pending and rounds and shapes[0] == shapes[1] and target.buffer in self._into

    def issue_into(self, target: Operand) -> None:
        self._done()
        self._fill(None if self.mask is None else target.at(), target.at)

    def _done(self) -> None:
        self.pending = False
        if active().state.get(_PENDING) is self:
            del active().state[_PENDING]

    def _fill(self, whole: NkiTensor | None, part: Callable[[Box | None], NkiTensor]) -> None:
        if self.mask is None:
            self._issue(part(None), None)
            return
        if whole is not None:
            undefined(whole)
        for box in boxes(self.mask, self.shape):
            self._issue(part(box), box)


class Product(Value):
    """A matrix product, which PSUM adds to itself under ``+=``."""

    def __init__(self, shape: Sequence[int], multiply: Callable[[NkiTensor, bool | None], Any]) -> None:
        super().__init__(shape, float32, lambda dst, _: multiply(dst, False), home=PSUM, into=(PSUM,), exact=True)
        self._multiply = multiply

    def fits(self, target: Operand) -> bool:
        return target.dtype in (float32, bfloat16) and super().fits(target)

    def accumulate_into(self, target: Operand) -> None:
        self._done()
        self._multiply(target.at(), None)


class LoopSum:
    """``nl.loop_reduce``: what one iteration adds to the place it is assigned to."""

    def __init__(self, value: Operand, op: str, first: bool, dtype: DType) -> None:
        self.value, self.op, self.first, self.dtype = value, op, first, dtype

    def add_to(self, target: Operand) -> None:
        """The first iteration sets, later ones add."""
        target.assign(cast(self.value, self.dtype) if self.first else binary(self.op, target, self.value, self.dtype))


def flush() -> None:
    """Issue the value that was kept back."""
    value = active().state.get(_PENDING)
    if value is not None:
        value.blocks  # noqa: B018 - the property allocates and issues


def cast(source: Operand, dtype: Any, mask: Any = None) -> Value:
    """A copy of a tile in another dtype."""
    kind = lookup(dtype)
    if kind is None:
        raise violation("cast", "dtype", "unknown", value=dtype, expected="one of nki.language's", rule="dtype")
    tile = on_chip(source)
    return Value(tile.shape, kind, lambda dst, box: nisa.tensor_copy(dst, tile.at(box)), mask=mask)


def on_chip(value: Any) -> Operand:
    """An operand that engines reach: tensors in HBM are loaded first."""
    if not isinstance(value, Operand):
        raise violation("operand", "", "type", value=type(value).__name__, expected="a tile", rule="operand")
    if value.buffer.on_chip:
        return value
    return Value(value.shape, value.dtype, lambda dst, box: nisa.dma_copy(dst, value.at(box)), into=(SBUF,))


def binary(op: str, left: Any, right: Any, dtype: Any = None, mask: Any = None) -> Value:
    """``left op right``, of tiles and numbers, repeated along axes of size 1."""
    if op == "divide":
        return _divide(left, right, dtype, mask)
    tiles = [on_chip(side) if isinstance(side, Operand) else side for side in (left, right)]
    kind = lookup(dtype) if dtype is not None else result_type(op, *tiles)
    assert kind is not None
    if not all(isinstance(tile, Operand) for tile in tiles):
        reverse = not isinstance(tiles[0], Operand)
        data, number = tiles[::-1] if reverse else tiles
        value = _number(number, float32)

        def scalar(dst: NkiTensor, box: Box | None) -> None:
            nisa.tensor_scalar(dst, data.at(box), op, value, reverse0=reverse)

        return Value(data.shape, kind, scalar, mask=mask)
    shape = np.broadcast_shapes(*(_padded(tile.shape, max(t.ndim for t in tiles)) for tile in tiles))

    def tensors(dst: NkiTensor, box: Box | None) -> None:
        views = [tile.at(box) for tile in tiles]
        if all(view.buffer is PSUM for view in views):
            views[1] = to_sbuf(views[1])
        nisa.tensor_tensor(dst, *(spread(view, dst.shape) for view in views), op)

    return Value(shape, kind, tensors, mask=mask)


def _divide(left: Any, right: Any, dtype: Any, mask: Any) -> Value:
    """No engine divides: the product with the reciprocal."""
    if not isinstance(right, Operand):
        return binary("multiply", left, 1.0 / float(right), dtype, mask)
    tile = on_chip(right)
    inverse = Value(tile.shape, float32, lambda dst, box: nisa.reciprocal(dst, tile.at(box)), mask=mask)
    kind = dtype if dtype is not None else result_type("divide", left, right)
    return binary("multiply", left, inverse, kind, mask)


def result_type(op: str, *sides: Any) -> DType:
    """The dtype of a result: the wider float, and truth values for comparisons."""
    if op in ("equal", "not_equal", "less", "less_equal", "greater", "greater_equal") or op.startswith("logical"):
        return bool_
    kinds = [side.dtype for side in sides if isinstance(side, Operand)]
    floats = [kind for kind in kinds if kind.is_float]
    if not floats:
        fractional = any(isinstance(side, float) and not float(side).is_integer() for side in sides)
        return float32 if fractional else max(kinds, key=lambda kind: kind.itemsize)
    widest = max(floats, key=lambda kind: kind.itemsize)
    return float32 if any(k.itemsize == widest.itemsize and k != widest for k in floats) else widest


def zeroed(tensor: NkiTensor) -> None:
    """Remember that a PSUM tile was made of zeros: the first product overwrites them."""
    active().state.setdefault(_ZEROED, set()).add(tensor.storage.serial)


def _accumulates(target: NkiTensor) -> bool:
    """Whether PSUM's own accumulation gives ``target + product``."""
    if target.buffer is not PSUM or target.dtype not in (float32, bfloat16):
        return False
    storage = target.storage
    known = storage.serial in active().state.get(_ZEROED, ())
    return known or storage.matmul is not False or storage.written is False


def _expand(keys: tuple[Any, ...], ndim: int) -> tuple[Any, ...]:
    for place, item in enumerate(keys):
        if item is Ellipsis:
            fill = [slice(None)] * (ndim - len(keys) + 1)
            return (*keys[:place], *fill, *keys[place + 1 :])
    return keys


def _block(key: Any) -> Any:
    return key if isinstance(key, slice) else int(key)


def _plain(key: Any) -> Any:
    return int(key) if isinstance(key, np.integer) else key


def _index_shape(index: Operand) -> tuple[int, ...]:
    return index.shape if index.ndim > 1 else (*index.shape, 1)


def _padded(shape: tuple[int, ...], rank: int) -> tuple[int, ...]:
    """A shape of more axes, those added after the partition."""
    return (*shape[:1], *[1] * (rank - len(shape)), *shape[1:])


def _number(value: Any, dtype: DType) -> float | int:
    number = float(value)
    return number if dtype.is_float else int(number)
