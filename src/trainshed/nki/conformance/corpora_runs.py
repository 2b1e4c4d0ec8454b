"""Running one published kernel, or the test suite of a published package, on the virtual NeuronCore."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import time
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

import trainshed.nki as nki
import trainshed.nki.beta1 as beta1
from trainshed.core.errors import UserError

Array = np.ndarray[Any, Any]
#: Packages that kernel files import beside NKI and do not need to compute: frameworks and profilers of a device.
_STAND_INS = (
    "torch_xla", "torch_xla.core", "torch_xla.core.xla_model", "torch_neuronx", "triton_viz", "triton_viz.clients",
    "triton_viz.core", "triton_viz.core.trace",
)  # fmt: skip


@dataclass(frozen=True)
class Near:
    """What a case's inputs and reference may use: random numbers, and modules beside the kernel's file."""

    rng: np.random.Generator
    folder: Path

    def module(self, name: str) -> Any:
        """A module of the kernel's own folder."""
        return load(self.folder / f"{name}.py")

    def normal(self, *shape: int, dtype: Any = np.float32) -> Array:
        return self.rng.standard_normal(shape).astype(dtype)

    def uniform(self, *shape: int, dtype: Any = np.float32) -> Array:
        return self.rng.random(shape).astype(dtype)


@dataclass(frozen=True, kw_only=True)
class Case:
    """One kernel of one public file, with inputs and what it must give."""

    corpus: str
    file: str
    """Path below the corpus' folder."""
    function: str
    inputs: Callable[[Near], tuple[Any, ...]]
    reference: Callable[..., Any]
    """``reference(near, *inputs)``: the outputs, then what arguments that are written must hold."""
    label: str = ""
    rtol: float = 1e-4
    """Relative to the largest magnitude of the reference."""
    target: str = "trn2"
    grid: tuple[int, ...] | None = None
    written: tuple[int, ...] = ()
    """Arguments that are outputs."""
    refused: str = ""
    """The rule that must refuse the kernel, where it is published as a wrong example."""
    call: bool = False
    """The function is called as it is: it launches a kernel itself."""
    beta1: bool = False
    quantize_rule: str | None = None
    needs: tuple[str, ...] = ()
    """Packages without which it cannot be run, such as torch."""

    @property
    def name(self) -> str:
        return f"{self.function} {self.label}".strip()


@dataclass(frozen=True, kw_only=True)
class Suite:
    """A test suite of the corpus itself, run by pytest with our ``nki`` in place of the vendor's."""

    corpus: str
    file: str
    marker: str
    """A file that tells the corpus' folder from others."""
    arguments: tuple[str, ...] = ()
    environment: dict[str, str] = field(default_factory=dict)
    needs: tuple[str, ...] = ()
    known: dict[str, str] = field(default_factory=dict)
    """Tests that do not pass, by name, and why."""
    slow: dict[str, str] = field(default_factory=dict)
    """Tests that take minutes, by name, and why; left out unless asked for."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What became of a case or a test of a suite."""

    corpus: str
    file: str
    name: str
    result: str
    """``matches``, ``refused`` (as it must be), ``differs``, ``error`` or ``skipped``."""
    error: float | None = None
    seconds: float = 0.0
    note: str = ""
    known: bool = False
    """It does not match for a reason that is told."""

    @property
    def good(self) -> bool:
        return self.known or self.result in ("matches", "refused", "skipped")


# --- loading ------------------------------------------------------------------------------------------------------


class _StandIn(types.ModuleType):
    """A package of which any name can be imported and called."""

    __path__: list[str] = []  # noqa: RUF012 - a module's attribute

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return lambda *args, **kwargs: None


@contextmanager
def surroundings(folder: Path) -> Iterator[None]:
    """The import path, environment and stand-ins of a kernel's file; all as before afterwards."""
    environment, path, modules = dict(os.environ), list(sys.path), dict(sys.modules)
    sys.path.insert(0, str(folder))
    absent = {name for name in {item.split(".")[0] for item in _STAND_INS} if importlib.util.find_spec(name) is None}
    for name in _STAND_INS:
        if name.split(".")[0] in absent:
            sys.modules[name] = _StandIn(name)
            parent, _, child = name.rpartition(".")
            if parent:
                setattr(sys.modules[parent], child, sys.modules[name])
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(environment)
        sys.path[:] = path
        for name in set(sys.modules) - set(modules):
            file = getattr(sys.modules[name], "__file__", None)
            if isinstance(sys.modules[name], _StandIn) or (file and Path(file).parent == folder):
                del sys.modules[name]


def load(file: Path) -> Any:
    """A module from a file, whatever its name."""
    name = "corpus_" + "".join(c if c.isalnum() else "_" for c in file.stem)
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    finally:
        sys.modules.pop(name, None)
    return module


# --- running ------------------------------------------------------------------------------------------------------


def run(case: Case, root: Path) -> Outcome:
    """One case of a corpus at ``root``."""
    file, start = root / case.file, time.perf_counter()
    missing = [name for name in case.needs if importlib.util.find_spec(name) is None]

    def outcome(result: str, error: float | None = None, note: str = "") -> Outcome:
        return Outcome(
            corpus=case.corpus, file=case.file, name=case.name, result=result, error=error,
            seconds=time.perf_counter() - start, note=note,
        )  # fmt: skip

    if missing:
        return outcome("skipped", note=f"needs {', '.join(missing)}")
    try:
        with surroundings(file.parent):
            near = Near(np.random.default_rng(0), file.parent)
            arguments = case.inputs(near)
            expected = _flat(case.reference(near, *(_copied(value) for value in arguments)))
            given = _flat(_launch(case, getattr(load(file), case.function), arguments))
            given += [arguments[place] for place in case.written]
    except UserError as error:
        rule = getattr(error, "rule", "")
        return outcome("refused" if case.refused and rule == case.refused else "error", note=str(error))
    except Exception as error:
        return outcome("error", note=f"{type(error).__name__}: {error}")
    if case.refused:
        return outcome("differs", note=f"was not refused ({case.refused})")
    return _compared(outcome, case, given, expected)


def _launch(case: Case, function: Any, arguments: tuple[Any, ...]) -> Any:
    """The kernel's outputs."""
    if case.call:
        return function(*arguments)
    if case.beta1:
        kernel = beta1.jit(function)
        return beta1.simulate_kernel(kernel[case.grid] if case.grid else kernel, *arguments)
    kernel = function if isinstance(function, nki.Kernel) else nki.jit(function)
    simulated = nki.simulate(
        kernel[case.grid] if case.grid else kernel, target=case.target, quantize_rule=case.quantize_rule
    )
    return simulated(*arguments)


def _compared(outcome: Callable[..., Outcome], case: Case, given: list[Array], expected: list[Array]) -> Outcome:
    given = [value for value in given if value is not None]
    if len(given) > len(expected):  # arguments that are returned as well
        given = given[-len(expected) :]
    shapes = [value.shape for value in given], [value.shape for value in expected]
    if shapes[0] != shapes[1]:
        return outcome("differs", note=f"shapes {shapes[0]}, expected {shapes[1]}")
    error = max((_error(a, b) for a, b in zip(given, expected, strict=True)), default=float("nan"))
    return outcome("matches" if error <= case.rtol else "differs", error)


def _error(given: Array, expected: Array) -> float:
    """The largest difference relative to the largest magnitude."""
    a, b = np.asarray(given).astype(np.float64), np.asarray(expected).astype(np.float64)
    if not a.size:
        return 0.0
    return float(np.max(np.abs(a - b)) / max(float(np.max(np.abs(b))), 1e-30)) if np.isfinite(a).all() else float("inf")


def _flat(value: Any) -> list[Array]:
    items = value if isinstance(value, tuple | list) else [value]
    return [_array(item) for item in items if item is not None]


def _array(value: Any) -> Array:
    return np.asarray(value.float().numpy() if type(value).__module__ == "torch" else value)


def _copied(value: Any) -> Any:
    return value.copy() if isinstance(value, np.ndarray) else value


def run_suite(suite: Suite, root: Path, *, slow: bool = False) -> list[Outcome]:
    """A corpus' own tests, in a process of their own; the slow ones only when asked for."""
    missing = [name for name in suite.needs if importlib.util.find_spec(name) is None]
    common: dict[str, Any] = {"corpus": suite.corpus, "file": suite.file}
    if missing:
        return [Outcome(**common, name="its own suite", result="skipped", note=f"needs {', '.join(missing)}")]
    start = time.perf_counter()
    command = [
        sys.executable, "-m", "pytest", "-p", "trainshed.nki", "-p", "no:cacheprovider", "-q", "-rA", "--tb=line",
        "--continue-on-collection-errors",
        "--color=no", str(root / suite.file), *suite.arguments,
        *(f"--deselect={suite.file}::{name}" for name in suite.slow if not slow),
    ]  # fmt: skip
    # One thread for products: tiles are small, and threads that wait for each other slow them tenfold.
    environment = {
        "OPENBLAS_NUM_THREADS": "1",
        **os.environ,
        **suite.environment,
        "PYTHONDONTWRITEBYTECODE": "1",
        "COLUMNS": "500",
    }
    environment["PYTHONPATH"] = os.pathsep.join([str(root), *filter(None, [os.environ.get("PYTHONPATH")])])
    done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, check=False)
    outcomes = [
        Outcome(**common, name=name, result=result, note=why or note, known=bool(why))
        for name, result, note in _lines(done.stdout)
        for why in (_reason(suite, name, result),)
    ]
    if not outcomes:
        tail = (done.stdout + done.stderr).strip().splitlines()[-1:] or ["no output"]
        return [Outcome(**common, name="its own suite", result="error", note=tail[0][:300])]
    if not slow:
        outcomes += [
            Outcome(**common, name=name, result="skipped", note=f"{why}: --slow runs it")
            for name, why in suite.slow.items()
        ]
    seconds = (time.perf_counter() - start) / len(outcomes)
    return [Outcome(**{**vars(item), "seconds": seconds}) for item in outcomes]


def _lines(output: str) -> Iterator[tuple[str, str, str]]:
    """Names, results and notes of pytest's summary."""
    words = {"PASSED": "matches", "XPASS": "matches", "FAILED": "differs", "ERROR": "error", "XFAIL": "skipped"}
    for line in output.splitlines():
        word, _, rest = line.partition(" ")
        name, _, note = rest.partition(" - ")
        if word in words and (".py" in name or "::" in name):
            shown = name.split("::", 1)[1] if "::" in name else Path(name).name
            told = {"XPASS": f"is expected to fail on AWS's simulator: {note}", "XFAIL": f"expected to fail: {note}"}
            yield shown, words[word], told.get(word, note)[:300]


def _reason(suite: Suite, name: str, result: str) -> str:
    """Why a test does not pass, where that is known."""
    return "" if result == "matches" else next((why for part, why in suite.known.items() if part in name), "")
