"""``import nki`` gives ours where the vendor's is not installed.

A finder stands first in ``sys.meta_path`` and answers for ``nki`` and ``neuronxcc`` alone. It looks for a real
package first, which keeps its name. A folder without ``__init__.py`` is none, nor is the placeholder of that name
on the public package index (version 0.0.1), which holds nothing.
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
DECOYS = {"nki": "0.0.1", "neuronx-cc": "1.0.post1"}
_DISTRIBUTION = {"nki": "nki", "neuronxcc": "neuronx-cc"}
_OURS = {"nki": "trainshed.nki", "neuronxcc": "trainshed.nki.beta1.neuronxcc"}


def installed(package: str) -> bool:
    """Whether the vendor's own package of this name can be imported."""
    spec = importlib.machinery.PathFinder.find_spec(package)
    if spec is None or spec.origin is None:
        return False
    name = _DISTRIBUTION[package]
    try:
        return importlib.metadata.version(name) != DECOYS[name]
    except importlib.metadata.PackageNotFoundError:
        return True


class _Loader(importlib.abc.Loader):
    """Gives one of our modules under the vendor's name."""

    def __init__(self, target: str) -> None:
        self.target = target
        self._spec: importlib.machinery.ModuleSpec | None = None

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType:
        module = importlib.import_module(self.target)
        self._spec = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        """Nothing to run: the module has run under its own name, which its ``__spec__`` keeps."""
        module.__spec__ = self._spec


class Finder(importlib.abc.MetaPathFinder):
    """Finds ``nki`` and what is under it in ``trainshed.nki``."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        package, _, rest = fullname.partition(".")
        if package not in _OURS:
            return None
        if rest:
            parent = sys.modules.get(package)
            if parent is None or not parent.__name__.startswith("trainshed."):
                return None
        elif installed(package):
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


def _forget(package: str) -> None:
    """Take a placeholder, or a folder without ``__init__.py``, that was imported before out of ``sys.modules``.

    A module that no path of Python's leads to stays: somebody made it. So does every real package.
    """
    loaded = sys.modules.get(package)
    spec = getattr(loaded, "__spec__", None)
    if loaded is None or spec is None or loaded.__name__.startswith("trainshed."):
        return
    found = importlib.machinery.PathFinder.find_spec(package)
    if found is None or found.origin != spec.origin or installed(package):
        return
    for name in [name for name in sys.modules if name == package or name.startswith(f"{package}.")]:
        del sys.modules[name]


def install() -> bool:
    """Install the hook; False where a real ``nki`` is installed, which keeps its name."""
    if _FINDER not in sys.meta_path:
        sys.meta_path.insert(0, _FINDER)
    for package in _OURS:
        _forget(package)
    loaded = sys.modules.get("nki")
    return loaded.__name__.startswith("trainshed.") if loaded is not None else not installed("nki")
