"""The launches of every row of the published kernel measurements."""

import math
from collections import Counter

import numpy as np
import pytest

from trainshed.core.errors import UserError
from trainshed.kernels.measured import (
    Argument,
    Launch,
    dma,
    launches,
    matmul,
    moe,
    moe_prefill,
    norms,
    rowwise,
    why_not,
)
from trainshed.kernels.measured.rows import ASSUMED
from trainshed.numerics.formats import bfloat16, int32
from trainshed.validate.table import Row, measurements, read

EVERY = read(measurements() / "kernels.csv")
ROWS = [row for row in EVERY if row.tier in "AB"]
MADE = [(row, made) for row in ROWS if (made := launches(row)) is not None]
PRODUCTS = [(row, made) for row, made in MADE if row.text("kernel") == "matmul"]
KERNELS = {
    "chipboost_sweep": {matmul.blocked_wide},
    "chipboost": {matmul.blocked_wide, matmul.tiled, rowwise.rmsnorm, rowwise.copy_tiled},
    "nki_tutorial_trn1": {matmul.tiled, matmul.block_free},
    "kiln_moe": {moe.decode_dedupe, moe.decode_per_pair, moe_prefill.prefill},
    "kiln_micro": {dma.indirect_loads},
}


def row(**changed):
    cells = {
        "id": "k1", "group": "chipboost", "tier": "A", "metric": "time_s", "value": 1.0, "chip": "trn2", "lnc": 1,
        "kernel": "matmul", "variant": "tutorial tiled matmul (matmul_start)", "dtype": "bf16",
        "shape": {"m": 128, "k": 256, "n": 512}, "options": {}, **changed,
    }  # fmt: skip
    cells = {name: value for name, value in cells.items() if value is not None}
    return Row(table="kernels", file="k.csv", line=1, cells=cells)


def sizes(launch):
    return {argument.name: argument.shape for argument in launch.arguments}


def test_every_row_of_tiers_a_and_b_has_its_kernel():
    missing = Counter(row.group for row in ROWS if launches(row) is None)
    # A launch and a loop iteration are no kernels.
    assert missing == {"neuron_micro": 2}
    for group, kernels in KERNELS.items():
        found = [(row, made) for row, made in MADE if row.group == group]
        assert {launch.kernel for _, made in found for launch in made} == kernels, group
    assert len(MADE) == 38 + 29 + 3 + 18 + 1


def test_a_row_has_launches_or_a_reason():
    for row in ROWS:
        assert (why_not(row) is None) == (launches(row) is not None)


#: Groups of tier C with launches, and how many rows each has.
SHOWN = {
    "nki_guide_trn2": 14, "nki_samples_bounds": 5, "nki_tutorial_trn1": 1, "dma_size_curve": 10,
    "nki_mamba": 11, "nkilib_norm_tkg": 10,
    "nkilib_rmsnorm_quant": 9,
}  # fmt: skip


def test_rows_of_tier_c_that_are_shown():
    shown = [row for row in EVERY if row.tier == "C" and launches(row) is not None]
    assert Counter(row.group for row in shown) == SHOWN
    for row in EVERY:
        if row.group not in SHOWN and row.tier == "C":
            assert why_not(row), row.id
    spilled = {
        row.group: why_not(row) for row in EVERY if row.group in ("nki_mamba", "nki_guide_trn2") and why_not(row)
    }
    assert spilled["nki_mamba"].startswith("a whole sequence does not fit on the chip")
    assert spilled["nki_guide_trn2"].startswith("the blocks do not fit in SBUF")


def test_bounds_are_kernels_of_the_library():
    bounds = {row.id: (row, launches(row)) for row in EVERY if row.group == "nki_samples_bounds" and launches(row)}
    for row, (launch,) in bounds.values():
        assert row.text("comparison") == "le"
        assert not launch.kernel.__module__.startswith("trainshed.kernels.measured")
        first = launch.arguments[0]
        np.testing.assert_array_equal(first.array(np.random.default_rng(0)), launch.inputs()[first.name])


def test_a_generation_is_assumed_only_where_none_is_stated():
    assumed = {row.group for row in EVERY if row.text("chip") is None and launches(row) is not None}
    assert assumed == set(ASSUMED)
    for row in EVERY:
        made = launches(row)
        if made is not None:
            assert {one.target for one in made} == {row.text("chip") or ASSUMED[row.group]}


def test_launches_of_the_dma_curve_move_the_same_bytes():
    for row in EVERY:
        if row.group == "dma_size_curve":
            one, largest = launches(row)
            assert one.arguments[0].nbytes == largest.arguments[0].nbytes
            assert one.arguments[0].shape[1] == row.json("shape")["bytes_per_partition"]
            assert largest.arguments[0].shape[1] == 32768


def test_indirect_loads_have_the_bytes_of_the_row():
    ((row, (launch,)),) = [(row, made) for row, made in MADE if row.group == "kiln_micro"]
    assert launch.arguments[0].nbytes == row.number("hbm_bytes_min")
    numbers = launch.arguments[1].array(np.random.default_rng(0))
    assert sorted(numbers[0]) == list(range(256))


def test_norms_follow_their_options():
    for row in EVERY:
        if row.group == "nkilib_rmsnorm_quant":
            (launch,) = launches(row)
            options, shape = row.json("options"), row.json("shape")
            assert launch.kernel is (norms.quant if options["quant_only"] else norms.rmsnorm_quant)
            assert launch.options["bound"] == options["lower_bound"]
            assert launch.arguments[0].shape == (shape["batch"] * shape["seq"], shape["hidden"])


def test_prefill_rows_have_a_place_for_every_choice():
    rows = [(row, made) for row, made in MADE if row.text("kernel") == "moe_prefill"]
    assert len(rows) == 6
    row, (launch,) = min(rows, key=lambda pair: pair[0].json("shape")["tokens"])
    shape, given = row.json("shape"), {one.name: one for one in launch.arguments}
    generator = np.random.default_rng(0)
    numbers, gates = given["experts"].array(generator), given["gates"].array(generator)
    assert np.count_nonzero(gates) == shape["tokens"] * shape["topk"]
    assert len(np.unique(numbers)) == shape["experts"]
    assert given["blobs"].nbytes == row.number("hbm_bytes_min")


def test_reasons():
    reasons = {row.text("kernel"): why_not(row) for row in ROWS if row.group == "neuron_micro"}
    assert reasons == {
        "launch": "a launch is the host's time, no kernel",
        "instruction": "an iteration of a loop on the device, no kernel",
    }
    assert why_not(row(group="nobody")) == "no kernel of nobody"
    assert why_not(row(variant="tuned")) == "no kernel for the variant 'tuned' of chipboost"
    assert why_not(row(chip="h100")) == "not a NeuronCore"
    assert why_not(row(chip=None)) == "chip not stated"
    assert why_not(row()) is None


@pytest.mark.parametrize(("row", "made"), MADE, ids=lambda v: v.id if isinstance(v, Row) else "")
def test_launches_are_those_of_the_row(row, made):
    options, chip = row.json("options"), row.text("chip")
    assert {launch.target for launch in made} == {chip}
    assert {launch.lnc for launch in made} == {row.integer("lnc")}
    assert math.isclose(sum(launch.added_s for launch in made), options.get("includes_launch_s", 0.0))
    if options.get("value") == "sum":
        assert len(made) == options["launches"] == 2
    else:
        assert len(made) == 1


@pytest.mark.parametrize(("row", "made"), PRODUCTS, ids=lambda v: v.id if isinstance(v, Row) else "")
def test_products_have_the_flops_and_the_bytes_of_the_row(row, made):
    flops = bytes_ = 0
    for launch in made:
        (k, m), (_, n) = sizes(launch)["lhsT"], sizes(launch)["rhs"]
        flops += 2 * m * k * n
        bytes_ += sum(argument.nbytes for argument in launch.arguments) + 2 * m * n
        blocks = {name: v for name, v in row.json("options").items() if name.startswith("tiles_in_block")}
        assert dict(launch.options) == blocks
    assert flops == row.number("flops")
    assert bytes_ == row.number("hbm_bytes_min")


def test_copies_and_norms_have_the_bytes_of_the_row():
    checked = 0
    for row, made in MADE:
        if row.text("kernel") in ("copy", "rmsnorm"):
            moved = sum(2 * launch.arguments[0].nbytes for launch in made)
            assert moved == row.number("hbm_bytes_min"), row.id
            checked += 1
    assert checked == 5


def test_experts_have_the_bytes_of_the_row():
    checked = 0
    for row, made in MADE:
        if row.text("kernel") == "moe_decode":
            (launch,) = made
            (jobs,), blob = launch.arguments[2].shape[1:], row.json("options")["expert_blob_bytes"]
            assert math.isclose(jobs * blob, row.number("hbm_bytes_expected"), rel_tol=0.02), row.id
            assert math.prod(launch.arguments[1].shape[1:]) == blob
            numbers = launch.arguments[2].array(np.random.default_rng(0))
            assert numbers.shape == (1, jobs)
            topk = row.json("shape")["topk"]
            groups = numbers.reshape(-1, topk) if row.text("variant") == "per_pair" else numbers
            assert all(len(set(group)) == len(group) for group in groups.tolist())
            checked += 1
    assert checked == 12


def test_arrays_of_a_launch_are_always_the_same():
    (launch,) = launches(row())
    first, again, other = launch.inputs(), launch.inputs(), launch.inputs(seed=1)
    assert list(first) == ["lhsT", "rhs"]
    blank = launch.inputs(blank=True)
    for name in first:
        assert blank[name].shape == first[name].shape
        assert not blank[name].any()
        assert first[name].dtype == bfloat16.storage
        np.testing.assert_array_equal(first[name], again[name])
        assert (first[name] != other[name]).any()


def test_a_launch_runs():
    (launch,) = launches(row())
    simulated = launch.run(values=False)
    assert simulated.profile.matmul_flops == 2 * 128 * 256 * 512
    assert simulated.profile.hbm_read_bytes == 2 * 256 * (128 + 512)


@pytest.mark.parametrize(
    "changed",
    [
        {"group": "nobody"}, {"kernel": "conv"}, {"kernel": None}, {"variant": "tuned"}, {"chip": None},
        {"chip": "h100"}, {"kernel": "rmsnorm"}, {"group": "kiln_moe", "kernel": "moe_train"},
    ],
)  # fmt: skip
def test_kernels_that_are_not_here(changed):
    assert launches(row(**changed)) is None


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"shape": {"m": 128, "k": 256}}, "size: None; expected a positive n"),
        ({"shape": {"m": 0, "k": 256, "n": 512}}, "size: 0; expected a positive m"),
        ({"dtype": None}, "dtype"),
        ({"lnc": 3}, "cores: 3; expected 1 or 2"),
        ({"options": {"tiles_in_block_q": 2}}, "arguments"),
        ({"options": {"tiles_in_block_m": 2}}, "arguments"),  # the tiled kernel has no blocks
        ({"options": {"includes_launch_s": -1.0}}, "added seconds: -1.0; expected 0 or more"),
    ],
)
def test_rows_that_a_kernel_cannot_take(changed, message):
    with pytest.raises(UserError, match=message):
        launches(row(**changed))


X = Argument(name="x", shape=(2, 3), dtype=bfloat16)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"target": "trn9"}, "target: 'trn9'; expected trn1, trn2, trn3"),
        ({"lnc": 0}, "cores"),
        ({"added_s": math.inf}, "added seconds"),
        ({"arguments": ()}, "missing a required argument: 'x'"),
        ({"arguments": (X, X)}, "a name given twice"),
        ({"options": {"x": 1}}, "a name given twice"),
        ({"options": {"y": 1}}, "unexpected keyword argument 'y'"),
    ],
)
def test_launches_check_themselves(changed, message):
    with pytest.raises(UserError, match=message):
        Launch(**{"kernel": rowwise.copy_tiled, "target": "trn2", "arguments": (X,), **changed})


def test_options_of_a_launch_stay_as_they_are():
    given = {"tiles_in_block_m": 2}
    arguments = tuple(Argument(name=name, shape=(128, 512), dtype=bfloat16) for name in ("lhsT", "rhs"))
    launch = Launch(kernel=matmul.blocked, target="trn2", arguments=arguments, options=given)
    given["tiles_in_block_m"] = 3
    assert dict(launch.options) == {"tiles_in_block_m": 2}
    with pytest.raises(TypeError):
        launch.options["tiles_in_block_m"] = 4


def test_arguments_check_themselves(rng):
    with pytest.raises(UserError, match="name"):
        Argument(name="not one", shape=(1,), dtype=bfloat16)
    for shape in ((), (2, 0)):
        with pytest.raises(UserError, match="shape"):
            Argument(name="x", shape=shape, dtype=bfloat16)
    odd = Argument(name="x", shape=(2,), dtype=int32, values=lambda _: np.zeros(3))
    with pytest.raises(UserError, match=r"values: \(3,\); expected shape \(2,\)"):
        odd.array(rng)
    even = Argument(name="x", shape=(2,), dtype=int32, values=lambda _: np.ones(2))
    assert even.array(rng).dtype == np.int32
    assert even.nbytes == 8
