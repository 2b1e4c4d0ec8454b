"""What a config's fields do not say about an architecture, as data: ``families.toml``, keyed by ``model_type``."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from functools import lru_cache
from pathlib import Path
from typing import Any

from trainshed.core.errors import UserError

PATH = Path(__file__).parent / "families.toml"


@dataclass(frozen=True, kw_only=True)
class Family:
    """Facts of one ``model_type``. ``None``: the config's own field decides."""

    name: str
    source: str
    kind: str = "decoder"
    """Who builds the graph: ``decoder``, ``encoder``, ``encoder_decoder``, ``vision``, ``two_towers``, …"""
    refused: str = ""
    """Why configs of this type are not read."""
    gated: bool = True
    tied: bool = False
    norm: str = "rms"
    norms: str = "pre"
    """``pre``: before attention and MLP; ``post``: after them; ``sandwich``: both; ``shared``: one norm feeds attention
    and MLP in parallel; ``parallel``: in parallel, a norm each."""
    qkv_bias: bool | None = None
    out_bias: bool | None = None
    mlp_bias: bool | None = None
    head_bias: bool = False
    router_bias: bool = False
    """A bias vector in the router (also DeepSeek's balancing term)."""
    router_scale: bool = False
    """The router scales its input and each expert's weight."""
    expert_bias: bool = False
    positions: str = "rope"
    """``rope``, ``learned``, ``alibi``, ``sinusoidal``, ``relative``."""
    position_rows: int = 0
    """Rows of a learned position table where the config does not say."""
    position_offset: int = 0
    """Rows that such a table has beyond the positions of the config."""
    qk_norm: str = ""
    """Norm of queries and keys: ``head`` (one vector of head_dim each), ``full`` (over all heads), ``heads`` (a vector
    per head)."""
    sinks: str = ""
    """Attention sinks: ``all`` layers, or ``window``: those with a sliding window."""
    final_norm: bool = True
    embedding_norm: bool = False
    shared_gate: bool = False
    """A sigmoid gate on the shared expert (hidden → 1)."""
    shared_experts: int = 0
    """Shared experts where no field counts them."""
    attention_gate: bool = False
    rotary: float = 1.0
    """Share of each head that rotary positions turn where the config does not say."""
    window_period: int = 0
    """Every so-manieth layer attends all, the others a window, where the config does not say."""
    last_full: bool = False
    hybrid: str = ""
    """``parallel``: every layer has attention and Mamba beside each other."""
    state_norm: bool = True
    """Whether a Mamba layer normalises before its output projection."""
    inner_share: float = 1.0
    """MLP width as a share of the config's field."""
    kv_heads: int = 0
    """KV heads where the config does not say; 0: as many as heads."""
    stream_head: bool = False
    """Several residual streams (hyper-connections) are mixed by learned weights before the head."""
    only_kv_heads: int = 0
    """KV heads whatever the config's field says (multi-query configs repeat the number of heads there)."""
    token_types: int = 0
    pooler: bool = False
    cross: str = ""
    """Stream that every layer attends to besides its own tokens."""
    patch_bias: bool = True
    """Whether a picture's patch projection has a bias."""
    labels: int = 0
    """Outputs of a classifier on top."""
    max_context: int = 0
    weights_dtype: str = ""
    """Storage dtype of the published checkpoint where the config does not say."""
    experts_dtype: str = ""
    diffusion: Mapping[str, Any] = field(default_factory=dict)
    """Blocks of a diffusion transformer: see ``diffusion.py``."""
    media: Mapping[str, Any] = field(default_factory=dict)
    """What a token stands for: see ``media.py``."""


@lru_cache(maxsize=1)
def _table() -> dict[str, dict[str, Any]]:
    return tomllib.loads(PATH.read_text(encoding="utf-8"))


@lru_cache(maxsize=256)
def _facts(model_type: str) -> dict[str, Any] | None:
    table = _table()
    if model_type not in table:
        return None
    chain: list[dict[str, Any]] = []
    name: str | None = model_type
    while name:
        chain.append(table[name])
        name = table[name].get("base")
    merged = {k: v for facts in reversed(chain) for k, v in facts.items() if k != "base"}
    allowed = {f.name for f in fields(Family)} | {"when"}
    if unknown := merged.keys() - allowed:
        raise UserError("unknown key", where=f"{PATH.name} [{model_type}]", value=sorted(unknown)[0], expected="a fact")
    return merged


def family(model_type: str, config: Mapping[str, Any] | None = None) -> Family | None:
    """The facts of a model type; None where the table has none.

    ``[type.when.FIELD]`` holds facts that apply where the config's FIELD is true.
    """
    facts = _facts(model_type)
    if facts is None:
        return None
    chosen = dict(facts)
    for name, further in chosen.pop("when", {}).items():
        if config is not None and config.get(name) is True:
            chosen.update(further)
    return Family(name=model_type, **chosen)


def known() -> list[str]:
    """All model types of the table."""
    return sorted(_table())
