"""A launched Neuron program (NEFF) that holds collectives: what launching it costs besides the collectives.

The runtime lets all ranks of a program with a collective across cores meet once per execution, however many it holds:
the ranks of a chip one after another, then chips in rounds of pairs.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from trainshed.core import Constant, Cost, Number, UserError, formula, total
from trainshed.fabric.group import Group, spread
from trainshed.hardware.schema import Level


def program(
    levels: Sequence[Level], *, group: Group, collectives: Cost, count: Number, ranks_per_chip: float = 1.0,
    meets: bool = True,
) -> Cost:  # fmt: skip
    """Launch, meeting of the ranks (none where ``count`` is 0), and ``count`` collectives after one another.

    ``meets`` is False for runtimes of before the meeting (and with ``NEURON_RT_ENABLE_HW_EXECUTION_BARRIER``).
    """
    first = levels[0]
    if "program" not in first.fitted:
        raise UserError(
            "no launch time of whole programs is known", where="program", value=first.interconnect,
            expected="a system of Trainium or Inferentia chips",
        )  # fmt: skip
    several = np.where(np.asarray(count) > 0, 1.0, 0.0) * meets
    names: dict[str, Number | Constant] = {"several": several}
    words = []
    for i, share in enumerate(spread(group, levels, ranks_per_chip)):
        fan = np.asarray(share.fan)
        rounds = fan - 1.0 if share.level.topology == "chip" else np.log2(fan)
        names |= {f"rounds{i}": rounds, f"meeting{i}": share.level.fitted["meeting"]}
        words.append(f"rounds{i} * meeting{i}")
    return total(
        "program",
        [
            formula("launch of the program", "s", "program", program=first.fitted["program"]),
            formula("meeting of the ranks", "s", f"several * ({' + '.join(words) or '0.0'})", **names),
            formula("collectives", "s", "count * each", count=count, each=collectives),
        ],
    )
