"""What a workload takes on a deployment: times as cost trees, rates, and what the chips did meanwhile."""

from __future__ import annotations

from dataclasses import dataclass, field

from trainshed.core import Activity, Cost, Number
from trainshed.serving.steps import Step
from trainshed.serving.worker import Worker


@dataclass(frozen=True, kw_only=True, eq=False)
class Load:
    """What one rank of a worker does in ``seconds`` of the steady state (energy follows from it)."""

    worker: Worker
    activity: Activity
    seconds: Number


@dataclass(frozen=True, kw_only=True, eq=False)
class Outcome:
    """Times per request and rates of the whole deployment; None where the workload has no such figure."""

    ttft: Cost | None = None
    """Mean seconds from sending a request to its first token."""
    tpot: Cost | None = None
    """Mean seconds per output token after the first."""
    e2e: Cost | None = None
    """Mean seconds from sending a request to its last token (static: of the whole batch)."""
    tokens_per_s: Number = 0.0
    """Output tokens per second of all replicas."""
    requests_per_s: Number = 0.0
    running: Number = 0.0
    """Sequences that decode at once, all replicas."""
    room: Number = 0.0
    """Sequences whose caches fit, all replicas."""
    context: Number = 0.0
    """Tokens that a decode step attends, on average."""
    prefill: Step | None = None
    decode: Step | None = None
    loads: tuple[Load, ...] = field(default=())
    unknown: dict[str, str] = field(default_factory=dict)
    """Figures that this model cannot know, and why."""
