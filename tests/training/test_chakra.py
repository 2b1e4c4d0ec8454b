"""A training step written as Chakra traces, read again and replayed: its time is the step's own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from trainshed.core import Plan, UserError
from trainshed.fabric.chakra import Trace, on, read, schema, write
from trainshed.hardware import Catalogue
from trainshed.models import load
from trainshed.software import Software
from trainshed.training import TrainingJob, chakra, step
from trainshed.training.answer import filled_in
from trainshed.training.chakra import chakra_trace
from trainshed.training.step import rank_of

CATALOGUE, SOFTWARE = Catalogue(), Software()


def made(model: str, system: str, plan: str, batch: int) -> tuple[Trace, float, float]:
    """The trace, the step's own time and the replay's, through files' worth of bytes or not."""
    machine, known = CATALOGUE.system(system), load(model)
    full = filled_in(Plan.parse(plan), machine, known)
    framework = SOFTWARE.default_framework(machine.chip.vendor)
    job = TrainingJob(sequence=1024, global_batch=batch)
    trace = chakra_trace(known, machine, full, job, framework)
    own = float(np.asarray(step(known, machine, full, job, framework).time.value))
    return trace, own, on(trace, machine, ranks_per_chip=round(1 / rank_of(machine, full).share)).total


@pytest.mark.parametrize(
    ("model", "system", "plan", "batch"),
    [
        ("llama-3.1-8b", "trn2", "tp8", 2),
        ("llama-3.1-8b", "trn2", "tp4 dp2 zero1 full", 2),
        ("llama-3.1-8b", "p5", "tp4 sp1 cp2 dp2 zero1", 2),
        ("llama-3.1-8b", "p5", "dp8 zero3", 8),
        ("llama-3.1-8b", "p5", "tp4 dp4 pp2 zero1", 16),
        ("mixtral-8x7b", "p5", "tp2 ep4 dp4 etp1", 4),
    ],
)
def test_a_replay_takes_the_step_s_time(model: str, system: str, plan: str, batch: int) -> None:
    trace, own, replayed = made(model, system, plan, batch)
    assert replayed == pytest.approx(own, rel=1e-2)
    assert set(trace.rank.tolist()) == set(range(trace.ranks))


def test_a_pipeline_s_sends_hide_where_the_closed_form_adds_them() -> None:
    trace, own, replayed = made("llama-3.1-8b", "trn2", "tp4 pp4", 8)
    assert replayed == pytest.approx(own, rel=1e-2)
    assert replayed < own
    sends = np.flatnonzero(trace.kind == schema.SEND)
    # each micro-batch crosses three borders forwards and three backwards, in four parts
    assert len(sends) == 2 * 3 * 8 * 4


def test_through_files(tmp_path: Path) -> None:
    trace, own, _ = made("llama-3.1-8b", "trn2", "tp4", 1)
    write(trace, tmp_path / "step")
    machine = CATALOGUE.system("trn2")
    assert on(read(tmp_path / "step"), machine, ranks_per_chip=4).total == pytest.approx(own, rel=1e-2)


def test_what_it_cannot_write(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="expected vpp1"):
        made("llama-3.1-8b", "trn2", "tp4 pp4 vpp2", 8)
    monkeypatch.setattr(chakra, "MOST", 1000)
    with pytest.raises(UserError, match="too many nodes"):
        made("llama-3.1-8b", "trn2", "tp8", 2)
