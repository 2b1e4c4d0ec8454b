import json
from pathlib import Path

import pytest

from trainshed.core import Cost, formula, longest, scaled, total
from trainshed.report import perfetto


def step() -> Cost:
    a, b, c = (formula(name, "s", "v", v=v) for name, v in (("a", 2e-3), ("b", 3e-3), ("c", 1e-3)))
    return total("step", [scaled("layers", total("layer", [a, longest("overlap", [b, c])]), 7.0), c])


def test_top_spans_cover_the_step_and_children_their_parent() -> None:
    every = list(perfetto.spans(step(), "stage"))
    root, *rest = every
    assert root.duration == pytest.approx(7 * 5e-3 + 1e-3)
    layers = next(s for s in rest if s.name == "layers")
    inside = [s for s in rest if s.name in ("a", "overlap")]
    assert sum(s.duration for s in inside) == pytest.approx(layers.duration) == pytest.approx(35e-3)
    assert all(layers.start <= s.start and s.start + s.duration <= layers.start + layers.duration for s in inside)


def test_what_hides_lies_on_a_track_of_its_own() -> None:
    tracks = {s.name: s.track for s in perfetto.spans(step(), "stage") if s.name in "bc" and s.start < 30e-3}
    assert tracks["b"] == "stage"
    assert tracks["c"].startswith("stage · side by side")


def test_spans_of_one_track_nest(tmp_path: Path) -> None:
    perfetto.write(tmp_path / "t.json", "step", {"stage": step()})
    events = json.loads((tmp_path / "t.json").read_text())["traceEvents"]
    drawn = [e for e in events if e["ph"] == "X"]
    for one in drawn:
        for other in drawn:
            if one["tid"] == other["tid"] and one["ts"] < other["ts"] < one["ts"] + one["dur"] - 1e-9:
                assert other["ts"] + other["dur"] <= one["ts"] + one["dur"] + 1e-6
    assert [p.name for p in tmp_path.iterdir()] == ["t.json"]
