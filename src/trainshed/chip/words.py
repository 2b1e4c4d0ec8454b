"""The vendor's enumerations, spelled as NKI spells them.

Source: the type stubs of NKI 0.6 (``nki.isa``, ``nki.language``).
"""
# ruff: noqa: N801 - these class names are the vendor's.

from __future__ import annotations

from enum import Enum, IntEnum
from typing import Any


class MemoryRegion(str, Enum):
    """Where a tensor lives."""

    sbuf = "sbuf"
    psum = "psum"
    private_hbm = "private_hbm"
    shared_hbm = "shared_hbm"

    on_chip: bool
    """SBUF or PSUM (an attribute: every instruction asks)."""

    def __init__(self, value: str) -> None:
        self.on_chip = value in ("sbuf", "psum")

    def __str__(self) -> str:
        return str.__str__(self)


class engine(Enum):
    unknown = 0
    tensor = 1
    scalar = 2
    gpsimd = 3
    dma = 4
    vector = 5
    sync = 6


class reduce_cmd(Enum):
    """What an instruction does to the hidden accumulators: leave, clear, add, clear and add, load and add."""

    idle = 0
    reset = 1
    reduce = 2
    reset_reduce = 3
    load_reduce = 4


class dge_mode(Enum):
    """Who makes DMA descriptors: the compiler's choice, GpSimd software, the hardware block, the runtime beforehand."""

    unknown = 0
    swdge = 1
    hwdge = 2
    none = 3


class oob_mode(Enum):
    error = 0
    skip = 1


class matmul_perf_mode(Enum):
    none = "none"
    double_row = "double_row"


class nc_version(IntEnum):
    gen2 = 2
    gen3 = 3
    gen4 = 4


class dma_engine(Enum):
    dma = 1
    gpsimd_dma = 2


class NKIObject:
    """Base of what a kernel may hold besides numbers: the vendor's compiler takes only classes derived from it.

    Its subclasses are like data classes, with or without the decorator: every attribute of the class is a field, and a
    field without a default is None. Source: the NKI language guide, "Class support".
    """

    __slots__ = ()

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "__init__" in vars(cls) or "__slots__" in vars(cls):
            return
        annotations = vars(cls).get("__annotations__", {})
        for name in annotations:
            if name not in vars(cls):
                setattr(cls, name, None)
        plain = {
            name: type(value)
            for name, value in vars(cls).items()
            if not name.startswith("__") and name not in annotations and isinstance(value, _FIELD)
        }
        if plain:
            cls.__annotations__ = {**annotations, **plain}

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        names = [name for base in reversed(type(self).__mro__) for name in vars(base).get("__annotations__", {})]
        if len(args) > len(names):
            raise TypeError(f"{type(self).__name__} takes {len(names)} fields, {len(args)} were given")
        for name in names:
            setattr(self, name, getattr(type(self), name, None))
        for name, value in (*zip(names, args, strict=False), *kwargs.items()):
            setattr(self, name, value)
        ended = getattr(self, "__post_init__", None)
        if ended is not None:
            ended()


#: Class attributes of these types are fields even without an annotation.
_FIELD = (int, float, str, bool, tuple, Enum, type(None))
