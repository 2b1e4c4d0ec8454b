"""Numbers a user or a fit puts in place of the catalogue's, by full constant name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from trainshed.core import Constant, Number

SET_BY_USER = "set by the user"


@dataclass(frozen=True, kw_only=True)
class Values:
    """``given``: what the user set (status ``given``); ``overrides``: what fits and sensitivities vary."""

    given: Mapping[str, Number] = field(default_factory=dict)
    overrides: Mapping[str, Number] = field(default_factory=dict)

    def apply(self, constant: Constant) -> Constant:
        """The constant with its value replaced, if it is named here."""
        if constant.name in self.given:
            constant = constant.with_value(self.given[constant.name], status="given", source=SET_BY_USER)
        if constant.name in self.overrides:
            constant = constant.with_value(self.overrides[constant.name])
        return constant

    def absent(self, name: str, unit: str) -> Constant | None:
        """A constant that the catalogue lacks but the user set (idle power, a price), or None."""
        value = self.given.get(name, self.overrides.get(name))
        if value is None:
            return None
        return self.apply(Constant(name=name, value=value, unit=unit, status="given", source=SET_BY_USER))
