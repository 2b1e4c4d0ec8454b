"""Files written whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path

from trainshed.core.errors import UserError


def check_path(path: Path, where: str, suffix: str) -> None:
    """Before a long run: the name ends in ``suffix``, its folder can be made, and a file can be written there."""
    if path.suffix.lower() != suffix:
        raise UserError("kind of file", where=where, value=str(path), expected=f"a name ending in {suffix}")
    nearest = next((one for one in path.absolute().parents if one.exists()), Path("/"))
    if path.is_dir() or not nearest.is_dir() or not os.access(nearest, os.W_OK | os.X_OK):
        raise UserError("cannot write", where=where, value=str(path), expected="a file in a folder that may be written")


def write_whole(path: Path, data: bytes) -> None:
    """Write a file under another name first; folders are made. An ``OSError`` leaves nothing behind."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".part")
    try:
        temporary.write_bytes(data)
        temporary.replace(path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
