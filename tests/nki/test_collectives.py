"""Collectives: values over several ranks against NumPy, one rank, and every check of their arguments."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

import trainshed.nki as nki
import trainshed.nki.collectives as ncc
import trainshed.nki.isa as nisa
import trainshed.nki.language as nl
from trainshed.chip.errors import NkiValidationError
from trainshed.core.errors import UserError
from trainshed.nki.collectives import ReplicaGroup


def _kernel(collective, shape, buffer=nl.shared_hbm):
    """Copies its input to ``src``, lets ``collective(src, dst)`` fill ``dst`` of ``shape(input)``, returns it."""

    def kernel(x):
        src = nl.ndarray(x.shape, x.dtype, buffer)
        dst = nl.ndarray(shape(x.shape), x.dtype, buffer)
        nisa.dma_copy(src, x)
        collective(src, dst)
        out = nl.ndarray(dst.shape, dst.dtype, nl.shared_hbm)
        nisa.dma_copy(out, dst)
        return out

    return kernel


def _same(shape):
    return shape


def _ranks(rng, count, shape, dtype=np.float32):
    return [rng.standard_normal(shape).astype(dtype) for _ in range(count)]


@pytest.mark.parametrize("buffer", [nl.shared_hbm, nl.sbuf])
@pytest.mark.parametrize(("op", "formula"), [(nl.add, np.add), (nl.minimum, np.minimum), (nl.maximum, np.maximum)])
def test_all_reduce(rng, op, formula, buffer):
    x = _ranks(rng, 4, (16, 8))
    group = ReplicaGroup([[0, 2], [1, 3]])
    kernel = _kernel(lambda s, d: ncc.all_reduce([s], [d], group, op), _same, buffer)
    found = nki.simulate_ranks(kernel, [(item,) for item in x])
    for members in group.groups:
        for rank in members:
            np.testing.assert_array_equal(found[rank], formula.reduce([x[r] for r in members]))


def test_every_addition_of_an_all_reduce_rounds_to_the_dtype(rng):
    x = _ranks(rng, 3, (4, 64), ml_dtypes.bfloat16)
    kernel = _kernel(lambda s, d: ncc.all_reduce([s], [d], ReplicaGroup([[0, 1, 2]]), nl.add), _same)

    def added(a, b):
        return (a.astype(np.float32) + b.astype(np.float32)).astype(ml_dtypes.bfloat16)

    orders = [added(added(x[i], x[j]), x[3 - i - j]) for i, j in ((0, 1), (0, 2), (1, 2))]
    at_once = sum(item.astype(np.float32) for item in x).astype(ml_dtypes.bfloat16)
    for found in nki.simulate_ranks(kernel, [{"x": item} for item in x]):
        assert np.any([found == one for one in orders], axis=0).all()
        assert not (found == at_once).all()


@pytest.mark.parametrize(("buffer", "dim"), [(nl.shared_hbm, 0), (nl.sbuf, 0), (nl.sbuf, 1)])
def test_all_gather(rng, buffer, dim):
    x = _ranks(rng, 2, (16, 8))

    def shape(one):
        return tuple(size * (2 if i == dim else 1) for i, size in enumerate(one))

    kernel = _kernel(lambda s, d: ncc.all_gather([s], [d], ReplicaGroup([[0, 1]]), dim), shape, buffer)
    for found in nki.simulate_ranks(kernel, [(item,) for item in x]):
        np.testing.assert_array_equal(found, np.concatenate(x, axis=dim))


def test_reduce_scatter_and_all_to_all(rng):
    x = _ranks(rng, 3, (6, 5))
    group = ReplicaGroup([[2, 0, 1]])
    parts = _kernel(lambda s, d: ncc.reduce_scatter([s], [d], group, 0, nl.add), lambda shape: (2, 5))
    turned = _kernel(lambda s, d: ncc.all_to_all([s], [d], group, 0), _same)
    scattered = nki.simulate_ranks(parts, [(item,) for item in x])
    exchanged = nki.simulate_ranks(turned, [(item,) for item in x])
    for place, rank in enumerate(group.groups[0]):
        mine = slice(2 * place, 2 * place + 2)
        np.testing.assert_allclose(scattered[rank], sum(item[mine] for item in x), rtol=1e-6)
        np.testing.assert_array_equal(exchanged[rank], np.concatenate([x[r][mine] for r in group.groups[0]]))


def test_several_tensors_of_hbm_at_once(rng):
    def kernel(x, y):
        outs = [nl.ndarray(t.shape, t.dtype, nl.shared_hbm) for t in (x, y)]
        ncc.all_reduce([x, y], outs, ReplicaGroup([[0, 1]]), nl.add)
        return tuple(outs)

    x, y = _ranks(rng, 2, (4, 4)), _ranks(rng, 2, (2, 3))
    for first, second in nki.simulate_ranks(kernel, list(zip(x, y, strict=True))):
        np.testing.assert_array_equal(first, x[0] + x[1])
        np.testing.assert_array_equal(second, y[0] + y[1])


def test_two_cores_of_each_rank_exchange_with_their_like(rng):
    def kernel(x):
        row = nl.program_id(0)
        tile = nl.load(x[row : row + 1])
        total = nl.ndarray(tile.shape, tile.dtype)
        ncc.all_reduce([tile], [total], ReplicaGroup([[0, 1]]), nl.add)
        out = nl.ndarray(x.shape, x.dtype, nl.shared_hbm)
        nl.store(out[row : row + 1], total)
        return out

    x = _ranks(rng, 2, (2, 8))
    for found in nki.simulate_ranks(nki.jit(kernel)[2], [(item,) for item in x]):
        np.testing.assert_array_equal(found, x[0] + x[1])


def test_a_ring_passes_everything_round(rng):
    size = 4

    def kernel(x):
        group = ReplicaGroup([list(range(size))])
        out = nl.ndarray((size, *x.shape), x.dtype, nl.shared_hbm)
        held = nl.load(x)
        for step in range(size):
            owner = ncc.collective_permute_implicit_current_processing_rank_id(step, group)
            nisa.dma_copy(out.select(0, owner), held)
            received = nl.ndarray(held.shape, held.dtype)
            ncc.collective_permute_implicit([[held]], [[received]], group)
            held = received
        return out

    x = _ranks(rng, size, (8, 4))
    for found in nki.simulate_ranks(kernel, [(item,) for item in x]):
        np.testing.assert_array_equal(found, np.stack(x))


def test_a_ring_that_adds_on_two_channels(rng):
    def kernel(x, y):
        outs = [nl.ndarray(x.shape, x.dtype, nl.shared_hbm) for _ in range(2)]
        ncc.collective_permute_implicit_reduce(
            [[x], [y]], [[y], [y]], [[out] for out in outs], ReplicaGroup([[0, 1, 2]]), nl.add, channel_ids=[0, 1]
        )
        return tuple(outs)

    x, y = _ranks(rng, 3, (4, 4)), _ranks(rng, 3, (4, 4))
    for rank, found in enumerate(nki.simulate_ranks(kernel, list(zip(x, y, strict=True)))):
        before = rank - 1
        np.testing.assert_array_equal(found[0], x[before] + y[before])
        np.testing.assert_array_equal(found[1], y[before] + y[before])


def test_pairs_send_and_others_keep_theirs(rng):
    def kernel(x):
        out = nl.zeros(x.shape, x.dtype, nl.shared_hbm)
        ncc.collective_permute([x], [out], [(0, 2), (2, 1)])
        return out

    x = _ranks(rng, 4, (4, 4))
    found = nki.simulate_ranks(kernel, [(item,) for item in x])
    for array, expected in zip(found, (0 * x[0], x[2], x[0], 0 * x[0]), strict=True):
        np.testing.assert_array_equal(array, expected)


@pytest.mark.parametrize("displaced", [False, True])
def test_all_to_all_of_lengths_known_when_it_runs(displaced):
    # Rank r sends r + i + 1 elements to rank i.
    @nki.jit
    def kernel(x, metadata):
        out = nl.ndarray((12,), x.dtype, nl.shared_hbm)
        rows = nl.ndarray(metadata.shape, metadata.dtype, nl.shared_hbm)
        if nl.program_id(0) == 0:  # the other core would do the same to the same tensors
            nl.store(out.reshape((1, 12)), nl.zeros((1, 12), x.dtype))
            nisa.dma_copy(rows, metadata)
            ncc.all_to_all_v([x], [out], ReplicaGroup([[0, 1]]), rows, has_rdispls=displaced)
        return out, rows

    inputs = []
    for rank in range(2):
        rows = [[rank + 1, rank + 2], [0, 4], [0, 0], [7, 1]][: 4 if displaced else 3]
        inputs.append((np.arange(8, dtype=np.float32) + 10 * rank, np.array(rows, np.uint32)))
    (first, counts), (second, other) = nki.simulate_ranks(kernel[2], inputs, ranks_per_chip=1)
    np.testing.assert_array_equal(counts[2], [1, 2])
    np.testing.assert_array_equal(other[2], [2, 3])
    a, b = (7, 1) if displaced else (0, 6)
    expected = np.zeros((2, 12), np.float32)
    expected[0, a : a + 1], expected[0, b : b + 2] = [0], [10, 11]
    expected[1, a : a + 2], expected[1, b : b + 3] = [4, 5], [14, 15, 16]
    np.testing.assert_array_equal(np.stack([first, second]), expected)


@pytest.mark.parametrize(("ranks", "per_chip", "lnc", "target", "rule"), [
    ([[0, 1]], 1, 1, "trn3", "lnc"),
    ([[0, 1]], 2, 2, "trn3", "replica-group"),
    ([[0, 2], [1, 3]], 2, 2, "trn3", "replica-group"),
    ([[0, 1], [2, 3]], 1, 1, "trn2", "replica-group"),
])  # fmt: skip
def test_where_all_to_all_of_lengths_does_not_run(ranks, per_chip, lnc, target, rule):
    @nki.jit
    def kernel(x, rows):
        out = nl.zeros((8,), x.dtype, nl.shared_hbm)
        ncc.all_to_all_v([x], [out], ReplicaGroup(ranks), rows, recv_counts_known=True)

    given = (np.ones(8, np.float32), np.ones((3, 2), np.uint32))
    with pytest.raises(NkiValidationError) as caught:
        nki.simulate_ranks(kernel[lnc], [given] * 4, ranks_per_chip=per_chip, target=target)
    assert caught.value.rule == rule


def test_all_gather_of_lengths_known_when_it_runs():
    @nki.jit
    def kernel(x, metadata):
        out = nl.zeros((16,), x.dtype, nl.shared_hbm)
        ncc.all_gather_v([x], [out], ReplicaGroup([[0, 1, 2, 3]]), metadata, recv_counts_known=True)
        return out

    inputs = []
    for rank in range(4):
        rows = np.zeros((3, 4), np.uint32)
        rows[:2, 0] = rank, 1
        inputs.append((np.arange(8, dtype=np.float32) + 10 * rank, rows))
    expected = np.zeros((4, 4), np.float32)
    for rank in range(4):
        expected[rank, :rank] = np.arange(1, 1 + rank) + 10 * rank
    for found in nki.simulate_ranks(kernel[2], inputs):
        np.testing.assert_array_equal(found, expected.reshape(-1))


def test_rank_id_is_a_register():
    def kernel(x):
        out = nl.ndarray((1, 4), x.dtype, nl.shared_hbm)
        nisa.dma_copy(out, x.ap([[4, 1], [1, 4]], scalar_offset=ncc.rank_id(), indirect_dim=0))
        return out

    x = np.arange(12, dtype=np.float32).reshape(3, 4)
    for rank, found in enumerate(nki.simulate_ranks(kernel, [(x,)] * 3)):
        np.testing.assert_array_equal(found[0], x[rank])
    np.testing.assert_array_equal(nki.simulate(kernel)(x)[0], x[0])


def test_one_rank_exchanges_with_itself(rng):
    x = rng.standard_normal((4, 4)).astype(np.float32)
    group = ReplicaGroup([[0]])
    for collective in (
        lambda s, d: ncc.all_reduce([s], [d], group, nl.add), lambda s, d: ncc.all_gather([s], [d], group, 0),
        lambda s, d: ncc.reduce_scatter([s], [d], group, 0, nl.add), lambda s, d: ncc.all_to_all([s], [d], group, 0),
        lambda s, d: ncc.collective_permute_implicit([[s]], [[d]], group),
        lambda s, d: ncc.collective_permute([s], [d], [(0, 0)]),
    ):  # fmt: skip
        simulated = nki.simulate(_kernel(collective, _same))
        np.testing.assert_array_equal(simulated(x), x)
        record = simulated.launch.cores[0].instructions[1]
        assert record.work["bytes"] == x.nbytes
        assert (record.reads[0].shape, record.writes[0].shape) == (x.shape, x.shape)


def test_ranks_run_without_values():
    kernel = _kernel(lambda s, d: ncc.all_reduce([s], [d], ReplicaGroup([[0, 1]]), nl.add), _same)
    for found in nki.simulate_ranks(kernel, [(np.ones((4, 4), np.float32),)] * 2, values=False):
        assert found.shape == (4, 4)


# --- what is refused --------------------------------------------------------------------------------------------

PAIR = ReplicaGroup([[0, 1]])
ALONE = ReplicaGroup([[0]])
HBM, SBUF = nl.shared_hbm, nl.sbuf


@pytest.mark.parametrize(("rule", "buffer", "collective"), [
    ("multi-rank", HBM, lambda s, d: ncc.all_reduce([s], [d], PAIR, nl.add)),
    ("replica-group", HBM, lambda s, d: ncc.all_reduce([s], [d], ReplicaGroup([[0], [0]]), nl.add)),
    ("replica-group", HBM, lambda s, d: ncc.all_reduce([s], [d], ReplicaGroup([[0], [1, 2]]), nl.add)),
    ("operand", HBM, lambda s, d: ncc.all_reduce([s], [d], [[0]], nl.add)),
    ("reduction", HBM, lambda s, d: ncc.all_reduce([s], [d], ALONE, nl.multiply)),
    ("shape", HBM, lambda s, d: ncc.all_reduce([s], [d[0:2]], ALONE, nl.add)),
    ("shape", HBM, lambda s, d: ncc.all_reduce([s], [d, d], ALONE, nl.add)),
    ("shape", HBM, lambda s, d: ncc.all_reduce([], [], ALONE, nl.add)),
    ("dtype", HBM, lambda s, d: ncc.all_reduce([s], [d.view(nl.int32)], ALONE, nl.add)),
    ("memory", HBM, lambda s, d: ncc.all_reduce([s], [nl.ndarray((4, 4), nl.float32)], ALONE, nl.add)),
    ("coalesced", SBUF, lambda s, d: ncc.all_reduce([s, s], [d, d], ALONE, nl.add)),
    ("priority", HBM, lambda s, d: ncc.all_reduce([s], [d], ALONE, nl.add, priority=4)),
    ("collective-dim", HBM, lambda s, d: ncc.all_gather([s], [d], ALONE, 1)),
    ("collective-dim", SBUF, lambda s, d: ncc.reduce_scatter([s], [d], ALONE, 1, nl.add)),
    ("memory", SBUF, lambda s, d: ncc.all_to_all([s], [d], ALONE, 0)),
    ("memory", SBUF, lambda s, d: ncc.collective_permute([s], [d], [(0, 0)])),
    ("coalesced", HBM, lambda s, d: ncc.collective_permute([s, s], [d, d], [(0, 0)])),
    ("pairs", HBM, lambda s, d: ncc.collective_permute([s], [d], [(0, 1), (0, 2)])),
    ("channels", HBM, lambda s, d: ncc.collective_permute_implicit([[s]], [[d]], ALONE, channel_ids=[1])),
    ("channels", HBM, lambda s, d: ncc.collective_permute_implicit([[s]], [[d]], ALONE, channel_ids=[0, 1])),
    ("coalesced", HBM, lambda s, d: ncc.collective_permute_implicit([[s, s]], [[d, d]], ALONE)),
    ("unsupported", HBM, lambda s, d: ncc.all_gather_v([s], [d], ALONE, s, has_rdispls=True)),
    ("lnc", HBM, lambda s, d: ncc.all_gather_v([s], [d], ALONE, s)),
    ("shape", HBM, lambda s, d: ncc.all_to_all_v([s], [d], ALONE, s)),
])  # fmt: skip
def test_what_is_refused(rule, buffer, collective):
    with pytest.raises(NkiValidationError) as caught:
        nki.simulate(_kernel(collective, _same, buffer))(np.ones((4, 4), np.float32))
    assert caught.value.rule == rule
    assert "test_collectives.py:" in str(caught.value)


def test_priority_needs_the_newest_core():
    kernel = _kernel(lambda s, d: ncc.all_reduce([s], [d], ALONE, nl.add, priority=1), _same)
    with pytest.raises(NkiValidationError, match="NeuronCore-v4"):
        nki.simulate(kernel, target="trn2")(np.ones((4, 4), np.float32))


def test_a_rank_that_no_group_has_and_a_group_of_ranks_that_do_not_run():
    for group in ([[1]], [[0, 1, 2]]):
        kernel = _kernel(lambda s, d, group=group: ncc.all_reduce([s], [d], ReplicaGroup(group), nl.add), _same)
        with pytest.raises(NkiValidationError) as caught:
            nki.simulate_ranks(kernel, [(np.ones((4, 4), np.float32),)] * 2)
        assert caught.value.rule == "replica-group"


def test_elements_beyond_a_buffer():
    def kernel(x, metadata):
        out = nl.zeros((4,), x.dtype, nl.shared_hbm)
        ncc.all_to_all_v([x], [out], ALONE, metadata, recv_counts_known=True)

    with pytest.raises(NkiValidationError, match="elements up to"):
        nki.simulate(kernel)(np.ones(8, np.float32), np.array([[5], [6], [0]], np.uint32))


def test_a_rank_that_never_comes_is_found():
    def kernel(x, come):
        if come:
            ncc.all_reduce([x], [nl.ndarray(x.shape, x.dtype, nl.shared_hbm)], PAIR, nl.add)

    x = np.ones((4, 4), np.float32)
    with pytest.raises(NkiValidationError, match="waits for ever"):
        nki.simulate_ranks(kernel, [(x, True), (x.copy(), False)])


def test_ranks_that_call_different_collectives():
    def kernel(x, gathers):
        out = nl.ndarray((8, 4), x.dtype, nl.shared_hbm)
        if gathers:
            ncc.all_gather([x], [out], PAIR, 0)
        else:
            ncc.all_reduce([x], [out[0:4]], PAIR, nl.add)

    x = np.ones((4, 4), np.float32)
    with pytest.raises(UserError, match="collective of rank"):
        nki.simulate_ranks(kernel, [(x, True), (x.copy(), False)])
