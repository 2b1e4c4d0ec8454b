"""``import nki`` gives ours where the vendor's is not installed.

A finder stands last in ``sys.meta_path``: whatever is really installed is found before it. The one exception is
the placeholder of that name on the public package index (version 0.0.1), which holds nothing.
"""

from __future__ import annotations

import importlib
import importlib.abc
import importlib.machinery
import importlib.metadata
import sys
from collections.abc import Sequence
from types import ModuleType

#: Distributions that are placeholders, and the version they have.
DECOYS = {"nki": "0.0.1", "neuronxcc": "1.0.post1", "neuronx-cc": "1.0.post1"}
_OURS = {"nki": "trainshed.nki", "neuronxcc": "trainshed.nki.beta1.neuronxcc"}


def _decoy(package: str) -> bool:
    """Whether the installed package of this name is only the placeholder."""
    for name in (package, "neuronx-cc" if package == "neuronxcc" else package):
        try:
            version = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
        if version == DECOYS.get(name):
            return True
    return False


class _Loader(importlib.abc.Loader):
    """Gives one of our modules under the vendor's name."""

    def __init__(self, target: str) -> None:
        self.target = target

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType:
        return importlib.import_module(self.target)

    def exec_module(self, module: ModuleType) -> None:
        """Nothing: the module has run under its own name."""


class Finder(importlib.abc.MetaPathFinder):
    """Finds ``nki`` and what is under it in ``trainshed.nki``."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        package, _, rest = fullname.partition(".")
        if package not in _OURS:
            return None
        ours = f"{_OURS[package]}.{rest}" if rest else _OURS[package]
        try:
            module = importlib.import_module(ours)
        except ModuleNotFoundError as error:
            if error.name is not None and (ours == error.name or ours.startswith(f"{error.name}.")):
                return None
            raise
        return importlib.machinery.ModuleSpec(fullname, _Loader(ours), is_package=hasattr(module, "__path__"))


_FINDER = Finder()


def install() -> bool:
    """Install the hook; False where a real ``nki`` is installed, which keeps its name."""
    if _FINDER in sys.meta_path:
        return True
    if any(_decoy(package) for package in _OURS):
        sys.meta_path.insert(0, _FINDER)  # before the placeholder
    else:
        sys.meta_path.append(_FINDER)
    loaded = sys.modules.get("nki")
    return loaded is None or loaded.__name__.startswith("trainshed")
