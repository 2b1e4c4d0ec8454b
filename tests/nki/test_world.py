"""Ranks over time: collectives take what the fabric says and begin when the last rank has come; values as scheduled."""

import ml_dtypes
import numpy as np
import pytest

import trainshed.nki as nki
import trainshed.nki.collectives as ncc
import trainshed.nki.isa as nisa
import trainshed.nki.language as nl
from trainshed.chip.timing.clock import clocks
from trainshed.chip.timing.rates import rates
from trainshed.core.errors import UserError
from trainshed.fabric import Group, collective
from trainshed.fabric.schedule import replay, schedule
from trainshed.hardware.catalogue import Catalogue
from trainshed.nki.collectives import ReplicaGroup


def _delayed(x, copies):
    tile = nl.load(x)
    for _ in range(copies):
        after = nl.ndarray(tile.shape, tile.dtype)
        nisa.tensor_copy(dst=after, src=tile)
        tile = after
    out = nl.ndarray(x.shape, x.dtype, nl.shared_hbm)
    nl.store(out, tile)
    return out


def _summing(groups, times=1):
    """Copies as often as told, then sums over the groups, so many times."""

    def kernel(x, copies):
        held = _delayed(x, copies)
        for _ in range(times):
            out = nl.ndarray(x.shape, x.dtype, nl.shared_hbm)
            ncc.all_reduce([held], [out], ReplicaGroup(groups), nl.add)
            held = out
        return held

    return kernel


def _exchanges(clock):
    return [i for i, queue in enumerate(clock.queue) if queue.startswith("collectives")]


def _seconds(kind, size, ranks, system="trn3-gen2", **given):
    levels = Catalogue().system(system).levels
    return float(collective(kind, size=size, group=Group(ranks=ranks), levels=levels, **given).time.value)


X = np.arange(128 * 64, dtype=np.float32).reshape(128, 64)


def test_all_begin_when_the_last_has_come_and_take_what_the_fabric_says():
    ranks = nki.simulate_ranks(_summing([[0, 1, 2]], 2), [(X, 0), (X, 30), (X, 10)], ranks_per_chip=1)
    begins, ends = [], []
    for (clock,) in ranks.clocks:
        first, second = _exchanges(clock)
        begins.append((clock.start[first], clock.start[second]))
        ends.append((clock.end[first], clock.end[second]))
    assert len(set(begins)) == 1
    alone = nki.simulate(lambda x: _delayed(x, 30), target="trn3")
    alone(X)
    np.testing.assert_allclose(begins[0][0], alone.timing.seconds, rtol=1e-9)
    np.testing.assert_allclose(np.subtract(ends[0], begins[0]), _seconds("all_reduce", X.nbytes, 3), atol=1e-12)
    assert begins[0][1] == ends[0][0]
    assert ranks.seconds == max(one.seconds for one in ranks.timing) == ends[0][1]
    for found in ranks:
        np.testing.assert_array_equal(found, 9 * X)


def test_groups_do_not_wait_for_each_other():
    groups = [[0, 1], [2, 3]]
    ranks = nki.simulate_ranks(_summing(groups), [(X, 0), (X, 10), (X, 0), (X, 40)], ranks_per_chip=1)
    begins = [clock.start[_exchanges(clock)[0]] for (clock,) in ranks.clocks]
    assert begins[0] == begins[1] < begins[2] == begins[3]


def test_ranks_that_do_and_meet_the_same_are_timed_once_and_as_all_of_them():
    groups = [[0, 1], [2, 3], [4, 5], [6, 7]]
    copies = (0, 20, 20, 0, 0, 0, 0, 0)
    ranks = nki.simulate_ranks(_summing(groups, 2), [(X, count) for count in copies], ranks_per_chip=1)
    assert ranks.classes == (0, 1, 1, 0, 4, 4, 4, 4)
    every = list(range(8))
    columns = [column for (column,) in ranks.columns]
    met = ranks.world.together(every, {rank: rank for rank in every})
    for (short,), whole in zip(ranks.clocks, clocks(columns, rates("trn3"), meetings=met), strict=True):
        np.testing.assert_array_equal(short.start, whole.start)
        np.testing.assert_array_equal(short.ready, whole.ready)


def test_ranks_that_meet_others_later_are_no_class():
    def kernel(x, copies):
        one, two = (nl.ndarray(x.shape, x.dtype, nl.shared_hbm) for _ in range(2))
        ncc.all_reduce([_delayed(x, copies)], [one], ReplicaGroup([[0, 1], [2, 3]]), nl.add)
        ncc.all_reduce([one], [two], ReplicaGroup([[0, 2], [1, 3]]), nl.add)
        return two

    ranks = nki.simulate_ranks(kernel, [(X, 0), (X, 0), (X, 0), (X, 25)], ranks_per_chip=1)
    assert ranks.classes == (0, 1, 2, 3)  # 0 and 1 do the same, but 1 meets one that is late
    second = [clock.start[_exchanges(clock)[1]] for (clock,) in ranks.clocks]
    assert len(set(second)) == 1


@pytest.mark.parametrize("lnc", [1, 2])
def test_cores_of_a_rank_share_the_links(lnc):
    @nki.jit
    def kernel(x):
        tile, total = nl.load(x), nl.ndarray(x.shape, x.dtype)
        ncc.all_reduce([tile], [total], ReplicaGroup([[0, 1]]), nl.add)
        out = nl.ndarray(x.shape, x.dtype, nl.shared_hbm)
        if nl.program_id(0) == 0:
            nl.store(out, total)
        return out

    x = np.ones((128, 4096), np.float32)
    ranks = nki.simulate_ranks(kernel[lnc], [(x,), (x,)], ranks_per_chip=1)
    one, *others = ranks.collectives
    assert others == [one] * (lnc - 1)
    assert one.closed == _seconds("all_reduce", x.nbytes, 2, concurrent=float(lnc))
    for cores in ranks.clocks:
        for clock in cores:
            (i,) = _exchanges(clock)
            np.testing.assert_allclose(clock.end[i] - clock.start[i], one.closed, atol=1e-12)
    assert one.bytes == x.nbytes


def test_cores_that_name_the_same_tensors_have_one_collective():
    def kernel(x):
        out = nl.ndarray(x.shape, x.dtype, nl.shared_hbm)
        ncc.all_reduce([x], [out], ReplicaGroup([[0, 1]]), nl.add)
        return out

    x = np.ones((128, 4096), np.float32)
    one, two = (nki.simulate_ranks(nki.jit(kernel)[lnc], [(x,)] * 2, ranks_per_chip=1) for lnc in (1, 2))
    assert len(two.collectives) == 2
    assert two.seconds == one.seconds


@pytest.mark.parametrize(("opcode", "kind", "larger"), [
    ("all_gather", "all_gather", 4), ("reduce_scatter", "reduce_scatter", 1), ("all_to_all", "all_to_all", 1),
])  # fmt: skip
def test_sizes_are_those_of_the_fabric(opcode, kind, larger):
    x = np.ones((64, 256), np.float32)

    def kernel(x):
        rows = {"all_gather": 256, "reduce_scatter": 16, "all_to_all": 64}[opcode]
        out = nl.ndarray((rows, 256), x.dtype, nl.shared_hbm)
        extra = (nl.add,) if opcode == "reduce_scatter" else ()
        getattr(ncc, opcode)([x], [out], ReplicaGroup([[0, 1, 2, 3]]), 0, *extra)
        return out

    (one,) = nki.simulate_ranks(kernel, [(x,)] * 4, ranks_per_chip=1, target="trn3").collectives
    assert one.closed == _seconds(kind, float(larger * x.nbytes), 4)
    assert one.seconds == pytest.approx(one.closed, rel=1e-6)  # nothing meets on the links of a sled


@pytest.mark.parametrize(("rows", "per_chip"), [(1, 1), (4096, 1), (4096, 4)])
def test_values_are_those_of_the_cheapest_algorithm(rng, rows, per_chip):
    x = [rng.standard_normal((rows, 128)).astype(ml_dtypes.bfloat16) for _ in range(8)]

    def kernel(x):
        out = nl.ndarray(x.shape, x.dtype, nl.shared_hbm)
        ncc.all_reduce([x], [out], ReplicaGroup([list(range(8))]), nl.add)
        return out

    ranks = nki.simulate_ranks(kernel, [(item,) for item in x], ranks_per_chip=per_chip, time=False)
    (one,) = ranks.collectives
    given = {"levels": Catalogue().system("trn3-gen2").levels, "ranks_per_chip": float(per_chip)}
    cheapest = collective("all_reduce", size=float(x[0].nbytes), group=Group(ranks=8), **given)
    assert one.algorithm == str(cheapest.chosen)
    shape = {"levels": (4, 2)} if one.algorithm == "hierarchical" else {}  # four chips to a sled, four ranks to a chip
    wanted = replay(schedule("all_reduce", one.algorithm, 8, **shape), np.stack([item.reshape(-1) for item in x]))
    for found, expected in zip(ranks, wanted, strict=True):
        np.testing.assert_array_equal(found.reshape(-1), expected)
    exact = sum(item.astype(np.float64) for item in x)
    error = np.abs(ranks[0].astype(np.float64) - exact).max()
    assert 0 < error <= 7 * 2.0**-9 * sum(np.abs(item.astype(np.float64)) for item in x).max()


def test_channels_of_a_ring_run_side_by_side():
    x = np.ones((128, 1024), np.float32)

    def kernel(x):
        outs = [nl.ndarray(x.shape, x.dtype, nl.shared_hbm) for _ in range(2)]
        ncc.collective_permute_implicit([[x], [x]], [[out] for out in outs], ReplicaGroup([[0, 1]]), channel_ids=[0, 1])
        return tuple(outs)

    ranks = nki.simulate_ranks(kernel, [(x,)] * 2, ranks_per_chip=1)
    clock = ranks.clocks[0][0]
    one, two = _exchanges(clock)
    assert clock.start[one] == clock.start[two]
    assert {clock.queue[one], clock.queue[two]} == {"collectives", "collectives 1"}
    np.testing.assert_allclose(clock.seconds, _seconds("permute", x.nbytes, 2, concurrent=2.0), atol=1e-12)
    assert all(least <= clock.seconds for least in ranks.timing[0].bounds.values())


def test_lengths_known_when_it_runs_take_their_own_bytes():
    @nki.jit
    def kernel(x, rows):
        out = nl.zeros(x.shape, x.dtype, nl.shared_hbm)
        ncc.all_to_all_v([x], [out], ReplicaGroup([[0, 1]]), rows, recv_counts_known=True)

    x = np.ones(4096, np.float32)
    rows = [np.array([[count, count], [0, 0], [0, 0]], np.uint32) for count in (5, 50)]
    ranks = nki.simulate_ranks(kernel[2], [(x, one) for one in rows], ranks_per_chip=1)
    assert {one.bytes for one in ranks.collectives} == {2 * 50 * 4}


def test_ranks_share_chips_unless_told():
    x = np.ones((128, 2048), np.float32)
    packed = nki.simulate_ranks(_summing([list(range(8))]), [(x, 0)] * 8)
    assert (packed.world.links.per_chip, packed.world.links.system.name) == (8, "trn3-gen2")
    halved = nki.simulate_ranks(nki.jit(_summing([[0, 1]]))[2], [(x, 0)] * 2, target="trn2")
    assert (halved.world.links.per_chip, halved.world.links.system.name) == (4, "trn2-ultra")


def _takes(groups, ranks=8, **given):
    """Seconds of an all_reduce of 4 MiB over groups, by rank."""
    x = np.zeros((128, 8192), np.float32)
    found = nki.simulate_ranks(_summing(groups), [(x, 0)] * ranks, values=False, **given)
    takes = {rank: one.seconds for one in found.collectives for rank in one.members}
    return [takes[rank] for rank in range(ranks)]


def test_groups_that_share_links_take_longer():
    # On a torus every other chip is two links away, either way round; neighbours are one.
    across = _takes([[0, 2], [1, 3]], 4, target="trn2", ranks_per_chip=1)
    apart = _takes([[0, 1], [2, 3]], 4, target="trn2", ranks_per_chip=1)
    assert max(apart) < min(across)
    # Two ranks of a chip have its links together.
    alone = _takes([[0, 1]], 2, ranks_per_chip=1)[0]
    shared = _takes([[0, 2], [1, 3]], 4, ranks_per_chip=2)[0]
    assert alone < shared < 2 * alone


def test_uneven_groups_take_what_their_own_links_take():
    sled, across = _takes([[0, 1, 2, 3], [4, 5, 6, 7]], ranks_per_chip=1), _takes([[0, 1, 2, 7], [3, 4, 5, 6]],
                                                                                  ranks_per_chip=1)  # fmt: skip
    assert len(set(sled)) == 1
    assert sled[0] != pytest.approx(across[0], rel=0.01)


def test_a_formula_on_request():
    by_formula = _takes([list(range(8))], ranks_per_chip=1, model="closed")
    assert by_formula == [_seconds("all_reduce", 4.0 * 2**20, 8)] * 8
    assert by_formula[0] == pytest.approx(_takes([list(range(8))], ranks_per_chip=1)[0], rel=0.15)
    with pytest.raises(UserError, match="model of the links"):
        _takes([[0, 1]], 2, model="wires")


def test_rings_are_as_many_as_there_are_links():
    x = np.zeros((32, 4096), np.float32)

    def kernel(x):
        out = nl.ndarray((16 * 32, 4096), x.dtype, nl.shared_hbm)
        ncc.all_gather([x], [out], ReplicaGroup([list(range(16))]), 0)
        return out

    (one,) = nki.simulate_ranks(kernel, [(x,)] * 16, ranks_per_chip=1, values=False, target="trn1").collectives
    assert (one.algorithm, one.seconds) == ("ring", one.closed)


def test_pairs_send_side_by_side():
    x = np.zeros((1024, 1024), np.float32)

    def kernel(x):
        out = nl.ndarray(x.shape, x.dtype, nl.shared_hbm)
        ncc.collective_permute([x], [out], [(0, 1), (1, 2), (2, 3), (3, 0)])
        return out

    ranks = nki.simulate_ranks(kernel, [(x,)] * 4, ranks_per_chip=1, values=False)
    (one,) = ranks.collectives
    assert one.seconds == pytest.approx(_seconds("permute", float(x.nbytes), 4), rel=1e-6)


@pytest.mark.parametrize(("given", "sentence"), [
    ({"system": "trn2"}, "system"), ({"system": "trn9"}, "system"), ({"ranks_per_chip": 0}, "ranks on a chip"),
    ({"system": "trn3.3xlarge", "ranks_per_chip": 1}, "more ranks than the system has room for"),
])  # fmt: skip
def test_systems_that_do_not_fit(given, sentence):
    with pytest.raises(UserError, match=sentence):
        nki.simulate_ranks(_summing([[0, 1]]), [(X, 0)] * 2, **given)


def test_no_ranks_and_no_times():
    with pytest.raises(UserError, match="at least one rank"):
        nki.simulate_ranks(_summing([[0]]), [])
    for what in ("timing", "clocks", "classes", "seconds"):
        with pytest.raises(UserError, match="time=False"):
            getattr(nki.simulate_ranks(_summing([[0, 1]]), [(X, 0)] * 2, time=False), what)


def test_time_needs_no_values():
    kernel, inputs = _summing([[0, 1]], 3), [(X, 0), (X, 5)]
    with_values, alone = (nki.simulate_ranks(kernel, inputs, values=on, ranks_per_chip=1) for on in (True, False))
    assert with_values.seconds == alone.seconds
    assert alone[0].shape == X.shape


@pytest.mark.parametrize("kind", ["all_reduce", "all_gather", "reduce_scatter", "all_to_all"])
@pytest.mark.parametrize(("ranks", "per_chip", "target", "columns"), [
    (3, 1, "trn2", 129), (6, 4, "trn3", 1), (6, 4, "trn3", 129), (12, 2, "trn1", 129), (64, 4, "trn2", 1),
])  # fmt: skip
def test_whole_numbers_are_exact_by_whatever_algorithm(rng, kind, ranks, per_chip, target, columns):
    x = [rng.integers(-50, 50, (2 * ranks, columns)).astype(np.float32) for _ in range(ranks)]
    rows = {"all_gather": 2 * ranks * ranks, "reduce_scatter": 2}.get(kind, 2 * ranks)
    more = {"all_reduce": (nl.add,), "reduce_scatter": (0, nl.add)}.get(kind, (0,))

    def kernel(x):
        out = nl.ndarray((rows, columns), x.dtype, nl.shared_hbm)
        getattr(ncc, kind)([x], [out], ReplicaGroup([list(range(ranks))]), *more)
        return out

    total = sum(x)
    for rank, found in enumerate(nki.simulate_ranks(kernel, [(a,) for a in x], target=target, ranks_per_chip=per_chip)):
        own = slice(2 * rank, 2 * rank + 2)
        wanted = {
            "all_reduce": total, "reduce_scatter": total[own], "all_gather": np.concatenate(x),
            "all_to_all": np.concatenate([a[own] for a in x]),
        }[kind]  # fmt: skip
        np.testing.assert_array_equal(found, wanted)
