"""Between a user's arrays and a kernel's tensors: NumPy, PyTorch and JAX arrays in, the same kind out."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from trainshed.chip.call import array, reinterprets
from trainshed.chip.core import NeuronCore
from trainshed.chip.errors import violation
from trainshed.chip.registers import VirtualRegister
from trainshed.chip.tensor import NkiTensor
from trainshed.chip.undefined import elements
from trainshed.chip.words import MemoryRegion, NKIObject
from trainshed.numerics.formats import PACKED, DType, lookup

Array = np.ndarray[Any, Any]
#: Bytes from which on an array is read where it lies until it is written. Below, a copy of its own, on a cache line, is
#: soon made.
_LENT = 1 << 28
#: What frameworks hand over in 64 bits goes to the device in 32.
_NARROW = {np.dtype(np.int64): np.int32, np.dtype(np.uint64): np.uint32, np.dtype(np.float64): np.float32}


def is_torch(value: object) -> bool:
    """Whether a value is a PyTorch tensor (PyTorch is never imported to find out)."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(value, torch.Tensor)


def is_array(value: object) -> bool:
    """Whether a value is an array of NumPy, PyTorch or JAX."""
    return (
        isinstance(value, np.ndarray)
        or is_torch(value)
        or (type(value).__module__.split(".")[0] in ("jax", "jaxlib") and hasattr(value, "__array__"))
    )


def to_numpy(value: Any) -> Array:
    """The values of any array; PyTorch's bfloat16 and float8 keep their bits."""
    if not is_torch(value):
        return np.asarray(value)
    kind = lookup(value.dtype)
    tensor = value.detach().cpu().contiguous()
    if kind is None or kind.storage.isbuiltin == 1:
        return np.asarray(tensor.numpy())
    torch = sys.modules["torch"]
    bits = tensor.view(torch.uint8 if kind.itemsize == 1 else torch.int16)
    return np.asarray(bits.numpy()).view(kind.storage)


@dataclasses.dataclass
class Taken:
    """One array argument: what the user gave, and the tensor it became."""

    given: Any
    dtype: np.dtype[Any]
    tensor: NkiTensor

    @property
    def values(self) -> Array:
        """The tensor's bytes as the array that was taken."""
        return self.tensor.storage.data.view(self.dtype)

    def give_back(self) -> None:
        """What the kernel wrote, into the user's array (the vendor's simulator updates inputs in place).

        An array that cannot be written, read-only or expanded, stays as it is.
        """
        if isinstance(self.given, np.ndarray):
            if self.given.flags.writeable:
                np.copyto(self.given, self._updated(), casting="unsafe")
        elif is_torch(self.given):
            if any(size > 1 and not step for size, step in zip(self.given.shape, self.given.stride(), strict=True)):
                return
            with sys.modules["torch"].no_grad():
                self.given.copy_(to_torch(self._updated()))

    def _updated(self) -> Array:
        """The values; of 64-bit arrays the elements that the kernel left alone keep all their bits."""
        values, before = self.values.reshape(self.given.shape), to_numpy(self.given)
        if before.dtype not in _NARROW:
            return values
        with np.errstate(over="ignore"):
            same = before.astype(values.dtype).view(np.uint32) == values.view(np.uint32)
        return np.where(same, before, values)


class Arguments:
    """A call's arguments with every array made a tensor in HBM, wherever it is nested."""

    def __init__(self, args: tuple[Any, ...], kwargs: dict[str, Any], names: dict[int, str]) -> None:
        self.taken: list[Taken] = []
        self._of: dict[int, Taken] = {}
        self._args, self._kwargs, self._names = args, kwargs, names
        self.torch = any(is_torch(value) for value in _leaves((args, kwargs)))

    def for_core(self, core: NeuronCore) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The arguments of one core: tensors are made for the first and shared by the others."""
        args = tuple(self._take(value, core, self._names.get(i, f"arg{i}")) for i, value in enumerate(self._args))
        return args, {name: self._take(value, core, name) for name, value in self._kwargs.items()}

    def _take(self, value: Any, core: NeuronCore, name: str) -> Any:
        if is_array(value):
            known = self._of.get(id(value))
            if known is None:
                known = self._of[id(value)] = _tensor(value, core, name)
                self.taken.append(known)
            shared = known.tensor
            return NkiTensor(shared.shape, shared.dtype, shared.storage)
        return rebuild(value, lambda item: self._take(item, core, name))


def _narrow(values: Array, name: str) -> Array:
    """64-bit values in the 32 bits they have on the device; integers must fit."""
    kind: np.dtype[Any] = np.dtype(_NARROW[values.dtype])
    if kind.kind in "iu" and values.size:
        limits = np.iinfo(kind)
        for extreme in (int(values.min()), int(values.max())):
            if not limits.min <= extreme <= limits.max:
                raise violation(
                    "kernel", name, f"value of a {values.dtype} array, which is {kind} on the device", value=extreme,
                    expected=f"{limits.min} to {limits.max}", rule="integer-range",
                )  # fmt: skip
    return values.astype(kind)


def _tensor(value: Any, core: NeuronCore, name: str) -> Taken:
    values = to_numpy(value)
    values = _narrow(values, name) if values.dtype in _NARROW else values
    kind = lookup(values.dtype)
    if kind is None:
        raise violation(
            "kernel", name, "dtype of the array", value=str(values.dtype), rule="dtype",
            expected="a dtype of nki.language",
        )  # fmt: skip
    shape = values.shape or (1,)
    # The user's own memory is only read, if at all: what the kernel writes is copied back when it ends.
    stored = np.ascontiguousarray(values).reshape(shape)
    inside = stored.view(kind.storage) if kind in PACKED else stored
    if not core.options.precise and kind.is_float:
        inside = inside.astype(np.float32, copy=False)
    # The vendor's simulator: "buffer=nl.hbm (or shared_hbm for LNC2)". All cores see it either way.
    region = MemoryRegion.shared_hbm if core.cores > 1 else MemoryRegion.private_hbm
    tensor = core.allocate(shape, kind, region, name=name, data=inside)
    tensor.storage.shared = True
    if stored.nbytes < _LENT:
        tensor.storage.own()
    return Taken(value, stored.dtype if core.options.precise else inside.dtype, tensor)


def rebuild(value: Any, change: Callable[[Any], Any]) -> Any:
    """Containers with their items changed; a container none of whose items change is returned as it is."""
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*(change(item) for item in value))
    if isinstance(value, tuple | list):
        items = [change(item) for item in value]
        return value if all(a is b for a, b in zip(items, value, strict=True)) else type(value)(items)
    if isinstance(value, dict):
        changed = {key: change(item) for key, item in value.items()}
        return value if all(changed[key] is value[key] for key in value) else changed
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {f.name: getattr(value, f.name) for f in dataclasses.fields(value) if hasattr(value, f.name)}
        new = {key: change(item) for key, item in fields.items()}
        return value if all(new[key] is fields[key] for key in fields) else _copy(value, new)
    if (
        isinstance(value, NKIObject)
        and not isinstance(value, NkiTensor | VirtualRegister)
        and hasattr(value, "__dict__")
    ):
        new = {key: change(item) for key, item in vars(value).items()}
        return value if all(new[key] is vars(value)[key] for key in new) else _copy(value, new)
    return value


def _copy(value: Any, attributes: dict[str, Any]) -> Any:
    made = object.__new__(type(value))
    for name, item in {**getattr(value, "__dict__", {}), **attributes}.items():
        object.__setattr__(made, name, item)
    return made


def tensors(value: Any) -> list[NkiTensor]:
    """The tensors that a kernel returned, wherever they are nested."""
    found: list[NkiTensor] = []

    def visit(item: Any) -> Any:
        if isinstance(item, NkiTensor):
            found.append(item)
            return item
        return rebuild(item, visit)

    visit(value)
    return found


def _leaves(value: Any) -> Iterator[Any]:
    if isinstance(value, tuple | list):
        for item in value:
            yield from _leaves(item)
    elif isinstance(value, dict):
        yield from _leaves(list(value.values()))
    else:
        yield value


def results(value: Any, *, torch: bool) -> Any:
    """What a kernel returned, tensors as arrays."""
    if isinstance(value, NkiTensor):
        values = outside(value)
        return to_torch(values) if torch else values
    if isinstance(value, VirtualRegister):
        return value.get()
    return rebuild(value, lambda item: results(item, torch=torch))


def outside(tensor: NkiTensor) -> Array:
    """A copy of a tensor's values as a user's array. Elements never written are 0, as in fresh device memory."""
    if reinterprets(tensor):
        raise violation(
            "kernel", "result", f"NKI_PRECISE_FP=0: dtype in which {tensor!r} sees a tensor of {tensor.storage.dtype}",
            value=str(tensor.dtype), expected=f"{tensor.storage.dtype}, for every float is stored as float32",
            rule="precise-view", at=tensor.storage.source,
        )  # fmt: skip
    values = np.array(array(tensor), order="C")
    if tensor.storage.written is not True and tensor.indirection is None:
        values[elements(tensor)] = np.zeros((), values.dtype)
    kind: DType = tensor.dtype
    if tensor.storage.scale != 1:
        return values.astype(kind.storage)
    return values.view(kind.outside) if kind in PACKED else values


def to_torch(values: Array) -> Any:
    """A PyTorch tensor of the same values (PyTorch is loaded: an argument was its tensor)."""
    torch = sys.modules["torch"]
    kind = lookup(values.dtype)
    if kind is None or kind.storage.isbuiltin == 1:
        return torch.from_numpy(values.view(values.dtype[0]) if values.dtype.names else values)
    bits = torch.from_numpy(values.view(np.uint8 if kind.itemsize == 1 else np.int16))
    return bits.view(getattr(torch, str(kind), torch.uint8))
