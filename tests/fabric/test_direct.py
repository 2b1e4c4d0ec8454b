"""Point-to-point traffic: permute, all_to_all, experts, and the channels of a library."""

from __future__ import annotations

import numpy as np
import pytest

from trainshed.fabric import Group, collective
from trainshed.fabric.direct import CHANNELS
from trainshed.hardware.schema import Level

from .conftest import HOP, LAUNCH, REACH, WIRE, level

S = 64e6
NCCL = {
    "channels": 32, "channels_per_peer": 32, "ring_channels": 24, "low_latency": 0.4, "part_least": 65536,
    "part_least_low_latency": 8192, "part_most": 2**24, "low_latency_most": 16384, "chunk": 2**19,
}  # fmt: skip


def take(levels: tuple[Level, ...], kind: str, n: float, size: float = S, **more: float | str) -> float:
    found = collective(kind, size=size, group=Group(ranks=n), levels=levels, **more)  # type: ignore[arg-type]
    return float(found.time.value)


def test_all_to_all_behind_a_switch(switch: tuple[Level, ...]) -> None:
    expected = LAUNCH + HOP + WIRE + 7 / 8 * S / (100e9 * REACH)
    assert take(switch, "all_to_all", 8, algorithm="direct") == pytest.approx(expected)


def test_all_to_all_on_a_torus_pays_every_link_on_the_way(torus: tuple[Level, ...]) -> None:
    found = collective("all_to_all", size=S, group=Group(ranks=16), levels=torus, algorithm="direct")
    assert float(np.asarray(found.bytes_on_links["server"])) == pytest.approx(S * 15 / 16 * 32 / 15)
    assert float(found.time.value) == pytest.approx(LAUNCH + HOP + WIRE + 2 * S / (400e9 * REACH))


def test_all_to_all_leaves_the_node_through_its_own_adapter(two_levels: tuple[Level, ...]) -> None:
    expected = LAUNCH + HOP + WIRE + 24 / 32 * S / (50e9 * REACH)
    assert take(two_levels, "all_to_all", 32, algorithm="direct") == pytest.approx(expected)


def test_permute_is_decided_by_those_who_cross_the_outermost_level(two_levels: tuple[Level, ...]) -> None:
    assert take(two_levels, "permute", 16) == pytest.approx(LAUNCH + HOP + WIRE + S / (50e9 * REACH))
    assert take(two_levels, "permute", 4) == pytest.approx(LAUNCH + HOP + WIRE + S / (400e9 * REACH))


def test_permute_on_a_torus_has_one_link(torus: tuple[Level, ...]) -> None:
    assert take(torus, "permute", 4) == pytest.approx(LAUNCH + HOP + WIRE + S / (100e9 * REACH))


def test_the_staircase_of_channels() -> None:
    """One channel up to 16 MiB, then twice as many each time the part would grow beyond: the time stays the same."""
    lv = (level("rack", 72, 900e9, **NCCL),)
    start, one = LAUNCH + HOP + WIRE, 900e9 * REACH / 32
    for mib, copying in ((1, 1), (8, 8), (16, 16), (32, 16), (256, 16), (512, 16), (1024, 32)):
        assert take(lv, "permute", 64, mib * 2**20) == pytest.approx(start + copying * 2**20 / one), mib
    # words of the LL protocol up to 16 KiB per channel of a peer, half the threads sending
    assert take(lv, "permute", 64, 2**19) == pytest.approx(start + 2**19 / (900e9 * REACH * 0.4 / 24 / 2))


def test_small_messages_are_cut_as_fine_as_their_protocol_allows() -> None:
    lv = (level("rack", 72, 900e9, **NCCL),)
    word = 900e9 * REACH * 0.4 / 24 / 2
    for kib, parts in ((8, 1), (16, 2), (24, 3), (32, 4), (256, 4)):  # 4 of 32 channels for each of 8 ranks
        expected = LAUNCH + HOP + WIRE + kib * 1024 / parts / word
        assert take(lv, "permute", 8, kib * 1024) == pytest.approx(expected), kib


def test_channels_shared_by_many_peers_take_turns() -> None:
    lv = (level("rack", 72, 1e15, **NCCL),)
    message, one = 2**24, 1e15 * REACH / 32
    for n, turns in ((33, 1), (64, 2), (72, 3)):
        expected = LAUNCH + HOP + WIRE + (turns * message + 2**19) / one
        assert take(lv, "all_to_all", n, message * n, algorithm="direct") == pytest.approx(expected), n


def test_kernels_of_experts_do_not_use_the_channels(switch: tuple[Level, ...]) -> None:
    lv = (level("rack", 1024, 100e9, **NCCL),)
    assert take(lv, "moe_dispatch", 64, algorithm="direct") == take(switch, "moe_dispatch", 64, algorithm="direct")


def test_without_a_library_only_links_count(switch: tuple[Level, ...]) -> None:
    assert not set(CHANNELS) & set(switch[0].fitted)
    assert take(switch, "permute", 4) == pytest.approx(LAUNCH + HOP + WIRE + S / (100e9 * REACH))


def test_pairs_cost_set_up() -> None:
    with_pairs, without = (level("rack", 72, 1e11, pair=1e-8, pair_most=32.0),), (level("rack", 72, 1e11),)
    for n, pairs in ((8, 64), (32, 1024), (64, 64 * 32)):
        assert take(with_pairs, "all_to_all", n) - take(without, "all_to_all", n) == pytest.approx(pairs * 1e-8)


def test_dispatch_sends_each_copy_or_once_per_node(two_levels: tuple[Level, ...]) -> None:
    """8 experts of 32 ranks in 4 nodes: 4 (1 − (3/4)^8) nodes hit, three quarters of them remote."""
    each = collective(
        "moe_dispatch", size=S, group=Group(ranks=32), levels=two_levels, copies=8.0, algorithm="hierarchical"
    )
    hit = 4 * (1 - 0.75**8)
    assert float(np.asarray(each.bytes_on_links["network"])) == pytest.approx(S / 8 * hit * 3 / 4)
    direct = collective("moe_dispatch", size=S, group=Group(ranks=32), levels=two_levels, algorithm="direct")
    assert float(np.asarray(direct.bytes_on_links["network"])) == pytest.approx(S * 24 / 32)
    assert each.time.value < direct.time.value


def test_the_hit_nodes_match_a_draw(two_levels: tuple[Level, ...]) -> None:
    rng = np.random.default_rng(7)
    nodes = rng.integers(0, 4, size=(20_000, 8))
    hit = np.mean([len(set(row)) for row in nodes])
    found = collective(
        "moe_dispatch", size=8.0, group=Group(ranks=32), levels=two_levels, copies=8.0, algorithm="hierarchical"
    )
    assert float(np.asarray(found.bytes_on_links["network"])) == pytest.approx(hit * 3 / 4, rel=0.01)


def test_experts_domain_by_domain_pass_as_many_links_of_a_torus_as_direct_messages() -> None:
    """One expert per token on one level: both send S (n − 1) / n, over 32/15 links on average."""
    lv = (level("server", 16, 4e11, topology="torus", dims=(4, 4)),)
    sent = [
        collective("moe_dispatch", size=S, group=Group(ranks=16), levels=lv, algorithm=name).bytes_on_links["server"]
        for name in ("direct", "hierarchical")
    ]
    assert sent == pytest.approx([S * 15 / 16 * 32 / 15] * 2)


def test_one_rank_of_a_chip_sends_elsewhere_in_a_permute() -> None:
    """Four ranks on each of four chips: groups of neighbours leave a chip once, groups across chips four times."""
    lv = (level("chip", 1, 1e13, topology="chip"), level("rack", 4, 1e11))

    def takes(group: Group) -> float:
        return float(collective("permute", size=S, group=group, levels=lv, ranks_per_chip=4.0).time.value)

    outside = LAUNCH + HOP + WIRE
    assert takes(Group(ranks=16)) == pytest.approx(outside + S / (1e11 * REACH))
    assert takes(Group(ranks=4, stride=4)) == pytest.approx(outside + 4 * S / (1e11 * REACH))
    without = collective("permute", size=S, group=Group(ranks=16), levels=lv[1:], ranks_per_chip=4.0)
    assert float(without.time.value) == pytest.approx(outside + S / (1e11 * REACH))
