import pytest

from trainshed.core import Plan
from trainshed.hardware import Catalogue
from trainshed.models import load
from trainshed.software import Software
from trainshed.training import TrainingJob, step
from trainshed.training.tracks import stage_tracks


@pytest.mark.parametrize(("plan", "classes"), [("tp8 sp1 dp4", 1), ("tp8 sp1 pp2 dp2", 2), ("tp8 sp1 pp6 dp2", 3)])
def test_every_stage_class_fills_the_step(plan: str, classes: int) -> None:
    catalogue, software = Catalogue(), Software()
    system = catalogue.system("trn2-ultra")
    job = TrainingJob(sequence=4096, global_batch=64)
    framework = software.default_framework(system.chip.vendor)
    priced = step(load("llama-3.1-8b"), system, Plan.parse(plan), job, framework)
    tracks = stage_tracks(priced)
    assert len(tracks) == classes
    for cost in tracks.values():
        assert cost.value == pytest.approx(float(priced.time.value), rel=1e-6)
    waits = [float(c.children[0][1].value) for c in tracks.values() if c.children[0][1].what.startswith("waiting")]
    if waits:  # the slowest stage waits exactly as long as the bubble lasts
        assert min(waits) == pytest.approx(float(priced.terms["pipeline_bubble"].value), rel=1e-6)
