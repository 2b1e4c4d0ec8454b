"""A plan applied to a graph: per-rank operators, collectives and memory."""

from trainshed.parallel.check import Rule, check, divides, rules
from trainshed.parallel.exchange import block_exchanges, step_exchanges
from trainshed.parallel.memory import Held, Memory, activation_bytes, held, training_memory
from trainshed.parallel.placement import Span, spans
from trainshed.parallel.rank import per_rank
from trainshed.parallel.stages import Stages, in_flight, split_layers, stage_times
from trainshed.parallel.work import BlockWork, Collective, OpWork, Phase, RankWork

__all__ = [
    "BlockWork",
    "Collective",
    "Held",
    "Memory",
    "OpWork",
    "Phase",
    "RankWork",
    "Rule",
    "Span",
    "Stages",
    "activation_bytes",
    "block_exchanges",
    "check",
    "divides",
    "held",
    "in_flight",
    "per_rank",
    "rules",
    "spans",
    "split_layers",
    "stage_times",
    "step_exchanges",
    "training_memory",
]
