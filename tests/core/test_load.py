"""The strict loader: numbers with their sources, and mistakes told with file, key and line."""

from __future__ import annotations

from pathlib import Path

import pytest

from trainshed.core import UserError
from trainshed.core.load import Table, quantity, read

GOOD = """\
title = "A"

[sources]
page = { source = "the vendor's page", status = "published", date = "2025-01-01" }

[chip]
bandwidth = { value = "4.9 TB/s", from = "page", note = "why", alternatives = [
    { value = "4.7 TB/s", source = "another page", status = "estimated" },
] }
cores = { value = 8, source = "count", status = "derived" }

[[levels]]
name = "a"

[[levels]]
name = "b"
speed = { value = "3", from = "page" }
"""


def load(tmp_path: Path, text: str) -> Table:
    path = tmp_path / "chips" / "x.toml"
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    return read(path)


def test_number_with_origin_and_alternatives(tmp_path: Path) -> None:
    root = load(tmp_path, GOOD)
    chip = root.table("chip")
    assert chip is not None
    c = chip.number("bandwidth", "B/s", name="chip/x.bandwidth")
    assert (c.value, c.unit, c.status, c.source, c.date) == (
        4.9e12, "B/s", "published", "the vendor's page", "2025-01-01",
    )  # fmt: skip
    assert c.note == "why"
    assert [(a.name, a.value, a.status) for a in c.alternatives] == [
        ("chip/x.bandwidth.alternative1", 4.7e12, "estimated")
    ]
    assert chip.number("cores", "count", name="n").value == 8
    chip.done()


SOURCES = '[sources]\np = { source = "s", status = "published" }\n'


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ('tdp = { value = "700", from = "p" }', ["a quantity needs a unit", "x.toml, key tdp, line 2", "in W"]),
        ('tdp = { value = "-7 W", from = "p" }', ["not negative", "line 2"]),
        ('tdp = { value = "7 GB", from = "p" }', ["not this kind", "line 2"]),
        ('tdp = { value = 700, from = "p" }', ["a quantity needs a unit", "line 2"]),
        ('tdp = { value = true, from = "p" }', ["needs a value"]),
        ('tdp = { value = "7 W" }', ["needs a source", "line 2"]),
        ('tdp = { value = "7 W", source = "s" }', ["needs a status"]),
        ('tdp = { value = "7 W", source = "s", status = "publishd" }', ["unknown status", "published"]),
        ('tdp = { value = "7 W", from = "q" }', ["unknown source", "'q'"]),
        ('tdp = { value = "7 W", from = "p", nots = "W" }', ["unknown key of a number", "note"]),
        ('tdp = { value = "7 W", from = "p", alternatives = ["8 W"] }', ["wrong alternatives"]),
        ('tdp = "7 W"', ["wrong kind", "line 2"]),
        ("x = 1", ["missing key tdp"]),
    ],
)
def test_bad_numbers(tmp_path: Path, line: str, words: list[str]) -> None:
    table = load(tmp_path, f"# a comment\n{line}\n{SOURCES}")
    with pytest.raises(UserError) as error:
        table.number("tdp", "W", name="n")
    for word in words:
        assert word in str(error.value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a = 1\na = 2\n", ["broken TOML", "x.toml", "line 2"]),
        ("a = \n", ["broken TOML", "line 1"]),
        ("[sources]\np = { status = 'published' }\n", ["bad source", "line 2"]),
        ("[sources]\np = { source = 's', stauts = 'published' }\n", ["bad source"]),
    ],
)
def test_broken_files(tmp_path: Path, text: str, words: list[str]) -> None:
    with pytest.raises(UserError) as error:
        load(tmp_path, text)
    for word in words:
        assert word in str(error.value)


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot read the file"):
        read(tmp_path / "none.toml")


def test_unknown_key_names_line_and_nearest(tmp_path: Path) -> None:
    root = load(tmp_path, 'title = "A"\n\n[chip]\ncores = 2\nclok = 3\n')
    root.text("title")
    chip = root.table("chip")
    assert chip is not None
    root.done()
    chip.integer("cores")
    chip.flag("clock")
    with pytest.raises(UserError, match=r"key chip.clok, line 5: unknown key: 'clok'; expected one of clock"):
        chip.done()


def test_lines_in_arrays_of_tables(tmp_path: Path) -> None:
    root = load(tmp_path, GOOD)
    first, second = root.tables("levels")
    with pytest.raises(UserError, match="line 13"):
        first.integer("name")
    with pytest.raises(UserError, match="needs a unit") as error:
        second.number("speed", "B/s", name="n")
    assert "line 17" in str(error.value)


def test_kinds(tmp_path: Path) -> None:
    table = load(tmp_path, 'a = "x"\nb = [1, 2]\nc = ["u"]\nd = true\ne = 0\nf = [1, 0]\ng = 4\n')
    assert (table.text("a"), table.integers("b"), table.texts("c"), table.flag("d")) == ("x", (1, 2), ("u",), True)
    assert (table.text("z", "w"), table.optional_text("z"), table.flag("z")) == ("w", None, False)
    assert table.integer("g") == 4
    assert table.table("z") is None
    assert table.tables("z") == []
    assert table.optional_number("z", "s", name="n") is None
    assert list(table) == table.keys() == list("abcdefg")
    assert "a" in table
    for read_wrongly in (
        lambda: table.integer("e"), lambda: table.integers("f"), lambda: table.texts("b"), lambda: table.integer("d"),
        lambda: table.text("g"), lambda: table.flag("g"), lambda: table.table("a"), lambda: table.tables("a"),
        lambda: table.choice("a", ["y"]),
    ):  # fmt: skip
        with pytest.raises(UserError):
            read_wrongly()
    assert table.choice("a", ["x", "y"]) == "x"


def test_quantity_of_a_user() -> None:
    assert quantity("1 GiB", "B", where="--bytes") == 2**30
    with pytest.raises(UserError, match=r"--bytes: a quantity needs a unit: '7'; expected a number with a unit, in B"):
        quantity(7, "B", where="--bytes")
