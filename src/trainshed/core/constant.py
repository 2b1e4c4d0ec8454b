"""A sourced number: the only kind of number that hardware and software data may hold."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, TypeVar, get_args

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Number = float | Array
Status = Literal["published", "derived", "measured", "estimated", "announced", "fitted", "given"]
"""``given`` is a number the user set (``--set``, a TOML of their own, a price)."""

#: Units in which less is better; a sensitivity improves these by dividing.
LOWER_IS_BETTER = frozenset({"s", "J", "W", "USD", "USD/h", "cycle", "J/B", "J/MAC", "J/element"})
#: Units that count things that cannot be ten percent better: shape, not speed.
STRUCTURAL = frozenset({"count", "element", "row", "column"})

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Constant:
    """One number with its unit (SI), status and source.

    ``name`` is the full dotted name, e.g. ``chip/trn3.hbm_bandwidth``: what ``--set``, ``explain`` and the fitted
    files use. ``value`` is a float, or an array when a sensitivity or a fit stacks changed values on an axis.
    """

    name: str
    value: Number
    unit: str
    status: Status
    source: str
    date: str = ""
    note: str = ""
    alternatives: tuple[Constant, ...] = field(default=(), compare=False)
    """The same number as other sources print it (conflicts are kept, see ``note`` for why this one is used)."""

    def __post_init__(self) -> None:
        if self.status not in get_args(Status):
            raise ValueError(f"{self.name}: status {self.status!r} is not one of {', '.join(get_args(Status))}")
        if not self.source:
            raise ValueError(f"{self.name}: a number needs a source")
        if not np.all(np.isfinite(self.value)):
            raise ValueError(f"{self.name}: value {self.value!r} is not finite; leave an unknown number out")

    @property
    def structural(self) -> bool:
        """True for counts (cores, chips, array rows): they shape the machine and are never varied."""
        return self.unit in STRUCTURAL

    @property
    def lower_is_better(self) -> bool:
        """True if a smaller value makes the machine better (latencies, energies, prices)."""
        return self.unit in LOWER_IS_BETTER

    def with_value(self, value: Number, **changes: Any) -> Constant:
        """The same constant with another value (and other fields)."""
        return replace(self, value=value, **changes)

    def to_json(self) -> dict[str, object]:
        """The entry of ``constants[]`` in an explanation, without the name used in the formula."""
        return {
            "name": self.name, "value": float(np.asarray(self.value).flat[0]), "unit": self.unit,
            "status": self.status, "source": self.source,
        }  # fmt: skip


def map_constants(thing: T, change: Callable[[Constant], Constant]) -> T:
    """A copy of a tree of frozen dataclasses, tuples and mappings with every Constant replaced by ``change(it)``.

    Unchanged branches are shared, not copied.
    """
    if isinstance(thing, Constant):
        return change(thing)  # type: ignore[return-value]
    if dataclasses.is_dataclass(thing) and not isinstance(thing, type):
        fields = {f.name: getattr(thing, f.name) for f in dataclasses.fields(thing) if f.init}
        new = {k: map_constants(v, change) for k, v in fields.items()}
        return thing if all(new[k] is fields[k] for k in fields) else replace(thing, **new)
    if isinstance(thing, tuple):
        items = tuple(map_constants(v, change) for v in thing)
        return thing if all(a is b for a, b in zip(items, thing, strict=True)) else items  # type: ignore[return-value]
    if isinstance(thing, Mapping):
        mapped = {k: map_constants(v, change) for k, v in thing.items()}
        return thing if all(mapped[k] is thing[k] for k in thing) else mapped  # type: ignore[return-value]
    return thing


def replace_values(thing: T, values: Mapping[str, Number]) -> T:
    """``thing`` with the constants named in ``values`` (full names) set to those values."""
    return map_constants(thing, lambda c: c.with_value(values[c.name]) if c.name in values else c)
