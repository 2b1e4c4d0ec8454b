"""Where the ranks of each group sit: tp innermost, then cp, then dp, pp outermost; ep and etp inside tp × cp × dp.

This is Megatron-LM's order ``tp-cp-ep-dp-pp``: rank = tp_i + tp · (cp_i + cp · (dp_i + dp · pp_i)). Neighbours of a TP
group are neighbours on the fabric, so TP runs on the innermost (fastest) levels and PP on the outermost. Experts fold
the same ranks otherwise: etp innermost, then ep, then the data-parallel copies of the experts.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from trainshed.core import Number, Plan


@dataclass(frozen=True, kw_only=True, eq=False)
class Span:
    """A group: how many ranks and how far apart neighbours are."""

    ranks: Number
    stride: Number


def spans(plan: Plan) -> dict[str, Span]:
    """The group of each axis under the default placement; arrays where the plan is a table."""
    tp, cp, dp, ep, etp, dpa = (
        np.asarray(getattr(plan, name), dtype=np.float64) for name in ("tp", "cp", "dp", "ep", "etp", "dpa")
    )
    inside = tp * cp * dp
    return {
        "tp": Span(ranks=tp, stride=np.ones_like(tp)),
        "attention_tp": Span(ranks=np.maximum(tp / dpa, 1.0), stride=np.ones_like(tp)),
        "dpa": Span(ranks=dpa, stride=np.maximum(tp / dpa, 1.0)),
        "cp": Span(ranks=cp, stride=tp),
        "etp": Span(ranks=etp, stride=np.ones_like(etp)),
        "ep": Span(ranks=ep, stride=etp),
        "dp": Span(ranks=dp * cp, stride=tp),
        "expert_dp": Span(ranks=np.maximum(inside / (ep * etp), 1.0), stride=ep * etp),
        "pp": Span(ranks=np.asarray(plan.pp, dtype=np.float64), stride=inside),
    }
