"""What a model of pictures, video or sound makes: tokens from frames and sizes, guidance branches, defaults."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from trainshed.core import UserError
from trainshed.models.families import Family
from trainshed.models.fields import Fields

Size = tuple[int, int]


@dataclass(frozen=True, kw_only=True)
class Media:
    """How many tokens a picture, a video or a second of sound is; the pipeline's defaults (``families.toml``)."""

    kind: Literal["image", "video", "music", "vision", "speech", "text"]
    """What the model makes, or (``vision``, ``speech``, ``text``: encoders) reads."""
    source: str
    token_height: int = 1
    """Pixels of one token: the autoencoder's factor times the patch."""
    token_width: int = 1
    token_frames: int = 1
    """Frames of one token; the first frame is a token of its own (causal video autoencoders)."""
    class_tokens: int = 0
    text_tokens: int = 0
    """Tokens that the prompt is padded to."""
    branches: int = 1
    """Passes per step: 2 where guidance runs the prompt and the empty prompt, 1 where it is distilled."""
    steps: int = 1
    frames: int = 1
    size: Size = (224, 224)
    """Height × width."""
    fps: float | None = None
    audio_tokens_per_s: float = 0.0
    """Sound tokens beside the video, or steps of a music model, per second of sound."""
    codebooks: int = 1
    """Codebooks that one step of a music model fills."""
    delay: int = 0
    """Steps that the codebooks' delay pattern adds at the end."""
    joint: bool = False
    """Picture and text tokens also count as one ``joint`` stream."""

    def tokens(self, *, frames: int | None = None, size: Size | None = None) -> int:
        """Tokens of a picture or video."""
        frames, (height, width) = frames or self.frames, size or self.size
        if frames < 1 or height < self.token_height or width < self.token_width:
            raise UserError(
                "a picture smaller than one token", where="--size", value=f"{frames} x {height}x{width}",
                expected=f"at least one frame of {self.token_height}x{self.token_width} pixels",
            )  # fmt: skip
        in_time = math.ceil((frames - 1) / self.token_frames) + 1
        return in_time * math.ceil(height / self.token_height) * math.ceil(width / self.token_width) + self.class_tokens

    def streams(
        self, *, frames: int | None = None, size: Size | None = None, text_tokens: int | None = None,
        seconds: float | None = None,
    ) -> dict[str, float]:  # fmt: skip
        """Tokens per sequence of every stream of one pass."""
        text = float(self.text_tokens if text_tokens is None else text_tokens)
        if self.kind == "text":
            return {"tokens": text}
        if self.kind == "music":
            return {"tokens": 1.0, "text": text}
        if self.kind == "speech":
            return {"tokens": self.audio_tokens_per_s * (1.0 if seconds is None else seconds)}
        pictures = float(self.tokens(frames=frames, size=size))
        if self.kind == "vision":
            return {"tokens": pictures, "image": pictures, "text": text}
        streams = {"image": pictures, "text": text}
        if self.joint:
            streams["joint"] = pictures + text
        if self.audio_tokens_per_s:
            streams["audio"] = round((frames or self.frames) / (self.fps or 1.0) * self.audio_tokens_per_s)
        return streams


def media(fields: Fields, family: Family) -> Media | None:
    """The family's facts and the config's patch as Media; None for models of text."""
    facts: Mapping[str, object] = family.media
    if not facts:
        return None
    patch = _patch(fields, packed=bool(family.diffusion.get("packed")))
    chosen = {k: tuple(v) if isinstance(v, list) else v for k, v in facts.items() if k != "autoencoder"}
    factors = facts.get("autoencoder", (1, 1, 1))
    if isinstance(scale := fields.get("vae_scale_factors"), list):
        factors = scale
    assert isinstance(factors, list | tuple)
    sizes = {
        name: int(factor) * side
        for name, factor, side in zip(("token_frames", "token_height", "token_width"), factors, patch, strict=True)
    }
    if isinstance(side := fields.get("image_size"), int):
        chosen.setdefault("size", (side, side))
    joint = family.diffusion.get("blocks") == "joint"
    return Media(source=family.source, joint=joint, **sizes, **chosen)  # type: ignore[arg-type]


def _patch(fields: Fields, *, packed: bool) -> tuple[int, int, int]:
    """Latent frames, rows and columns of a token; packed pipelines fold 2 × 2 latents into the channels."""
    if packed:
        return 1, 2, 2
    vision = fields.config.get("vision_config")
    if isinstance(vision, Mapping):
        fields = Fields(vision, where=fields.where)
    patch = fields.get("patch_size", 1)
    if isinstance(patch, list):
        return int(patch[0]), int(patch[1]), int(patch[2])
    return fields.count("patch_size_t", 1), int(patch), int(patch)
