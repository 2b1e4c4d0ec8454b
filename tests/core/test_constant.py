from dataclasses import dataclass

import numpy as np
import pytest

from trainshed.core import Constant, map_constants, replace_values


def make(**changes: object) -> Constant:
    fields = {"name": "chip/x.tdp", "value": 500.0, "unit": "W", "status": "published", "source": "a data sheet"}
    return Constant(**(fields | changes))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "changes", [{"status": "guessed"}, {"source": ""}, {"value": float("nan")}, {"value": float("inf")}]
)
def test_a_number_without_provenance_or_value_is_refused(changes: dict) -> None:
    with pytest.raises(ValueError, match=r"chip/x\.tdp"):
        make(**changes)


@dataclass(frozen=True)
class Holder:
    a: Constant
    many: tuple[Constant, ...]
    table: dict[str, Constant]
    text: str = "kept"


def test_replacing_reaches_every_branch_and_shares_the_rest() -> None:
    x, y = make(), make(name="chip/x.hbm", unit="B/s")
    holder = Holder(x, (x, y), {"y": y})
    new = replace_values(holder, {"chip/x.tdp": np.array([[1.0], [2.0]])})
    assert np.shape(new.a.value) == np.shape(new.many[0].value) == (2, 1)
    assert new.table is holder.table
    assert map_constants(holder, lambda c: c) is holder


def test_counts_are_structure_and_latencies_are_better_lower() -> None:
    assert make(unit="count").structural
    assert make(unit="s").lower_is_better
    assert not make(unit="B/s").lower_is_better
