"""Tokens of pictures, video and sound, by hand."""

from __future__ import annotations

from pathlib import Path

import pytest

from trainshed.core import UserError
from trainshed.models import load
from trainshed.models.media import Media

CONFIGS = Path(__file__).parents[2] / "validation" / "models"


def media(name: str) -> Media:
    about = load(CONFIGS / f"{name}.json").media
    assert about is not None
    return about


def test_video_tokens() -> None:
    # autoencoder 4 x 8 x 8, patch 1 x 2 x 2: 61 frames are 16 latent ones of 20 x 32 tokens
    assert media("hunyuanvideo").tokens(frames=61, size=(320, 512)) == 16 * 20 * 32
    assert media("hunyuanvideo").streams(frames=61, size=(320, 512))["joint"] == 16 * 20 * 32 + 256
    assert media("wan2.1-t2v-14b").tokens(frames=81, size=(480, 832)) == 21 * 30 * 52
    # autoencoder 8 x 32 x 32 named by the config itself; 25 sound tokens per second
    assert media("ltx-2").streams(frames=121, size=(512, 768)) == {
        "image": 16 * 16 * 24, "text": 1024.0, "audio": round(121 / 24 * 25),
    }  # fmt: skip


def test_image_tokens() -> None:
    assert media("flux.1-dev").tokens(size=(1024, 1024)) == 64 * 64
    assert media("qwen-image").tokens(size=(1024, 1024)) == 64 * 64
    assert media("pixart-alpha").tokens(size=(512, 512)) == 32 * 32
    assert media("vit-base-patch16-224").streams()["tokens"] == 14 * 14 + 1
    assert media("clip-vit-large-patch14").streams()["image"] == 16 * 16 + 1


def test_sound() -> None:
    assert media("laughtersegmentation").streams(seconds=10)["tokens"] == 500
    music = load("musicgen-large").media
    assert music is not None
    assert (music.codebooks, music.audio_tokens_per_s) == (4, 50.0)


def test_texts() -> None:
    assert load("llama-3.1-8b").media is None
    assert media("bert-large-uncased").streams(text_tokens=384) == {"tokens": 384.0}


def test_a_picture_smaller_than_a_token() -> None:
    with pytest.raises(UserError, match="smaller than one token"):
        media("hunyuanvideo").tokens(frames=1, size=(8, 8))


def test_flops_of_a_denoising_step_by_hand() -> None:
    """HunyuanVideo: products of 20 double and 40 single blocks over all tokens, attention over both streams."""
    model = load("hunyuanvideo")
    h, image, text = 3072, 10240, 256
    joint = image + text
    double = 20 * (joint * (4 * h * h + 8 * h * h) + 2 * 6 * h * h)
    single = 40 * (joint * (3 * h * h + 4 * h * h + 5 * h * h) + 3 * h * h)
    refiner = 2 * (text * 12 * h * h + 2 * h * h)
    ends = image * 2 * 64 * h + text * 4096 * h
    codes = 2 * 256 * h + 768 * h + 3 * h * h + 2 * h * h + 256 * h + h * h + 4096 * h + h * h
    attention = 2 * 60 * h * joint * joint + 2 * 2 * h * text * text
    streams = model.media.streams(frames=61, size=(320, 512)) if model.media else {}
    macs = double + single + refiner + ends + codes + attention
    assert model.forward_flops(1.0, streams=streams) == pytest.approx(2 * macs, rel=1e-9)
