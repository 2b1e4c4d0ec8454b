"""The module that the library's suite takes for a simulator."""

import importlib
import sys

import numpy as np
import pytest

import trainshed.nki as ours

MODULES = (
    "nki", "nki.builtin", "nki.compiler", "nki.compiler.frontend", "nki.collectives", "nki.isa", "nki.isa.constants",
    "nki.language", "nki.language.dtypes", "nki.tensor", "nki.typing",
)  # fmt: skip


@pytest.fixture(scope="module")
def simulator():
    return importlib.import_module("nki_cpu_simulator.nki")


@pytest.mark.parametrize("name", MODULES)
def test_every_module_the_suite_imports_is_there(name):
    assert importlib.import_module(f"nki_cpu_simulator.{name}") is sys.modules[f"nki_cpu_simulator.{name}"]


def test_its_names_are_ours(simulator):
    assert simulator.jit is ours.jit
    for part in ("language", "isa", "collectives", "typing"):
        theirs, own = getattr(simulator, part), getattr(ours, part)
        for name in getattr(own, "__all__", [name for name in vars(own) if not name.startswith("_")]):
            assert getattr(theirs, name) is getattr(own, name), name
    assert simulator.dtype.bfloat16 is ours.language.bfloat16
    assert simulator.language.range is range


def kernel(a, out):
    import trainshed.nki.isa as nisa
    import trainshed.nki.language as nl

    tile = nl.load(a)
    version = nl.zeros((tile.shape[0], 1), nl.float32, buffer=nl.sbuf)
    nisa.memset(dst=version, value=float(int(nisa.get_nc_version())))
    nisa.tensor_scalar(dst=tile, data=tile, op0=nl.multiply, operand0=version)
    if nl.program_id(0) == 0:
        nl.store(out, tile)
    return out


@pytest.mark.parametrize(("word", "factor"), [("gen3", 3), ("gen4", 4)])
@pytest.mark.parametrize("cores", [1, 2])
def test_a_kernel_runs_on_the_generation_the_environment_names_at_the_call(simulator, monkeypatch, word, factor, cores):
    simulate = simulator.cpu_simulate(kernel)[cores]
    monkeypatch.setenv("NKI_NC_VERSION", word)
    a = np.arange(12, dtype=np.float32).reshape(3, 4)
    np.testing.assert_array_equal(simulate(a=a, out=np.zeros_like(a)), a * factor)


def test_cpu_simulate_is_the_module_s_own_too(simulator, monkeypatch):
    monkeypatch.delenv("NKI_NC_VERSION", raising=False)
    from nki_cpu_simulator import cpu_simulate

    assert cpu_simulate is simulator.cpu_simulate
    a = np.ones((3, 4), np.float32)
    np.testing.assert_array_equal(cpu_simulate(kernel)[2](a=a, out=np.zeros_like(a)), a * 4)


def test_a_front_end_records_and_checks_without_values(simulator):
    frontend = importlib.import_module("nki_cpu_simulator.nki.compiler.frontend").ParserFrontend()
    a = np.ones((3, 4), np.float32)
    compiled = frontend.compile(kernel, inputs={"a": a, "out": np.zeros_like(a)}, target="trn3", lnc=2)
    first, second = map(len, compiled.instructions)
    assert first == second + 1  # the first core stores the result
    with pytest.raises(Exception, match="start partition"):
        frontend.compile(broken, inputs={"a": np.ones((128, 4), np.float32)}, target="trn3", lnc=1)


def broken(a):
    import trainshed.nki.isa as nisa
    import trainshed.nki.language as nl

    tile = nl.load(a)
    nisa.memset(dst=tile[5:9], value=0.0)
    return a
