"""Virtual registers: 32-bit integers that an engine's sequencer holds while a kernel runs."""

from __future__ import annotations

import os
import sys
from typing import Any

from trainshed.chip.errors import ours, source, violation
from trainshed.chip.operators import NoOperators
from trainshed.chip.words import NKIObject


class VirtualRegister(NKIObject):
    """A register; arithmetic on it gives a new one. Its value is not known when a kernel is compiled."""

    __slots__ = ("frozen", "value")

    def __init__(self, value: int | None = None, frozen: bool = False) -> None:
        self.value, self.frozen = value, frozen

    def get(self) -> int:
        """The value now."""
        if self.value is None:
            raise violation(
                "register", "", "read before it was set", value=None, expected="register_move or register_load first",
                rule="uninitialised-register",
            )  # fmt: skip
        return self.value

    def _known(self, use: str) -> None:
        """With ``NKI_COMPILER_FRONTEND=tracer`` a kernel's Python never sees a register's value.

        Source: ``nki.isa.VirtualRegister``: under the tracer, ``if``, ``while``, ``int()`` and ``range()`` of a
        register raise ``TypeError``.
        """
        if os.environ.get("NKI_COMPILER_FRONTEND") == "tracer" and not ours(sys._getframe(2).f_code.co_filename):
            raise TypeError(
                f"{source()}: {use} of a register, whose value is not known while a kernel is traced: use nl.fori_loop "
                "or nl.while_loop"
            )

    def __index__(self) -> int:
        self._known("index or range")
        return self.get()

    def __int__(self) -> int:
        self._known("int()")
        return self.get()

    def __bool__(self) -> bool:
        self._known("truth")
        return self.get() != 0

    def __repr__(self) -> str:
        return f"VirtualRegister({self.value})"

    def _binary(self, other: Any, operation: Any) -> VirtualRegister:
        if isinstance(other, NoOperators):
            return NotImplemented  # type: ignore[no-any-return] # the tensor says what to write
        return VirtualRegister(operation(self.get(), int(other)))

    def __add__(self, other: Any) -> VirtualRegister:
        return self._binary(other, int.__add__)

    __radd__ = __add__

    def __sub__(self, other: Any) -> VirtualRegister:
        return self._binary(other, int.__sub__)

    def __rsub__(self, other: Any) -> VirtualRegister:
        return self._binary(other, int.__rsub__)

    def __mul__(self, other: Any) -> VirtualRegister:
        return self._binary(other, int.__mul__)

    __rmul__ = __mul__

    def __floordiv__(self, other: Any) -> VirtualRegister:
        return self._binary(other, int.__floordiv__)

    def __mod__(self, other: Any) -> VirtualRegister:
        return self._binary(other, int.__mod__)

    def __lt__(self, other: Any) -> VirtualRegister:
        return self._binary(other, int.__lt__)

    def __le__(self, other: Any) -> VirtualRegister:
        return self._binary(other, int.__le__)

    def __gt__(self, other: Any) -> VirtualRegister:
        return self._binary(other, int.__gt__)

    def __ge__(self, other: Any) -> VirtualRegister:
        return self._binary(other, int.__ge__)

    def __eq__(self, other: object) -> Any:
        return self._binary(other, int.__eq__) if isinstance(other, int | VirtualRegister) else NotImplemented

    def __ne__(self, other: object) -> Any:
        return self._binary(other, int.__ne__) if isinstance(other, int | VirtualRegister) else NotImplemented

    __hash__ = object.__hash__
