"""What rooms hand each other: sourced constants, costs, operators, plans, activity, results, errors."""

from trainshed.core.activity import NOTHING, Activity
from trainshed.core.constant import Array, Constant, Number, map_constants, replace_values
from trainshed.core.cost import Cost, cheapest, formula, longest, scaled, total
from trainshed.core.dtypes import Dtypes
from trainshed.core.errors import PlanError, ResultError, TrainshedError, UserError, unknown_name
from trainshed.core.op import (
    Attention,
    Block,
    Elementwise,
    Experts,
    Graph,
    Lookup,
    Matmul,
    Op,
    Scan,
    Shard,
)
from trainshed.core.plan import Degree, Plan, Recompute
from trainshed.core.result import Assumption, Evidence, Result, plain
from trainshed.numerics.dtypes import BYTES

__all__ = [
    "BYTES", "NOTHING", "Activity", "Array", "Assumption", "Attention", "Block", "Constant", "Cost", "Degree", "Dtypes",
    "Elementwise", "Evidence", "Experts", "Graph", "Lookup", "Matmul", "Number", "Op", "Plan", "PlanError", "Recompute",
    "Result", "ResultError", "Scan", "Shard", "TrainshedError", "UserError", "cheapest", "formula", "longest",
    "map_constants", "plain", "replace_values", "scaled", "total", "unknown_name",
]  # fmt: skip
