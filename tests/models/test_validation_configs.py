"""All configs of the measurements load, or are refused with one clear sentence."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from trainshed.core import Attention, Dtypes, Matmul, UserError
from trainshed.models import Model, load

CONFIGS = sorted((Path(__file__).parents[2] / "validation" / "models").glob("*.json"))
REFUSED = {"cnn": "convolutional", "sd_unet": "UNet", "perceiver": "Perceivers"}
KINDS = {"embedding", "layer", "head", "extra"}


def model_type(path: Path) -> str:
    return str(json.loads(path.read_text())["model_type"])


TRANSFORMERS = [p for p in CONFIGS if model_type(p) not in REFUSED]
OTHERS = [p for p in CONFIGS if model_type(p) in REFUSED]


def test_there_are_as_many_as_the_readme_says() -> None:
    assert len(CONFIGS) == 235
    assert len(OTHERS) == 18


@pytest.mark.parametrize("path", OTHERS, ids=lambda p: p.stem)
def test_what_is_no_transformer_is_refused(path: Path) -> None:
    with pytest.raises(UserError, match=REFUSED[model_type(path)]):
        load(path)


@pytest.mark.parametrize("path", TRANSFORMERS, ids=lambda p: p.stem)
def test_a_transformer_becomes_a_sound_graph(path: Path) -> None:
    model = load(path)
    names = [b.name for b in model.graph.blocks]
    assert len(names) == len(set(names))
    assert len(model.graph.order) == model.layers > 0
    assert set(model.graph.order) == {b.name for b in model.graph.blocks if b.kind == "layer"}
    for block in model.graph.blocks:
        assert block.kind in KINDS
        assert block.count > 0
        ops = [op.name for op in block.ops]
        assert len(ops) == len(set(ops)), f"{block.name}: {ops}"
        if block.kind == "layer":
            assert model.graph.order.count(block.name) == block.count
    assert not model.assumptions


@pytest.mark.parametrize("path", TRANSFORMERS, ids=lambda p: p.stem)
def test_its_figures_are_finite(path: Path) -> None:
    model = load(path)
    assert 0 < model.active_parameters <= model.parameters
    assert model.weight_bytes(Dtypes()) == pytest.approx(2 * model.parameters)
    flops = figures(model)
    assert np.all(np.isfinite(flops))
    assert np.all(np.asarray(flops) > 0)
    assert np.asarray(model.kv_bytes(4096.0)) >= 0


def figures(model: Model) -> np.ndarray:
    streams = model.media.streams() if model.media else None
    return np.array([model.forward_flops(1.0, 4096.0, streams=streams), model.training_flops_per_token(2048.0)])


@pytest.mark.parametrize("path", TRANSFORMERS, ids=lambda p: p.stem)
def test_products_hold_what_their_shape_says(path: Path) -> None:
    """A product's parameters are k × n and its bias, unless they are tied, shared or a few vectors more."""
    for block in load(path).graph.blocks:
        for op in block.ops:
            if isinstance(op, Matmul) and op.parameters and not op.name.startswith("conv"):
                held = op.k * op.n + (op.n if op.bias else 0)
                assert held <= op.parameters <= held + 4 * (op.k + op.n)
            if isinstance(op, Attention):
                assert op.heads % op.kv_heads == 0
