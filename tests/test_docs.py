"""README and the pages of docs/ run as they are printed, or fail."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from trainshed.app.cli import main

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"^```(bash|python)\n(.*?)^```", re.MULTILINE | re.DOTALL)
#: Commands that the docs show and other tests or targets run: they take minutes or write into the tree.
ELSEWHERE = ("trainshed validate", "trainshed demo", "trainshed claims", "make ", "python -m", "pip ", "source ")


def blocks(kind: str) -> list[tuple[str, str]]:
    found = []
    for page in PAGES:
        for language, text in BLOCK.findall(page.read_text(encoding="utf-8")):
            if language == kind:
                found.append((page.name, text))
    return found


def commands() -> list[tuple[str, str]]:
    lines = [(page, line.strip()) for page, text in blocks("bash") for line in text.replace("\\\n", " ").splitlines()]
    kept = [(page, line.split(" #")[0]) for page, line in lines if line and not line.startswith(("#", *ELSEWHERE))]
    return list(dict.fromkeys(kept))


@pytest.mark.parametrize(("page", "command"), commands())
def test_a_printed_command_runs(page: str, command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program, *arguments = shlex.split(command)
    assert program == "trainshed", f"{page}: {command}"
    monkeypatch.chdir(tmp_path)
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 0


@pytest.mark.parametrize(("page", "code"), blocks("python"))
def test_printed_python_runs(page: str, code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    exec(compile(code, page, "exec"), {"__name__": "docs"})


def test_links_between_pages_lead_somewhere() -> None:
    for page in PAGES:
        for target in re.findall(r"\]\(((?!http)[^)#]+)\)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"
