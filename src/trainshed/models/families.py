"""What a config's fields do not say about an architecture, as data: ``families.toml``, keyed by ``model_type``."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, fields
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
    """``decoder``, ``encoder``, ``encoder_decoder``, ``vision``, ``two_towers``, ``audio``, ``diffusion``."""
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
    sinks: bool = False
    final_norm: bool = True
    embedding_norm: bool = False
    shared_gate: bool = False
    """A sigmoid gate on the shared expert (hidden → 1)."""
    max_context: int = 0
    weights_dtype: str = ""
    """Storage dtype of the published checkpoint where the config does not say."""
    experts_dtype: str = ""


@lru_cache(maxsize=1)
def _table() -> dict[str, dict[str, Any]]:
    return tomllib.loads(PATH.read_text(encoding="utf-8"))


@lru_cache(maxsize=256)
def family(model_type: str) -> Family | None:
    """The facts of a model type; None where the table has none."""
    table = _table()
    if model_type not in table:
        return None
    chain: list[dict[str, Any]] = []
    name: str | None = model_type
    while name:
        chain.append(table[name])
        name = table[name].get("base")
    merged = {k: v for facts in reversed(chain) for k, v in facts.items() if k != "base"}
    if unknown := merged.keys() - {f.name for f in fields(Family)}:
        raise UserError("unknown key", where=f"{PATH.name} [{model_type}]", value=sorted(unknown)[0], expected="a fact")
    return Family(name=model_type, **merged)


def known() -> list[str]:
    """All model types of the table."""
    return sorted(_table())
