"""One training step: pipeline schedules, overlap, memory."""

from trainshed.training.job import TrainingJob
from trainshed.training.step import TERMS, TrainingStep, rank_of, step

__all__ = ["TERMS", "TrainingJob", "TrainingStep", "rank_of", "step"]
