import io
import json
from pathlib import Path

from rich.console import Console

from trainshed.app.demo import SYSTEMS, run_demo


def test_the_demo_prints_its_answers_and_writes_both_files(tmp_path: Path) -> None:
    said = io.StringIO()
    run_demo(tmp_path, Console(file=said, width=140))
    text = said.getvalue()
    for system in SYSTEMS:
        assert system in text
    assert "no price" in text
    assert "Evidence" in text
    assert (tmp_path / "report.html").read_text().count("<svg") == 8
    spans = [e for e in json.loads((tmp_path / "step.perfetto.json").read_text())["traceEvents"] if e["ph"] == "X"]
    assert spans
