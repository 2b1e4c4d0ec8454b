"""The pytest plugin under which AWS's kernel library's suite runs: ``-p trainshed.nki.conformance.plugin``.

The library is neither installed nor changed: its source folder goes on the path, and what its suite imports and
nobody publishes is supplied.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from trainshed.nki.conformance.standins import install

install()
# The suite was written for NKI 0.3, and its references quantise as that release did.
os.environ.setdefault("TRAINSHED_QUANTIZE_RULE", "0.4")


def _add_to_path(root: Path) -> None:
    """The library's own folders, before Python's ``test`` package."""
    for folder in (root, root / "src"):
        if str(folder) not in sys.path:
            sys.path.insert(0, str(folder))


@pytest.hookimpl(tryfirst=True)
def pytest_load_initial_conftests(early_config: pytest.Config) -> None:
    """Make the library importable before its ``conftest.py`` is read."""
    root = early_config.rootpath
    _add_to_path(root.parent if root.name == "test" else root)


def pytest_sessionstart(session: pytest.Session) -> None:
    """The suite asks in every mode what was compiled; in simulation nothing was."""
    from test.utils.test_orchestrator import Orchestrator

    Orchestrator._compiled_kernel = None
