from pathlib import Path
from xml.etree import ElementTree

import pytest

from trainshed.report import page, plots
from trainshed.report.page import Grid, Section

PLOTS = {
    "pareto": plots.pareto("t", {"a": [(1.0, 2.0), (3.0, 1.0)], "none": []}, "x", "y"),
    "stacked": plots.stacked("t", {"one": {"a": 1.0, "b": 2.0}, "two": {"a": 3.0}}, "s"),
    "bars": plots.bars("t", {"known": 2.0, "unknown": None}, "USD"),
}


@pytest.mark.parametrize("name", PLOTS)
def test_plots_are_well_formed_and_the_same_every_time(name: str) -> None:
    root = ElementTree.fromstring(PLOTS[name])
    assert root.tag.endswith("svg")
    assert plots.bars("t", {"a": 1.0}, "s") == plots.bars("t", {"a": 1.0}, "s")


def test_what_is_unknown_is_written_not_drawn_as_zero() -> None:
    assert "not published" in PLOTS["bars"]


def test_the_page_needs_no_network_and_escapes_text(tmp_path: Path) -> None:
    grid = Grid(title="t", columns=("a", "b"), rows=[("<x>", "1")])
    section = Section(title="S", paragraphs=["p & q"], tables=[grid], plots=[PLOTS["bars"]], notes=["n"])
    page.write(tmp_path / "out" / "r.html", "Title", "lead", [section], "foot")
    text = (tmp_path / "out" / "r.html").read_text()
    assert "&lt;x&gt;" in text
    assert "<svg" in text
    for outside in ('src="http', 'href="http', "@import", "<script"):
        assert outside not in text
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["r.html"]
