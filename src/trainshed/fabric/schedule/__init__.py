"""Collectives as steps of sends between ranks, replayed with values or timed on a network."""

from trainshed.fabric.schedule import personal, reductions  # noqa: F401  they register their algorithms
from trainshed.fabric.schedule.check import check
from trainshed.fabric.schedule.registry import ALGORITHMS, algorithm, schedule
from trainshed.fabric.schedule.replay import replay
from trainshed.fabric.schedule.sends import join, sends
from trainshed.fabric.schedule.steps import Schedule, Step

__all__ = ["ALGORITHMS", "Schedule", "Step", "algorithm", "check", "join", "replay", "schedule", "sends"]
