"""Python's operators, which NKI Beta 1 had on tiles and NKI 0.2 and later do not: what to write instead.

Source: NKI migration guide, 0.1.0 to 0.2.0: instructions take a destination, and ``NkiTensor`` (type stubs of NKI 0.6)
has no operators.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from trainshed.chip.errors import NkiValidationError, source, violation

#: Operators of two operands: method, sign, function of ``nki.language``.
_BINARY = (
    ("add", "+", "add"), ("sub", "-", "subtract"), ("mul", "*", "multiply"), ("truediv", "/", "divide"),
    ("floordiv", "//", "divide"), ("mod", "%", "mod"), ("pow", "**", "power"), ("and", "&", "bitwise_and"),
    ("or", "|", "bitwise_or"), ("xor", "^", "bitwise_xor"), ("lshift", "<<", "left_shift"),
    ("rshift", ">>", "right_shift"), ("divmod", "divmod", "divide"),
)  # fmt: skip
_COMPARING = (("lt", "<", "less"), ("le", "<=", "less_equal"), ("gt", ">", "greater"), ("ge", ">=", "greater_equal"))
_UNARY = {
    "pos": ("+", "x as it is, or nisa.tensor_copy(dst, src)"),
    "round": ("round()", "nisa.tensor_copy(dst, src), dst of an integer dtype"),
    "neg": ("-", "nl.negative(x), or nisa.tensor_scalar(dst, data, op0=nl.multiply, operand0=-1.0)"),
    "invert": ("~", "nl.invert(x)"),
    "abs": ("abs()", "nl.abs(x), or nisa.activation(dst, op=nl.abs, data=x)"),
}


def _refused(sign: str, operands: str, instead: str) -> NkiValidationError:
    return violation(
        f"operator {sign}", "", "operator of tensors, which only NKI Beta 1 has", value=operands, expected=instead,
        rule="operator",
    )  # fmt: skip


def _instead(function: str, number: bool, reflected: bool) -> str:
    if function == "divide":  # no engine divides (NKI release notes, 0.4.0, "Known issues")
        return "nl.multiply(x, nl.reciprocal(y)), or nisa.reciprocal(dst, data) and a multiplication"
    if number:
        reverse = ", reverse0=True" if reflected and function in ("subtract", "power", "mod") else ""
        return f"nl.{function}(x, y), or nisa.tensor_scalar(dst, data, op0=nl.{function}, operand0=…{reverse})"
    return f"nl.{function}(x, y), or nisa.tensor_tensor(dst, data1, data2, op=nl.{function})"


def _binary(sign: str, function: str, reflected: bool) -> Callable[[Any, Any], Any]:
    def method(self: Any, other: Any) -> Any:
        left, right = (other, self) if reflected else (self, other)
        instead = _instead(function, not isinstance(other, NoOperators), reflected)
        raise _refused(sign, f"{left!r} {sign} {right!r}", instead)

    return method


def _unary(sign: str, instead: str) -> Callable[[Any], Any]:
    def method(self: Any, *_: Any) -> Any:
        raise _refused(sign, f"{sign} of {self!r}", instead)

    return method


#: Methods of Beta 1's tiles.
_METHODS = {
    "astype": "nisa.tensor_copy(dst, src), dst of the other dtype",
    "broadcast_to": "x.broadcast(dim, size)",
    "assign": "nisa.tensor_copy(dst, src)",
}


#: Conversions to Python's numbers, which would need the value while the kernel is compiled.
_NUMBERS = ("float", "int", "complex", "trunc", "floor", "ceil")


def _number(name: str) -> Callable[[Any], Any]:
    def method(self: Any) -> Any:
        raise violation(
            f"{name}()", "", "Python number of a tensor, whose values no kernel sees", value=self,
            expected="an instruction, nisa.register_load for a number that loops or addresses need, or print",
            rule="operator",
        )  # fmt: skip

    return method


class NoMethodError(NkiValidationError, AttributeError):
    """A method that tensors no longer have."""


class NoOperators:
    """Base of tensors: each operator, and each method of Beta 1's tiles, is the error that names what to use."""

    __slots__ = ()

    def __getattr__(self, name: str) -> Any:
        if name not in _METHODS:
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}", name=name, obj=self)
        at = source()
        raise NoMethodError(
            f"{name}: method of tensors, which only NKI Beta 1 has", where=str(at), value=f"{self!r}.{name}",
            expected=_METHODS[name], rule="operator", at=at,
        )  # fmt: skip

    def __matmul__(self, other: Any) -> Any:
        raise _refused("@", f"{self!r} @ {other!r}", "nl.matmul(x, y), or nisa.nc_matmul(dst, stationary, moving)")

    __rmatmul__ = __matmul__


for _name, _sign, _function in (*_BINARY, *_COMPARING):
    setattr(NoOperators, f"__{_name}__", _binary(_sign, _function, reflected=False))
for _name, _sign, _function in _BINARY:
    setattr(NoOperators, f"__r{_name}__", _binary(_sign, _function, reflected=True))
for _name, (_sign, _text) in _UNARY.items():
    setattr(NoOperators, f"__{_name}__", _unary(_sign, _text))
for _name in _NUMBERS:
    setattr(NoOperators, f"__{_name}__", _number(_name))
