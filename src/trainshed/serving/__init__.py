"""Serving in closed form: one static batch, fixed concurrency, offline throughput, open arrivals, pools."""

from trainshed.serving.answer import answer, headline, result
from trainshed.serving.defaults import default_dtypes, deploy, pools
from trainshed.serving.deployment import Deployment, experts_split, parse_plan
from trainshed.serving.money import Power, joules_per_token, power
from trainshed.serving.outcome import Load, Outcome
from trainshed.serving.run import run
from trainshed.serving.worker import Worker, worker
from trainshed.serving.workload import Mode, Workload

__all__ = [
    "Deployment", "Load", "Mode", "Outcome", "Power", "Worker", "Workload", "answer", "default_dtypes", "deploy",
    "experts_split", "headline", "joules_per_token", "parse_plan", "pools", "power", "result", "run", "worker",
]  # fmt: skip
