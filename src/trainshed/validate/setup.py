"""The hardware and software that a set of predictions rests on, with some constants changed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

from trainshed.core import Number
from trainshed.hardware import Catalogue
from trainshed.software import Software

_SOFTWARE = ("framework/", "engine/")


@dataclass(frozen=True, kw_only=True)
class Setup:
    """A catalogue and a software table, made anew for each set of changed constants."""

    values: Mapping[str, Number] = field(default_factory=dict)
    """Full constant name → value that replaces the stored one."""
    extra: Sequence[Path] = ()
    """TOML files of a user's own hardware."""

    @classmethod
    def default(cls) -> Setup:
        """The data that ship with the package."""
        return cls()

    @cached_property
    def catalogue(self) -> Catalogue:
        """Hardware with the changed constants in it."""
        changed = {k: v for k, v in self.values.items() if not k.startswith(_SOFTWARE)}
        return Catalogue(extra=self.extra, overrides=changed)

    @cached_property
    def software(self) -> Software:
        """Engines and frameworks with the changed constants in them."""
        return Software(overrides={k: v for k, v in self.values.items() if k.startswith(_SOFTWARE)})

    def replaced(self, values: Mapping[str, Number]) -> Setup:
        """The same with further constants changed."""
        return replace(self, values={**self.values, **values})
