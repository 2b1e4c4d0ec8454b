"""From a name or a ``config.json`` to a Model."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from trainshed.core import Assumption, Elementwise, Graph, Lookup, Matmul, Shard, UserError, unknown_name
from trainshed.models.diffusion import diffusion
from trainshed.models.families import Family, family, known
from trainshed.models.fields import Fields
from trainshed.models.language import decoder, encoder, encoder_decoder, music
from trainshed.models.media import media
from trainshed.models.model import Model, PublishedCount
from trainshed.models.storage import dtypes
from trainshed.models.vision import speech, two_towers, vision

#: Architecture kinds of ``families.toml`` → who builds their graph.
_BUILDERS: dict[str, Callable[[Fields, Family], Graph]] = {
    "decoder": decoder, "encoder": encoder, "encoder_decoder": encoder_decoder,
    "vision": vision, "two_towers": two_towers, "speech": speech, "diffusion": diffusion, "music": music,
}  # fmt: skip

CONFIGS = Path(__file__).parent / "configs"
PUBLISHED = Path(__file__).parent / "published.toml"


def builtin() -> list[str]:
    """Names of the models that ship with Trainshed."""
    return sorted(p.stem for p in CONFIGS.glob("*.json"))


def load(name_or_path: str | Path) -> Model:
    """A built-in model by name, a ``config.json`` by path, or the directory that holds one."""
    text = str(name_or_path)
    path = Path(text)
    if path.is_dir():
        path = path / "config.json"
    if path.suffix == ".json":
        name = path.parent.name if path.name == "config.json" else path.stem
        return from_config(_read(path), name=name or "model", where=str(path))
    key = text.lower().rsplit("/", 1)[-1]  # "meta-llama/Llama-3.1-8B" is llama-3.1-8b
    if not (CONFIGS / f"{key}.json").is_file():
        raise unknown_name("model", text, builtin(), where="model")
    return _builtin(key)


def from_config(config: Mapping[str, Any], *, name: str, where: str) -> Model:
    """A Model from the fields of a ``config.json``."""
    fields = Fields(config, where=where)
    outer = family(str(fields.get("model_type")))
    if isinstance(fields.config.get("text_config"), Mapping) and (outer is None or outer.kind == "decoder"):
        fields = fields.lifted("text_config")  # the language model inside a multimodal one
    facts, assumptions = _family(fields)
    if facts.refused:
        raise UserError("architecture not read", where=where, value=facts.name, expected=facts.refused)
    graph = _BUILDERS[facts.kind](fields, facts)
    return Model(
        name=name, family=facts.name, source=str(config.get("_source", where)), graph=graph,
        hidden=_hidden(graph), layers=len(graph.order), vocab=_vocab(graph),
        max_context=fields.count("positions", facts.position_rows or facts.max_context, least=0) or None,
        dtypes=dtypes(fields, facts), media=media(fields, facts), assumptions=assumptions,
    )  # fmt: skip


@lru_cache(maxsize=512)
def _builtin(name: str) -> Model:
    model = from_config(_read(CONFIGS / f"{name}.json"), name=name, where=f"{name}.json")
    return replace(model, published=_published().get(name))


def _read(path: Path) -> dict[str, Any]:
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError("no such file", where="model", value=str(path), expected="a config.json") from None
    except (json.JSONDecodeError, UnicodeDecodeError, OSError) as error:
        raise UserError("not readable as JSON", where=str(path), value=str(error), expected="a config.json") from None
    if not isinstance(config, dict):
        raise UserError("not a JSON object", where=str(path), value=type(config).__name__, expected="a config object")
    return config


def _family(fields: Fields) -> tuple[Family, tuple[Assumption, ...]]:
    """The facts of the config's model_type; those of Llama (BERT), said so, for a type that the table lacks."""
    name = fields.get("model_type")
    if not isinstance(name, str) or not name:
        raise fields.missing("model_type", f"a string such as {', '.join(known()[:6])}, …")
    if (facts := family(name, _flags(fields))) is not None:
        return facts, ()
    if fields.get("is_encoder_decoder"):
        expected = "a decoder, an encoder, or T5; other encoder-decoders are not read"
        raise UserError("architecture not read", where=fields.where, value=name, expected=expected)
    like = "bert" if fields.has("type_vocab_size") else "llama"
    facts = family(like)
    assert facts is not None
    return facts, (
        Assumption(
            what=f"architecture of model_type {name!r} beyond its fields", value=f"as {like}", status="estimated",
            source="families.toml has no such entry",
        ),
    )  # fmt: skip


def _hidden(graph: Graph) -> int:
    """Width of the last layers' residual stream."""
    last = graph.block(graph.order[-1])
    return next(op.width for op in last.ops if isinstance(op, Elementwise) and op.role == "residual")


def _vocab(graph: Graph) -> int:
    """Outputs of the head, else rows of the token table; 0 for models of other things than tokens."""
    split = [op for b in graph.blocks for op in b.ops if op.shard is Shard.VOCAB]
    heads = [op.n for op in split if isinstance(op, Matmul)]
    tables = [op.rows for op in split if isinstance(op, Lookup)]
    return (heads or tables or [0])[0]


def _flags(fields: Fields) -> dict[str, Any]:
    """The config with the nested switches of MPT (``attn_config``) beside the others."""
    return {**(fields.get("attn_config") or {}), **fields.config}


@lru_cache(maxsize=1)
def _published() -> dict[str, PublishedCount]:
    if not PUBLISHED.is_file():
        return {}
    table = tomllib.loads(PUBLISHED.read_text(encoding="utf-8"))
    return {name: PublishedCount(**entry) for name, entry in table.items()}
