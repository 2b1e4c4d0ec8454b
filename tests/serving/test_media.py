"""Pictures, video and sound on a chip with round numbers."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from trainshed.core import Plan, PlanError, Result, UserError
from trainshed.models import load
from trainshed.serving.media import MediaWork, fastest, generation, media
from trainshed.serving.worker import Worker

MakeWorker = Callable[..., Worker]
VIDEO = MediaWork(frames=61, size="320x512", steps=20)


@pytest.fixture
def serve(worker: MakeWorker, engine: Callable[..., Any]) -> Callable[..., Result]:
    software: Any = SimpleNamespace(default_engine=lambda vendor: engine())

    def run(model: str, work: MediaWork = VIDEO, chips: int = 4, **options: Any) -> Result:
        return media(load(model), worker().system, work, chips=chips, software=software, **options)

    return run


def value(cost: Any) -> float:
    return float(np.asarray(cost.value))


def test_a_step_takes_at_least_its_products(worker: MakeWorker) -> None:
    made = generation(worker("hunyuanvideo"), VIDEO)
    about = load("hunyuanvideo").media
    assert about is not None
    flops = load("hunyuanvideo").forward_flops(1.0, streams=about.streams(frames=61, size=(320, 512)))
    least = float(np.asarray(flops)) / 1e15  # the test chip's peak
    assert least < value(made.step.time) < 4 * least
    assert value(made.time) == pytest.approx(20 * value(made.step.time))


def test_guidance_without_distillation_takes_two_passes(worker: MakeWorker) -> None:
    on = worker("wan2.1-t2v-14b")
    both = generation(on, MediaWork(frames=81, steps=1))
    one = generation(on, MediaWork(frames=81, steps=1, branches=1))
    assert both.sequences == 2 * one.sequences == 2.0
    assert value(both.step.time) == pytest.approx(2 * value(one.step.time), rel=0.1)


def test_a_song_is_fifty_steps_a_second_and_the_delay(worker: MakeWorker) -> None:
    made = generation(worker("musicgen-large"), MediaWork(seconds=10))
    assert made.steps == 10 * 50 + 3
    assert made.items == 10
    weights = 2 * load("musicgen-large").parameters / 3e12  # read once per step
    assert 0.5 * weights < value(made.step.time) < 3 * weights


def test_text_that_music_attends_to_is_not_read_again(worker: MakeWorker) -> None:
    """Keys and values of the text were made before the first step: its projections cost nothing in a step."""
    made = generation(worker("musicgen-large"), MediaWork(seconds=10))
    layer = next(b for b in made.step.work.blocks if b.block.kind == "layer")
    kv = next(w for w in layer.ops if w.op.name == "kv")
    assert value(kv.forward.time) == 0.0
    assert float(np.asarray(kv.parameters)) > 0


def test_the_fastest_plan_is_the_fastest(worker: MakeWorker) -> None:
    base = worker("hunyuanvideo")
    chosen = fastest(base, VIDEO, 4)
    best = value(generation(chosen, VIDEO).time)
    for tp, cp in ((1, 1), (2, 1), (1, 2), (4, 1), (2, 2), (1, 4)):
        other = Worker(
            model=base.model, system=base.system, chip=base.chip, plan=Plan(tp=tp, cp=cp), dtypes=base.dtypes,
            engine=base.engine,
        )  # fmt: skip
        assert best <= value(generation(other, VIDEO).time) * (1 + 1e-12)
    assert float(chosen.chips) <= 4


def test_video_figures_hang_together(serve: Callable[..., Result]) -> None:
    figures: Any = serve("hunyuanvideo", plan="tp2").result
    assert figures["generation_time_s"] == pytest.approx(20 * figures["step_time_s"])
    assert figures["frames_per_s"] == pytest.approx(2 * 61 / figures["generation_time_s"])  # two replicas
    assert figures["real_time_factor"] == pytest.approx(61 / 24 / figures["generation_time_s"])
    assert figures["memory_breakdown_bytes"]["weights"] == pytest.approx(12.82e9 * 2 / 2, rel=0.02)
    assert figures["chips"] == 4
    assert figures["energy_per_frame_j"] == pytest.approx(figures["power_w"] / figures["frames_per_s"])
    assert figures["usd_per_thousand_frames"] is None
    half: Any = serve("hunyuanvideo", MediaWork(frames=61, size="320x512", steps=20, fps=12), plan="tp2").result
    assert half["real_time_factor"] == pytest.approx(2 * figures["real_time_factor"])


def test_pictures_and_songs_have_figures_of_their_own(serve: Callable[..., Result]) -> None:
    picture: Any = serve("flux.1-dev", MediaWork(), chips=1).result
    assert picture["images_per_s"] == pytest.approx(1 / picture["generation_time_s"])
    assert picture["steps"] == 28
    song: Any = serve("musicgen-small", MediaWork(), chips=1).result
    assert (
        song["audio_s_per_s"]
        == pytest.approx(song["real_time_factor"])
        == pytest.approx(30 / song["generation_time_s"])
    )
    assert song["memory_breakdown_bytes"]["kv_cache"] > 0


def test_an_encoder_reads_texts(serve: Callable[..., Result]) -> None:
    one: Any = serve("bert-large-uncased", MediaWork(tokens=384, batch=8), chips=1, plan="tp1").result
    assert one["inferences_per_s"] == pytest.approx(8 / one["step_time_s"])
    longer: Any = serve("bert-large-uncased", MediaWork(tokens=512, batch=8), chips=1, plan="tp1").result
    assert longer["step_time_s"] > one["step_time_s"]
    with pytest.raises(UserError, match="no encoder of text"):
        serve("hunyuanvideo", MediaWork(tokens=384))


def test_what_was_not_said_is_said(serve: Callable[..., Result]) -> None:
    result = serve("hunyuanvideo", MediaWork())
    said = {a.what: a.value for a in result.assumptions}
    assert said["frames"] == 129
    assert said["size"] == "720x1280"
    assert said["steps"] == 50
    assert said["fps"] == 24
    assert "autoencoder" in said["left out"]
    assert "plan" in said
    given = {a.what for a in serve("hunyuanvideo", plan="tp1").assumptions}
    assert not given & {"frames", "size", "steps", "plan"}


@pytest.mark.parametrize("size", ["320", "ax5", "0x512", "320x-1", ""])
def test_unreadable_sizes(size: str) -> None:
    with pytest.raises(UserError, match="--size"):
        MediaWork(size=size)


@pytest.mark.parametrize("name", ["frames", "steps", "fps", "seconds", "branches", "batch"])
def test_numbers_are_above_zero(name: str) -> None:
    with pytest.raises(UserError, match=f"--{name}"):
        MediaWork(**{name: 0})


def test_plans_that_cannot_run(serve: Callable[..., Result]) -> None:
    with pytest.raises(PlanError, match="tp does not divide the heads"):
        serve("hunyuanvideo", plan="tp5")
    with pytest.raises(PlanError, match="more chips than there are"):
        serve("hunyuanvideo", plan="tp8")
    with pytest.raises(PlanError, match="phases in a plan"):
        serve("hunyuanvideo", plan="prefill: tp1; decode: tp1")
    with pytest.raises(UserError, match="does not fit"):
        serve("qwen-image", MediaWork(), plan="tp1", dtype="weights=fp32")


def test_a_model_of_text_is_no_medium(worker: MakeWorker) -> None:
    with pytest.raises(UserError, match="a model of text"):
        generation(worker("llama-3.1-8b"), MediaWork())
