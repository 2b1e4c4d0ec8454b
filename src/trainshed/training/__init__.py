"""One training step: pipeline schedules, overlap, memory."""

from trainshed.training.job import LEAST_BATCH, TrainingJob
from trainshed.training.step import TERMS, TrainingStep, rank_of, step

__all__ = ["LEAST_BATCH", "TERMS", "TrainingJob", "TrainingStep", "rank_of", "step"]
