"""Which kind each layer of a decoder is: mixer (attention, window, …) and MLP (dense, moe), read from the fields."""

from __future__ import annotations

from dataclasses import dataclass

from trainshed.models.fields import Fields


@dataclass(frozen=True)
class Layer:
    """One layer: ``mixer`` is ``full``, ``window``, … ; ``mlp`` is ``dense``, ``moe`` or ``none``."""

    mixer: str
    mlp: str


_WORDS = {
    "full_attention": "full", "attention": "full", "global": "full", "sliding_attention": "window", "local": "window",
    "chunked_attention": "window",
}  # fmt: skip


def layout(fields: Fields) -> list[Layer]:
    """One Layer per layer of the model."""
    n = fields.count("layers")
    return [Layer(mixer, mlp) for mixer, mlp in zip(_mixers(fields, n), _mlps(fields, n), strict=True)]


def _mixers(fields: Fields, n: int) -> list[str]:
    if (words := fields.listing("layer_types", n)) is not None:
        return [_WORDS.get(w, w) for w in words]
    if not fields.has("window") or fields.get("use_sliding_window") is False:
        return ["full"] * n
    period = fields.count("window_period", 0)
    return ["full" if period and (i + 1) % period == 0 else "window" for i in range(n)]


def _mlps(fields: Fields, n: int) -> list[str]:
    if not fields.has("experts"):
        return ["dense"] * n
    first = fields.count("first_dense", 0, least=0)
    return ["dense" if i < first else "moe" for i in range(n)]
