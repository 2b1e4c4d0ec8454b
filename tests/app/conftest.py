"""Runs the command in this process, as the shell would."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from trainshed.app.cli import main


@dataclass(frozen=True)
class Ran:
    """What a command left behind."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


Runner = Callable[[str], Ran]


@pytest.fixture
def trainshed(capsys: pytest.CaptureFixture[str]) -> Runner:
    def run(arguments: str) -> Ran:
        with pytest.raises(SystemExit) as stop:
            main(shlex.split(arguments))
        said = capsys.readouterr()
        return Ran(int(stop.value.code or 0), said.out, said.err)

    return run
