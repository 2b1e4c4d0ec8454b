"""A group of one rank costs nothing, alone or as a row of a table of groups."""

from __future__ import annotations

import numpy as np
import pytest

from trainshed.fabric import KINDS, Group, collective
from trainshed.hardware.catalogue import Catalogue


@pytest.mark.parametrize("system", ["p5", "trn3-gen2", "tpu-v5p-pod", "trn1"])
@pytest.mark.parametrize("kind", KINDS)
def test_one_rank_costs_nothing_in_a_table_either(system: str, kind: str) -> None:
    group = Group(ranks=np.array([1.0, 1.0, 8.0]), stride=np.array([1.0, 8.0, 1.0]))
    found = collective(kind, size=1e9, copies=4.0, group=group, levels=Catalogue().system(system).levels)
    assert list(found.time.value[:2]) == [0.0, 0.0]
    assert found.time.value[2] > 0
    assert all(np.broadcast_to(b, (3,))[0] == 0 for b in found.bytes_on_links.values())
