"""Models and ranks that the tests of this room share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from trainshed.core import Dtypes, Plan
from trainshed.hardware.catalogue import Catalogue
from trainshed.models import Model, from_config
from trainshed.ops.base import Rank
from trainshed.parallel import RankWork, per_rank


@pytest.fixture(scope="session")
def a100() -> Rank:
    return Rank(chip=Catalogue().chip("a100-80"))


@pytest.fixture(scope="session")
def gpt() -> Callable[..., Model]:
    """A GPT-3 shape: hidden, layers, heads, vocabulary."""

    def make(hidden: int, layers: int, heads: int, vocab: int = 51200) -> Model:
        config = {
            "model_type": "gpt2", "architectures": ["GPT2LMHeadModel"], "hidden_size": hidden,
            "intermediate_size": 4 * hidden, "num_hidden_layers": layers, "num_attention_heads": heads,
            "num_key_value_heads": heads, "vocab_size": vocab, "tie_word_embeddings": True, "hidden_act": "gelu",
            "position_embedding_type": "learned", "max_position_embeddings": 2048,
        }  # fmt: skip
        return from_config(config, name="gpt", where="this test")

    return make


@pytest.fixture(scope="session")
def train(a100: Rank) -> Callable[..., RankWork]:
    """A model's work of one rank in training, sequences of the plan's micro-batch."""

    def make(model: Model, plan: str | Plan, *, sequence: float = 2048, **more: Any) -> RankWork:
        plan = Plan.parse(plan) if isinstance(plan, str) else plan
        streams = {op.stream: sequence for b in model.graph.blocks for op in b.ops}
        dtypes = more.pop("dtypes", Dtypes.parse("fp16"))
        return per_rank(
            model, plan, phase="train", dtypes=dtypes, rank=a100, streams=streams, sequences=plan.mb, **more
        )

    return make


@pytest.fixture(scope="session")
def decode(a100: Rank) -> Callable[..., RankWork]:
    """One decode step of a batch over 1,000 cached tokens."""

    def make(model: Model, plan: str, *, batch: float) -> RankWork:
        return per_rank(
            model, Plan.parse(plan), phase="decode", dtypes=Dtypes(), rank=a100, streams={"tokens": 1.0},
            sequences=batch, context=1000.0,
        )  # fmt: skip

    return make


@pytest.fixture(scope="session")
def prefill(a100: Rank) -> Callable[..., RankWork]:
    """One prompt."""

    def make(model: Model, plan: str, *, tokens: float) -> RankWork:
        return per_rank(
            model, Plan.parse(plan), phase="prefill", dtypes=Dtypes(), rank=a100, streams={"tokens": tokens},
            sequences=1.0,
        )  # fmt: skip

    return make
