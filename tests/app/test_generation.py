"""Pictures, video and sound from the command line."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

Runner = Callable[..., Any]
VIDEO = "hunyuanvideo --frames 61 --size 320x512 --steps 20"


def test_serve_says_whether_it_is_real_time(trainshed: Runner) -> None:
    answer = trainshed(f"serve {VIDEO} --on trn3-gen2 --chips 8 --fps 12 --json").json
    figures = answer["result"]
    assert figures["frames_per_s"] == pytest.approx(61 / figures["generation_time_s"])
    assert figures["real_time_factor"] == pytest.approx(figures["frames_per_s"] / 12)
    assert figures["usd_per_thousand_frames"] is None
    assert answer["evidence"]["why"]


def test_music(trainshed: Runner) -> None:
    figures = trainshed("serve musicgen-large --on trn3-gen2 --chips 1 --seconds 10 --json").json["result"]
    assert figures["audio_s_per_s"] == pytest.approx(10 / figures["generation_time_s"])


def test_compare_counts_frames(trainshed: Runner) -> None:
    lines = trainshed(f"compare {VIDEO} --on trn3-gen2,p5en --chips 8 --json").json["result"]["systems"]
    assert all(line["frames_per_s_per_chip"] == pytest.approx(line["frames_per_s"] / line["chips"]) for line in lines)
    assert lines[0]["break_even_usd_per_chip_hour"]["p5en"] > 0


def test_explain_reaches_constants(trainshed: Runner) -> None:
    result = trainshed(f"explain serve {VIDEO} --on trn3-gen2 --chips 1 --json").json["result"]
    assert result["tree"]["value"] > 0
    assert result["sensitivity"][0]["gain_for_10_percent"] > 0


def test_options_of_text_are_refused(trainshed: Runner) -> None:
    refused = trainshed(f"serve {VIDEO} --on trn3-gen2 --chips 1 --isl 100 --json")
    assert refused.code == 2
    assert "--isl" in refused.err
    assert "soonest plan" in trainshed("plan serve hunyuanvideo --on trn3-gen2 --chips 1").err
