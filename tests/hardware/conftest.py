"""The catalogue as shipped, read once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from trainshed.hardware.catalogue import Catalogue


@pytest.fixture(scope="session")
def catalogue() -> Catalogue:
    return Catalogue()


@pytest.fixture
def user_toml(tmp_path: Path) -> Callable[[str], Path]:
    """Writes a user's own TOML and returns its path."""

    def write(text: str) -> Path:
        path = tmp_path / "mine.toml"
        path.write_text(text)
        return path

    return write
