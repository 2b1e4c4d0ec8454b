"""Activation bytes against the formulas and the printed figures of arXiv:2205.05198."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from trainshed.core import Plan
from trainshed.parallel import activation_bytes
from trainshed.parallel.work import add_up

S, B = 2048, 1
#: hidden, layers, heads of the paper's Table 3: 22B, 175B, 530B, 1T.
SHAPES = [(6144, 48, 64), (12288, 96, 96), (20480, 105, 128), (25600, 128, 160)]


def layer(work: Any, attribute: str = "saved") -> float:
    (block,) = work.kind("layer")
    return float(add_up(getattr(w, attribute) for w in block.ops))


@pytest.mark.parametrize(("h", "layers", "a"), SHAPES)
@pytest.mark.parametrize("t", [1, 2, 8])
def test_each_row_of_table_2(gpt: Callable[..., Any], train: Callable[..., Any], h: int, layers: int, a: int,
                             t: int) -> None:  # fmt: skip
    model, sbh = gpt(h, layers, a), S * B * h
    plain = train(model, Plan(tp=t), naive_attention=True, dropout=True)
    assert layer(plain) == pytest.approx(sbh * (10 + 24 / t + 5 * a * S / (h * t)), rel=1e-9)
    sp = train(model, Plan(tp=t, sp=1), naive_attention=True, dropout=True)
    assert layer(sp) == pytest.approx(sbh / t * (34 + 5 * a * S / h), rel=1e-9)
    assert layer(plain, "saved_selective") == pytest.approx(sbh * (10 + 24 / t), rel=1e-9)
    assert layer(sp, "saved_selective") == pytest.approx(34 * sbh / t, rel=1e-9)
    assert float(plain.kind("layer")[0].inputs) == pytest.approx(2 * sbh)


@pytest.mark.parametrize(
    ("plan", "published"),
    [("tp8 pp64", 140928614400), ("tp8 sp1 pp64 sel", 28521267200)],
)
def test_the_trillion_parameter_figures(gpt: Callable[..., Any], train: Callable[..., Any], plan: str,
                                        published: float) -> None:  # fmt: skip
    # rows t01603 and t01604 of validation/training.csv: the paper's Figure 1, first pipeline stage
    work = train(gpt(25600, 128, 160), plan, naive_attention=True, dropout=True)
    assert float(activation_bytes(work, 512.0)) == pytest.approx(published, rel=0.10)


def test_logits_and_the_last_norm_follow_section_4_3(gpt: Callable[..., Any], train: Callable[..., Any]) -> None:
    # 4 s b h (1 + v / h) bytes on the last stage: input of the norm and of the head (2 s b h each), fp32 logits
    h, v = 6144, 51200
    work = train(gpt(h, 48, 64, v), "tp1", naive_attention=True, dropout=True)
    (head,) = work.kind("head")
    assert float(add_up(w.saved for w in head.ops)) == pytest.approx(4 * S * B * h * (1 + v / h))


def test_selective_recompute_keeps_less_than_a_third_of_a_175b_layer(
    gpt: Callable[..., Any], train: Callable[..., Any]
) -> None:
    # section 5: 5as/h is 80 for GPT-3, so that selective recompute saves 70 % of 34 + 80
    work = train(gpt(12288, 96, 96), "tp8 sp1", naive_attention=True, dropout=True)
    assert 1 - layer(work, "saved_selective") / layer(work) == pytest.approx(0.70, abs=0.01)


def test_flash_attention_keeps_no_square(gpt: Callable[..., Any], train: Callable[..., Any]) -> None:
    model = gpt(6144, 48, 64)
    short, long = (layer(train(model, "tp1", sequence=s)) for s in (2048, 4096))
    assert long == pytest.approx(2 * short)


def test_a_table_of_plans_keeps_what_each_plan_keeps(gpt: Callable[..., Any], train: Callable[..., Any]) -> None:
    model = gpt(6144, 48, 64)
    plans = [Plan.parse(p) for p in ("tp1", "tp2 sp1 pp2 sel", "tp8 sp1 pp4 vpp3 full", "tp4 pp2 mb4", "cp2 tp2 sp1")]
    table = Plan.stack(plans)
    together = np.broadcast_to(activation_bytes(train(model, table), 16.0), table.shape)
    alone = [float(activation_bytes(train(model, p), 16.0)) for p in plans]
    assert together == pytest.approx(alone, rel=1e-12)
