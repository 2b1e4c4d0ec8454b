"""``nki.jit`` and ``nki.simulate``: arguments, results, targets and the vendor's environment variables."""

import dataclasses
from typing import NamedTuple

import ml_dtypes
import numpy as np
import pytest

import trainshed.nki as nki
import trainshed.nki.isa as nisa
import trainshed.nki.language as nl
from trainshed.chip.errors import NkiValidationError
from trainshed.core.errors import UserError

ONES = np.ones((4, 8), np.float32)


@nki.jit
def doubled(x):
    out = nl.ndarray(x.shape, x.dtype, nl.shared_hbm)
    nl.store(out, nl.multiply(nl.load(x), 2.0))
    return out


@nki.jit(mode="ignored")
def changes(x, y):
    """Doubles ``x`` in place; only reads ``y``."""
    nl.store(x, nl.multiply(nl.load(x), 2.0))
    nl.load(y)


# --- calling --------------------------------------------------------------------------------------------------


def test_simulate_call_grid_and_plain_function():
    for run in (nki.simulate(doubled), doubled, nki.simulate(doubled)[1], nki.simulate(doubled[1]), doubled[1],
                nki.simulate(doubled.function), nki.simulator.simulate_kernel):  # fmt: skip
        arguments = (doubled, ONES) if run is nki.simulator.simulate_kernel else (ONES,)
        np.testing.assert_array_equal(run(*arguments), 2 * ONES)
    assert doubled.__name__ == "doubled"
    assert nki.jit(doubled) is doubled


def test_inside_a_kernel_a_kernel_is_a_function():
    def outer(x):
        return doubled[2](doubled(x))

    simulated = nki.simulate(outer)
    np.testing.assert_array_equal(simulated(ONES), 4 * ONES)
    assert len(simulated.launch.cores) == 1


@pytest.mark.parametrize("grid", [0, -1, (2, 0), "two", ()])
def test_grids_are_positive_numbers(grid):
    with pytest.raises(UserError, match="kernel"):
        doubled[grid]


def test_profile_of_the_last_run():
    simulated = nki.simulate(doubled)
    with pytest.raises(UserError, match="call of the kernel first"):
        _ = simulated.profile
    simulated(ONES)
    assert simulated.profile is simulated.profile


def test_errors_of_the_kernel_itself_come_through():
    def kernel(x):
        raise ZeroDivisionError("mine")

    for cores in (1, 2):
        with pytest.raises(ZeroDivisionError, match="mine"):
            nki.simulate(kernel)[cores](ONES)


# --- arguments and results ------------------------------------------------------------------------------------


def test_inputs_change_in_place_only_where_written():
    x, y = ONES.copy(), ONES.copy()
    y.flags.writeable = False
    assert nki.simulate(changes)(x, y=y) is None
    np.testing.assert_array_equal(x, 2 * ONES)
    np.testing.assert_array_equal(y, ONES)


@pytest.mark.parametrize("array", [ONES.astype(np.float64), np.arange(32, dtype=np.int64).reshape(4, 8)])
def test_64_bits_become_32(array):
    found = nki.simulate(doubled)(array)
    assert found.dtype.itemsize == 4
    assert found.dtype.kind == array.dtype.kind
    np.testing.assert_array_equal(found, 2 * array)


def test_views_of_one_array_are_tensors_of_their_own():
    def kernel(x, y):
        nl.load(x)
        out = nl.ndarray(x.shape, x.dtype, nl.shared_hbm)
        nl.store(out, nl.load(y))
        return out

    x = np.ones((128, 4096), np.float32)
    simulated = nki.simulate(kernel)
    simulated(x, x[:])
    found = [(tensor.name, tensor.load_repeat) for tensor in simulated.profile.tensors]
    assert found[:2] == [("x", 1.0), ("y", 1.0)]
    assert "reload" not in [finding.rule for finding in simulated.profile.findings]


@pytest.mark.parametrize("values", [True, False])
def test_64_bits_stay_where_the_kernel_wrote_nothing(values):
    """In 32 bits 0.1 is another number."""

    def kernel(x):
        one = nl.ndarray((1, 2), x.dtype, nl.sbuf)
        nisa.memset(one, 7)
        nl.store(x[0:1, 0:2], one)

    for given in (np.full((2, 4), 0.1), np.full((2, 4), 2**31 - 1), np.full((2, 4), 2**32 - 1, np.uint64)):
        found, expected = given.copy(), given.copy()
        nki.simulate(kernel, values=values)(found)
        if values:
            expected[0, :2] = 7
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(("dtype", "value", "limits"), [
    (np.int64, 2**40 + 1, "-2147483648 to 2147483647"), (np.int64, -(2**31) - 1, "-2147483648 to 2147483647"),
    (np.int64, 2**31, "-2147483648 to 2147483647"), (np.uint64, 2**32, "0 to 4294967295"),
])  # fmt: skip
@pytest.mark.parametrize("run", [
    lambda x: nki.simulate(lambda count: count)(x), lambda x: nki.simulate(lambda count: count)(count=x),
    lambda x: nki.simulate(lambda count: count, values=False)([ONES, x]),
])  # fmt: skip
def test_integers_that_do_not_fit_in_32_bits_are_told(dtype, value, limits, run):
    given = np.array([1, value, 2], dtype)
    with pytest.raises(
        NkiValidationError, match=rf"kernel, count: value of a u?int64 array.*: {value}; .*{limits}\."
    ) as e:
        run(given)
    assert e.value.rule == "integer-range"
    inside = np.array([1, value - 1 if value > 0 else value + 1], dtype)
    if value != 2**40 + 1:
        nki.simulate(lambda count: count)(inside)
    nki.simulate(lambda count: count)(given[:1])


@pytest.mark.parametrize("dtype", [
    np.int8, np.uint8, np.int16, np.uint16, np.int32, np.uint32, np.float16, ml_dtypes.bfloat16, ml_dtypes.float8_e4m3,
    ml_dtypes.float8_e4m3fn, ml_dtypes.float8_e5m2, np.bool_,
])  # fmt: skip
def test_dtypes_come_back_as_they_went(dtype):
    def kernel(x):
        out = nl.ndarray(x.shape, x.dtype, nl.shared_hbm)
        nisa.dma_copy(out, x)
        return out

    x = np.arange(32).reshape(4, 8).astype(dtype)
    found = nki.simulate(kernel)(x)
    assert found.dtype == x.dtype
    np.testing.assert_array_equal(found, x)


@pytest.mark.parametrize("name", ["float8_e4m3fn_x4", "float8_e5m2_x4", "float4_e2m1fn_x4"])
def test_packed_arrays_are_structured(name):
    kind = getattr(nl, name)
    x = np.arange(32, dtype=kind.storage).reshape(4, 8).view(kind.outside)

    def kernel(a):
        assert a.dtype == kind
        out = nl.ndarray(a.shape, a.dtype, nl.shared_hbm)
        nisa.dma_copy(out, a)
        return out

    found = nki.simulate(kernel)(x)
    assert found.dtype == kind.outside
    np.testing.assert_array_equal(found, x)


def test_strided_and_scalar_arrays():
    wide = np.arange(64, dtype=np.float32).reshape(4, 16)
    np.testing.assert_array_equal(nki.simulate(doubled)(wide[:, ::2]), 2 * wide[:, ::2])
    assert nki.simulate(lambda x: x.shape)(np.array(3, np.float32)) == (1,)


@dataclasses.dataclass(frozen=True)
class Weights(nl.NKIObject):
    gate: object
    scale: float


class Pair(NamedTuple):
    left: object
    right: object


class Loose(nl.NKIObject):
    def __init__(self, tensor, count):
        self.tensor, self.count = tensor, count


def test_arrays_are_found_wherever_they_are():
    def kernel(pair, listed, named, weights, loose, flag, missing=None):
        assert (flag, missing, weights.scale, loose.count) == ("flag", None, 0.5, 3)
        tensors = [pair.left, pair.right, listed[0][0], named["a"], weights.gate, loose.tensor]
        assert all(isinstance(tensor, nl.NkiTensor) for tensor in tensors)
        total = nl.load(tensors[0])
        for tensor in tensors[1:]:
            total = nl.add(total, nl.load(tensor))
        out = nl.ndarray(total.shape, total.dtype, nl.shared_hbm)
        nl.store(out, total)
        return {"sum": out, "pair": Pair(out, 1), "list": [out, None], "none": None}

    found = nki.simulate(kernel)(
        Pair(ONES, ONES.copy()), [(ONES.copy(),)], {"a": ONES.copy()}, Weights(ONES.copy(), 0.5), Loose(ONES.copy(), 3),
        "flag",
    )  # fmt: skip
    np.testing.assert_array_equal(found["sum"], 6 * ONES)
    assert isinstance(found["pair"], Pair)
    np.testing.assert_array_equal(found["pair"].left, 6 * ONES)
    assert found["list"][1] is found["none"] is None


def test_one_array_given_twice_is_one_tensor():
    def kernel(x, y):
        return x.storage is y.storage

    assert nki.simulate(kernel)(ONES, ONES)
    assert not nki.simulate(kernel)(ONES, ONES.copy())


def test_views_are_copied_out():
    def kernel(x):
        return x[1:3, 2:4], x.permute((1, 0))

    x = np.arange(32, dtype=np.float32).reshape(4, 8)
    part, turned = nki.simulate(kernel)(x)
    np.testing.assert_array_equal(part, x[1:3, 2:4])
    np.testing.assert_array_equal(turned, x.T)
    part[...] = 0
    assert x[1, 2] == 10


def test_arguments_are_in_hbm_and_in_shared_hbm_on_two_cores():
    def kernel(x):
        return x.buffer.value, x.name

    assert nki.simulate(kernel)(ONES) == ("private_hbm", "x")
    assert nki.simulate(kernel)[2](ONES) == ("shared_hbm", "x")


def test_arrays_of_what_the_chip_does_not_store():
    with pytest.raises(NkiValidationError, match="complex64"):
        nki.simulate(doubled)(ONES.astype(np.complex64))


def test_torch_tensors_come_back_as_such():
    torch = pytest.importorskip("torch")
    x = torch.ones(4, 8, dtype=torch.bfloat16)
    found = nki.simulate(doubled)(x)
    assert found.dtype == torch.bfloat16
    assert bool((found == 2).all())
    y = torch.ones(4, 8)
    nki.simulate(changes)(y, x)
    assert bool((y == 2).all())
    assert nki.simulate(doubled)(torch.ones(2, 2, dtype=torch.int64)).dtype == torch.int32
    assert nki.simulate(lambda t: t)(torch.zeros(2, 2, dtype=torch.bool)).dtype == torch.bool


# --- targets and environment ----------------------------------------------------------------------------------


def version(x):
    return int(nisa.get_nc_version())


@pytest.mark.parametrize(("name", "expected"), [
    ("trn1", 2), ("inf2", 2), ("gen2", 2), ("trn2", 3), ("gen3", 3), ("trn3", 4), ("gen4", 4), (None, 4),
])  # fmt: skip
def test_targets(monkeypatch, name, expected):
    monkeypatch.delenv("NKI_NC_VERSION", raising=False)
    monkeypatch.delenv("NEURON_PLATFORM_TARGET_OVERRIDE", raising=False)
    assert nki.simulate(version, target=name)(ONES) == expected
    if name is not None:
        monkeypatch.setenv("NKI_NC_VERSION", name)
        assert nki.simulate(version)(ONES) == expected
        monkeypatch.setenv("NEURON_PLATFORM_TARGET_OVERRIDE", "trn1")
        assert nki.simulate(version)(ONES) == 2
        assert nki.simulate(version, target="trn3")(ONES) == 4


def test_an_unknown_target_is_named_with_those_that_exist(monkeypatch):
    for name in ("trn9", 3):
        with pytest.raises(UserError, match="trn3"):
            nki.simulate(version, target=name)(ONES)
    monkeypatch.setenv("NEURON_PLATFORM_TARGET_OVERRIDE", "h100")
    with pytest.raises(UserError, match="NEURON_PLATFORM_TARGET_OVERRIDE"):
        nki.simulate(version)(ONES)


def thirds(x):
    third = nl.multiply(nl.load(x), 1 / 3, dtype=nl.bfloat16)
    out = nl.ndarray(x.shape, nl.float32, nl.shared_hbm)
    nl.store(out, nl.multiply(third, 3.0, dtype=nl.float32))
    return out


@pytest.mark.parametrize(("value", "exact"), [("1", False), ("0", True), (None, False)])
def test_high_precision_mode_rounds_nothing(monkeypatch, value, exact):
    monkeypatch.delenv("NKI_PRECISE_FP", raising=False)
    if value is not None:
        monkeypatch.setenv("NKI_PRECISE_FP", value)
    error = np.abs(nki.simulate(thirds)(ONES) - 1).max()
    assert (error < 1e-6) == exact


def test_high_precision_mode_has_no_bits_of_narrow_floats_to_show(monkeypatch):
    def bits(x, dtype, used=True):
        tile = nl.ndarray(x.shape, nl.bfloat16, nl.sbuf)
        nisa.tensor_copy(tile, nl.load(x))
        seen = tile.view(dtype)
        out = nl.ndarray(seen.shape, seen.dtype, nl.shared_hbm)
        nisa.dma_copy(out, seen if used else seen.view(nl.bfloat16).view(dtype))  # reads
        return out

    def result(x):
        out = nl.ndarray(x.shape, nl.float16, nl.shared_hbm)
        nl.store(out, nl.load(x))
        return out.view(nl.uint16)

    assert (nki.simulate(bits)(ONES, nl.uint16) == 0x3F80).all()
    assert (nki.simulate(result)(ONES) == 0x3C00).all()
    monkeypatch.setenv("NKI_PRECISE_FP", "0")
    for dtype in (nl.uint16, nl.uint8, nl.int32, nl.float16, nl.float8_e5m2):
        with pytest.raises(
            NkiValidationError, match=r"NKI_PRECISE_FP=0: dtype in which .* of bfloat16: .*float32"
        ) as e:
            nki.simulate(bits)(ONES, dtype)
        assert e.value.rule == "precise-view"
        assert "test_run.py" in str(e.value)
    with pytest.raises(NkiValidationError, match="kernel, result: NKI_PRECISE_FP=0"):
        nki.simulate(result)(ONES)
    assert (nki.simulate(bits)(ONES, nl.bfloat16) == 1).all()


def test_high_precision_mode_views_what_it_stores_as_it_is(monkeypatch):
    monkeypatch.setenv("NKI_PRECISE_FP", "0")

    def kernel(x, a, dtype):
        seen = nl.load(x).view(dtype)
        out = nl.ndarray(seen.shape, dtype, nl.shared_hbm)
        nisa.dma_copy(out, seen)
        return out, a.view(nl.float8_e4m3fn)

    eighth = np.full((2, 2), 0.125, ml_dtypes.float8_e4m3)
    for x, dtype, expected in ((ONES, nl.uint32, 0x3F800000), (np.full((2, 4), 0x3F80, np.uint16), nl.bfloat16, 1.0)):
        found, other = nki.simulate(kernel)(x, eighth, dtype)
        assert (found == expected).all()
        assert (other == ml_dtypes.float8_e4m3fn(0.125)).all()


def test_high_precision_mode_and_indices(monkeypatch):
    def kernel(x, index):
        tile = nl.ndarray((4, 8), nl.float32, nl.sbuf)
        rows = nl.ndarray((4, 2), nl.bfloat16, nl.sbuf)
        nisa.tensor_copy(rows, nl.load(index))
        nisa.dma_copy(tile, x.ap([[8, 4], [1, 8]], vector_offset=rows.view(nl.int32), indirect_dim=0))
        return x

    assert nki.simulate(kernel)(ONES, np.zeros((4, 2), np.float32)) is not None
    monkeypatch.setenv("NKI_PRECISE_FP", "0")
    with pytest.raises(NkiValidationError, match="NKI_PRECISE_FP=0"):
        nki.simulate(kernel)(ONES, np.zeros((4, 2), np.float32))


def test_stochastic_rounding_by_seed(monkeypatch):
    x = np.full((128, 512), 1 / 3, np.float32)

    def kernel(a):
        out = nl.ndarray(a.shape, nl.bfloat16, nl.shared_hbm)
        nl.store(out, nl.add(nl.load(a), 0.0, dtype=nl.bfloat16))
        return out

    assert np.unique(nki.simulate(kernel)(x)).size == 1
    monkeypatch.setenv("NEURON_RT_STOCHASTIC_ROUNDING_EN", "1")
    monkeypatch.setenv("NEURON_RT_STOCHASTIC_ROUNDING_SEED", "7")
    first = nki.simulate(kernel)(x)
    assert np.unique(first).size == 2
    np.testing.assert_allclose(first.astype(np.float64).mean(), 1 / 3, rtol=1e-4)
    np.testing.assert_array_equal(nki.simulate(kernel)(x), first)
    monkeypatch.setenv("NEURON_RT_STOCHASTIC_ROUNDING_SEED", "8")
    assert (nki.simulate(kernel)(x) != first).any()


def test_a_launch_matches_the_configured_lnc_however_it_is_launched(monkeypatch):
    ways = (lambda k: k(ONES), lambda k: nki.simulate(k)(ONES), lambda k: nki.simulate_ranks(k, [(ONES,)])[0])
    for configured, right, wrong in (("2", doubled[2], doubled), ("1", doubled, doubled[2])):
        monkeypatch.setenv("NEURON_LOGICAL_NC_CONFIG", configured)
        for way in ways:
            np.testing.assert_array_equal(way(right), 2 * ONES)
            with pytest.raises(
                UserError, match=rf"{configured}, as NEURON_LOGICAL_NC_CONFIG says: kernel.{configured}"
            ):
                way(wrong)
    monkeypatch.setenv("NEURON_LOGICAL_NC_CONFIG", "2")
    with pytest.raises(UserError, match=r"kernel\[…\]: physical cores of the launch: 1; expected 2"):
        nki.simulate(doubled.function)(ONES)
    np.testing.assert_array_equal(nki.simulate(doubled.function)[2](ONES), 2 * ONES)


@pytest.mark.parametrize(("target", "most"), [("trn1", 1), ("trn2", 2), ("trn3", 2)])
def test_a_logical_core_has_the_cores_its_generation_allows(target, most):
    legal = "1" if most == 1 else "1 or 2"
    for cores in (1, 2, 3, 4, (2,), (2, 2)):
        count = cores if isinstance(cores, int) else 2 * len(cores)
        run = nki.simulate(doubled[cores], target=target)
        if count <= most:
            np.testing.assert_array_equal(run(ONES), 2 * ONES)
            continue
        sentence = rf"^kernel\[…\]: physical cores of the launch: {count}; expected {legal}: .* of {target}"
        with pytest.raises(UserError, match=sentence):
            run(ONES)
        with pytest.raises(UserError, match=sentence):
            nki.simulate_ranks(doubled[cores], [(ONES,)], target=target)


def test_a_kernel_that_is_called_has_no_more_cores_either(monkeypatch):
    monkeypatch.setenv("NEURON_PLATFORM_TARGET_OVERRIDE", "trn1")
    with pytest.raises(UserError, match=r"physical cores of the launch: 2; expected 1: .* trn1"):
        doubled[2](ONES)


def test_without_values_nothing_is_computed_and_all_is_recorded():
    with_values, without = nki.simulate(doubled), nki.simulate(doubled, values=False)
    with_values(ONES)
    assert without(ONES).shape == ONES.shape
    keys = [[i.key() for i in run.launch.cores[0].instructions] for run in (with_values, without)]
    assert keys[0] == keys[1]


# --- annotations ------------------------------------------------------------------------------------------------


def annotated(x: nki.typing.tensor[4, 8], y: nki.typing.mutable_tensor = None, n: nki.typing.tensor[..., 2] = None):
    return x


def test_annotated_shapes_are_checked():
    rows = np.ones((9, 2), np.float32)
    np.testing.assert_array_equal(nki.simulate(annotated)(ONES, rows, rows), ONES)
    for arguments in ((ONES.T.copy(),), (ONES, rows, ONES)):
        with pytest.raises(NkiValidationError, match="annotation") as caught:
            nki.simulate(annotated)(*arguments)
        assert "test_run.py" in str(caught.value)


# --- outputs ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("buffer", [nl.sbuf, nl.psum, nl.private_hbm, nl.shared_hbm])
def test_outputs_that_would_not_compile_are_findings(buffer):
    def kernel(x):
        return x, nl.zeros((4, 8), nl.float32, buffer)

    run = nki.simulate(kernel)
    run(ONES)
    found = [finding for finding in run.profile.findings if finding.rule == "output-buffer"]
    assert len(found) == (buffer is not nl.shared_hbm)
    assert all("nl.shared_hbm only" in str(finding) and "test_run.py" in str(finding) for finding in found)


@pytest.mark.parametrize(("variable", "value", "expected"), [
    ("TRAINSHED_QUANTIZE_RULE", "0.3", "0.4 or 0.5"),
    ("NEURON_RT_STOCHASTIC_ROUNDING_SEED", "many", "a whole number"),
    ("NEURON_RT_STOCHASTIC_ROUNDING_EN", "2", "0 or 1"),
    ("NKI_PRECISE_FP", "maybe", r"0 \(floats stored as float32\) or 1"),
    ("NKI_COMPILER_FRONTEND", "foo", "parser or tracer"),
    ("NEURON_LOGICAL_NC_CONFIG", "3", r"1 or 2 \(physical cores"),
    ("NEURON_PLATFORM_TARGET_OVERRIDE", "trn9", "trn1, inf2 or gen2; trn2 or gen3; trn3 or gen4"),
    ("NEURON_PLATFORM_TARGET_OVERRIDE", "v3", "trn1, inf2 or gen2; trn2 or gen3; trn3 or gen4"),
    ("NKI_NC_VERSION", "9", "trn1, inf2 or gen2; trn2 or gen3; trn3 or gen4"),
])  # fmt: skip
def test_variables_are_read_strictly(monkeypatch, variable, value, expected):
    monkeypatch.setenv(variable, value)
    with pytest.raises(UserError, match=rf"^{variable}: .*: '{value}'; expected {expected}"):
        nki.simulate(doubled)(ONES)
    monkeypatch.setenv(variable, "")
    np.testing.assert_array_equal(nki.simulate(doubled)(ONES), 2 * ONES)


def test_a_rule_that_does_not_exist():
    with pytest.raises(UserError, match=r"quantize_rule: .*'0\.3'; expected 0\.4 or 0\.5"):
        nki.simulate(doubled, quantize_rule="0.3")(ONES)


def test_results_inside_an_object_are_checked_too():
    """A tensor nested in what a kernel returns must be defined like any other."""

    @dataclasses.dataclass
    class Returned:
        out: object

    def kernel(a, rows):
        tile = nl.ndarray((64, 4), dtype=nl.float32, buffer=nl.sbuf)
        nisa.dma_copy(dst=tile[0:rows], src=a[0:rows])
        out = nl.ndarray((64, 4), dtype=nl.float32, buffer=nl.shared_hbm)
        nisa.dma_copy(dst=out, src=tile)
        return Returned(out)

    data = np.ones((64, 4), np.float32)
    np.testing.assert_array_equal(nki.simulate(kernel)(data, 64).out, data)
    with pytest.raises(NkiValidationError, match="uninitialised read"):
        nki.simulate(kernel)(data, 32)


def test_time_is_found_when_asked_for_once_a_run():
    run = nki.simulate(doubled)
    with pytest.raises(UserError, match="a call of the kernel first"):
        _ = run.timing
    run(ONES)
    first = run.timing
    assert first.seconds > 0
    assert run.timing is first
    run(ONES)
    assert run.timing is not first
    assert run.timing == first


def test_values_do_not_change_the_time_and_time_can_be_left_out():
    with_values, without = nki.simulate(doubled), nki.simulate(doubled, values=False)
    with_values(ONES)
    without(ONES)
    assert with_values.timing == without.timing
    alone = nki.simulate(nki.jit(doubled), time=False)[1]
    alone(ONES)
    with pytest.raises(UserError, match="time=True"):
        _ = alone.timing
