"""Collectives as steps of sends between ranks, replayed with values or timed on a network."""

from trainshed.fabric.schedule import experts, personal, reductions, trees  # noqa: F401  they register their ways
from trainshed.fabric.schedule.builder import Builder
from trainshed.fabric.schedule.check import check, check_waits
from trainshed.fabric.schedule.registry import ALGORITHMS, algorithm, schedule
from trainshed.fabric.schedule.replay import replay
from trainshed.fabric.schedule.sends import join, sends
from trainshed.fabric.schedule.steps import Schedule, Step

__all__ = [
    "ALGORITHMS", "Builder", "Schedule", "Step", "algorithm", "check", "check_waits", "join", "replay", "schedule",
    "sends",
]  # fmt: skip
