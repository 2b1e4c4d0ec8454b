"""``trainshed kernel FILE.py::FUNCTION``: one NKI kernel on a virtual NeuronCore, checked and described."""

from __future__ import annotations

import hashlib
import importlib.util
import inspect
import sys
import traceback
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

import trainshed.nki as nki
from trainshed.app.kernel_compare import compared_times
from trainshed.core import Result, ResultError, UserError, unknown_name
from trainshed.nki.lint import lint


def run_kernel(
    kernel: str,
    inputs: Mapping[str, Any],
    *,
    on: str = "trn3",
    lnc: int | None = None,
    values: bool = True,
    time: bool = True,
    compare: str | None = None,
    rtol: float = 2e-2,
    atol: float = 1e-5,
    shown: Mapping[str, Any] | None = None,
    waiting: Callable[[str], AbstractContextManager[Any]] = nullcontext,
) -> Result:
    """Run ``FILE.py::FUNCTION``; with ``compare`` also the other function, on the same inputs.

    Of the other, values are compared where there are ``values``, and times where it is a kernel and there is ``time``.
    ``shown``: the inputs as the result names them; ``waiting``: a bar to show while times are found.

    Raises:
        UserError: a file, a function or an argument that does not exist; ``NkiValidationError``: a broken rule.
    """
    function = load(kernel)
    if not callable(function):
        raise UserError("not a function", where="kernel", value=kernel, expected="FILE.py::FUNCTION")
    if lnc not in (None, 1, 2):
        raise UserError("physical cores", where="--lnc", value=lnc, expected="1 or 2")
    simulated = nki.simulate(function[lnc] if lnc else function, target=on, values=values, time=time)
    _check_arguments(kernel, simulated.kernel.function, inputs)
    other = None if compare is None else _reference(compare, inputs, on, lnc, values=values, time=time)
    given = _copies(inputs) if other is not None else inputs  # a kernel may write to its arguments
    outputs = _named(_run(kernel, simulated, inputs))
    with waiting("time"):
        figures = _figures(simulated, time)
    figures["outputs"] = {name: _output(value, values) for name, value in outputs.items()}
    figures["lint"] = [item.to_json() for item in lint(simulated.kernel.function)]
    if other is not None and compare is not None:
        expected = _named(_run(compare, other, given, "reference"))
        if values:
            figures["comparison"] = _compare(outputs, expected, rtol, atol)
        if time and isinstance(other, nki.Simulated):
            with waiting("time of the other"):
                figures["time_comparison"] = compared_times((kernel, compare), (simulated, other))
    return Result(
        command="kernel",
        inputs={"kernel": kernel, "inputs": dict(shown or {}), "on": on, "lnc": simulated.lnc, "values": values,
                "time": time},
        result=figures, details={"outputs": outputs, "profile": simulated.profile, "simulated": simulated},
    )  # fmt: skip


def _figures(simulated: nki.Simulated, time: bool) -> dict[str, Any]:
    """Counts and, where it is wanted, time: the keys of ``kernel.result`` in docs/design.md."""
    figures: dict[str, Any] = simulated.profile.to_json()
    if time:
        found = simulated.timing.to_json()
        engines = {name: part | found["engines"].get(name, {}) for name, part in figures["engines"].items()}
        figures |= found | {"engines": engines}
    return figures


def _copies(inputs: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value.copy() if isinstance(value, np.ndarray) else value for name, value in inputs.items()}


def _check_arguments(spec: str, function: Callable[..., Any], inputs: Mapping[str, Any]) -> None:
    """Every parameter without a default is given, and nothing else."""
    signature = inspect.signature(function)
    try:
        signature.bind(**inputs)
    except TypeError as error:
        raise UserError(
            f"arguments ({error})", where=spec, value=", ".join(inputs) or "none", expected=f"--inputs for {signature}"
        ) from None


def _run(spec: str, run: Callable[..., Any], inputs: Mapping[str, Any], what: str = "kernel") -> Any:
    """The outputs of a kernel or its reference; what its own Python raises is told with its line."""
    try:
        return run(**inputs)
    except UserError:
        raise
    except Exception as error:
        frames = traceback.extract_tb(error.__traceback__)
        own = [f for f in frames if f.filename.endswith(Path(spec.partition("::")[0]).name)] or frames
        raise UserError(
            f"the {what} raised", where=f"{own[-1].filename}:{own[-1].lineno}",
            value=f"{type(error).__name__}: {error}", expected=f"a {what} that runs",
        ) from error  # fmt: skip


def mismatch(result: Result) -> ResultError | None:
    """The error of a kernel that differs from its reference."""
    figures: Any = result.result
    wrong = [name for name, row in figures.get("comparison", {}).items() if not row["close"]]
    return ResultError(f"kernel: {', '.join(wrong)} differs from the reference") if wrong else None


def load(spec: str) -> Any:
    """The object that ``FILE.py::NAME`` names."""
    path, name = _parts(spec)
    if not path.is_file() or path.suffix != ".py":
        raise UserError("no such Python file", where="kernel", value=str(path), expected="FILE.py with the kernel")
    module = _module(path)
    if not hasattr(module, name):
        known = [key for key, value in vars(module).items() if callable(value) and not key.startswith("_")]
        raise unknown_name("function", name, known, where=str(path))
    return getattr(module, name)


def _parts(spec: str) -> tuple[Path, str]:
    path, sign, name = spec.partition("::")
    if not sign or not name:
        raise UserError("kernel", where="kernel", value=spec, expected="FILE.py::FUNCTION")
    return Path(path), name


def _module(path: Path) -> ModuleType:
    """The user's file as a module; its folder is importable, as when Python runs it."""
    name = f"_kernel_{hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:12]}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    folder = str(path.resolve().parent)
    if folder not in sys.path:
        sys.path.insert(0, folder)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except UserError:
        raise
    except Exception as error:  # a file of the user's that does not import is the user's to mend
        del sys.modules[name]
        raise UserError(
            "the file does not import", where=str(path), value=f"{type(error).__name__}: {error}", expected="a module"
        ) from error
    return module


def _reference(
    spec: str, inputs: Mapping[str, Any], on: str, lnc: int | None, *, values: bool, time: bool
) -> Callable[..., Any]:  # fmt: skip
    """The other function: an NKI kernel is simulated as the first is, any other function runs plainly."""
    function = load(spec)
    if not callable(function):
        raise UserError("not a function", where="--compare", value=spec, expected="FILE.py::FUNCTION")
    kernel = isinstance(function, nki.Kernel)
    if not values and not (kernel and time):
        raise UserError("nothing to compare", where="--compare", value=spec, expected="a run with --values")
    if kernel:
        _check_arguments(spec, function.function, inputs)
        return nki.simulate(function[lnc] if lnc else function, target=on, values=values, time=time)
    plain: Callable[..., Any] = function
    return plain


def _named(outputs: Any) -> dict[str, Any]:
    """Outputs by name: a dictionary's keys, else ``output0``, ``output1``, …"""
    if isinstance(outputs, Mapping):
        return dict(outputs)
    listed = outputs if isinstance(outputs, tuple | list) else () if outputs is None else (outputs,)
    return {f"output{i}": value for i, value in enumerate(listed)}


def _output(value: Any, computed: bool) -> dict[str, Any]:
    array = np.asarray(value)
    digest = hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest() if computed else None
    return {"shape": list(array.shape), "dtype": array.dtype.names[0] if array.dtype.names else array.dtype.name,
            "sha256": digest}  # fmt: skip


def _compare(outputs: Mapping[str, Any], expected: Mapping[str, Any], rtol: float, atol: float) -> dict[str, Any]:
    """Largest differences per output, and whether all are within ``atol + rtol * |expected|``.

    Outputs are matched by name where both have the same names, else in order.
    """
    if len(outputs) != len(expected):
        raise UserError("outputs of the reference", where="--compare", value=len(expected), expected=str(len(outputs)))
    if set(outputs) == set(expected):
        expected = {name: expected[name] for name in outputs}
    table = {}
    for (name, got), want in zip(outputs.items(), expected.values(), strict=True):
        ours, theirs = np.asarray(got).astype(np.float64), np.asarray(want).astype(np.float64)
        if ours.shape != theirs.shape:
            raise UserError(f"shape of the reference's {name}", where="--compare", value=theirs.shape,
                            expected=str(ours.shape))  # fmt: skip
        same = (ours == theirs) | (np.isnan(ours) & np.isnan(theirs))  # infinite ones have no difference
        difference = np.abs(np.subtract(ours, theirs, out=np.zeros_like(ours), where=~same))
        scale = np.maximum(np.abs(theirs), np.finfo(np.float32).tiny)
        with np.errstate(invalid="ignore"):  # of an infinite difference to an infinite value there is no share
            relative = difference / scale
        table[name] = {
            "max_abs_error": float(difference.max()), "max_rel_error": float(relative.max()),
            "close": bool(np.allclose(ours, theirs, rtol=rtol, atol=atol, equal_nan=True)), "rtol": rtol, "atol": atol,
        }  # fmt: skip
    return table
