"""One optimizer step as each class of pipeline stage lives it: the first, a middle and the last one."""

from __future__ import annotations

from trainshed.core import Cost, formula, scaled, total
from trainshed.training.blocks import BlockTimes
from trainshed.training.schedule import is_first, is_layer
from trainshed.training.step import TrainingStep


def stage_tracks(step: TrainingStep) -> dict[str, Cost]:
    """Stage class → the terms of a scalar step on it, with its waiting; each sums to the step time."""
    pp = int(step.plan.pp)
    if pp == 1:
        return {"the only stage": step.time.at(())}
    stages = step.stage.stages
    classes = {"first stage": (stages.first, True, False), "last stage": (stages.last, False, True)}
    if pp > 2:
        classes[f"{pp - 2} middle stages"] = (stages.middle, False, False)
    tracks = {}
    for name, (layers, first, last) in classes.items():
        share = float(layers) / max(step.stage.layers, 1)
        copies = [(b, b.work.block.count * _held(b, share, first, last)) for b in step.blocks]
        tracks[name] = _track(step, [(b, n) for b, n in copies if n > 0])
    return tracks


def _held(block: BlockTimes, share: float, first: bool, last: bool) -> float:
    if is_layer(block):
        return share
    return float(first if is_first(block) else last)


def _track(step: TrainingStep, held: list[tuple[BlockTimes, float]]) -> Cost:
    m = step.stage.micro_batches
    compute = [scaled(f"{b.work.block.name}: compute", b.compute, n * m) for b, n in held]
    exposed = [scaled(f"{b.work.block.name}: exposed communication", b.exposed, n * m) for b, n in held]
    # the first child of the exposed communication is the slowest stage's share of these very terms
    shared = [child for _, child in step.terms["communication_exposed"].children[1:]]
    busy = [*compute, *exposed, *shared, step.terms["optimizer"], step.terms["other"]]
    waiting = formula(
        "waiting for other stages", "s", "max(step - busy, 0)", step=step.time, busy=total("busy", busy, unit="s")
    )
    return total("training step", [waiting, *busy], unit="s").at(())
