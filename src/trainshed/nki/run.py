"""``nki.jit`` and ``nki.simulate``: a Python function run as a kernel on virtual NeuronCores.

Source: the vendor's pages on ``nki.jit``, ``nki.simulate`` and the simulator's guide.
"""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Callable, Sequence
from types import FunctionType
from typing import Any

from trainshed.chip.accesses import Accesses, accesses
from trainshed.chip.core import NeuronCore, Target, running
from trainshed.chip.divergence import check_results
from trainshed.chip.errors import source
from trainshed.chip.findings import note
from trainshed.chip.launch import Launch
from trainshed.chip.profile import Checked, Profile, check, profile
from trainshed.chip.schedule import apply_schedule
from trainshed.chip.timing.clock import Clock, clocks
from trainshed.chip.timing.rates import rates
from trainshed.chip.timing.timing import Timing, timing
from trainshed.chip.turns import Turns
from trainshed.chip.undefined import check_result
from trainshed.chip.words import MemoryRegion
from trainshed.core.errors import UserError
from trainshed.nki.arguments import Arguments, results, tensors
from trainshed.nki.calls import bad_argument, bad_call
from trainshed.nki.environment import check_lnc, default_options, default_target
from trainshed.nki.typing import check_annotations


class Kernel:
    """A kernel: call it, choose its cores with ``kernel[lnc]``, or give it to ``nki.simulate``."""

    def __init__(self, function: Callable[..., Any], grid: tuple[int, ...] | None = None, **options: Any) -> None:
        self.function = function
        self.grid = grid
        self.options = options
        self.schedule: tuple[Any, ...] = ()
        # An object's own attributes are not the kernel's.
        functools.update_wrapper(self, function, updated=("__dict__",) if isinstance(function, FunctionType) else ())

    def __getitem__(self, grid: Any) -> Kernel:
        made = Kernel(self.function, _grid(grid), **self.options)
        made.schedule = self.schedule
        return made

    def with_schedule(self, schedule: Sequence[Any]) -> Kernel:
        """Ordering constraints between named instructions: ``[(consumer, producer or [producers]), …]``."""
        made = Kernel(self.function, self.grid, **self.options)
        made.schedule = tuple(schedule)
        return made

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Inside a kernel a plain call; outside, it runs on virtual NeuronCores (as with ``NKI_SIMULATOR=1``)."""
        if running() is not None:
            return self.function(*args, **kwargs)
        return Simulated(self)(*args, **kwargs)

    def check_launch(self, target: Target) -> None:
        """The cores of the launch are those the target and the environment have."""
        check_lnc(self.grid, target)

    def __get__(self, instance: Any, owner: Any = None) -> Any:
        return self if instance is None else functools.partial(self, instance)


def _grid(grid: Any) -> tuple[int, ...]:
    sizes = grid if isinstance(grid, tuple | list) else (grid,)
    try:
        found = tuple(int(size) for size in sizes)
    except (TypeError, ValueError):
        found = ()
    if not found or any(size < 1 for size in found):
        raise UserError("launch grid", where="kernel[…]", value=grid, expected="positive whole numbers, e.g. kernel[2]")
    return found


def jit(fn: Callable[..., Any] | None = None, **options: Any) -> Any:
    """Make a function a kernel; with options, the decorator that does."""
    if fn is None:
        return functools.partial(jit, **options)
    return fn if isinstance(fn, Kernel) else Kernel(fn, **options)


class Simulated:
    """What ``nki.simulate`` returns: call it with arrays. ``profile`` and ``timing`` describe the last run."""

    def __init__(
        self, kernel: Any, *, target: str | None = None, values: bool = True, time: bool = True,
        quantize_rule: str | None = None, check: bool = True,
    ) -> None:  # fmt: skip
        self.kernel: Kernel = kernel if isinstance(kernel, Kernel) else Kernel(kernel)
        self._target, self._values, self._time, self._rule, self._check = target, values, time, quantize_rule, check
        self.launch: Launch | None = None
        self._arguments: Arguments | None = None
        self._checked: Checked | None = None
        self._columns: tuple[Accesses, ...] | None = None
        self._profile: Profile | None = None
        self._clocks: tuple[Clock, ...] | None = None
        self._timing: Timing | None = None

    def __getitem__(self, grid: Any) -> Simulated:
        return Simulated(
            self.kernel[grid], target=self._target, values=self._values, time=self._time, quantize_rule=self._rule,
            check=self._check,
        )  # fmt: skip

    @property
    def lnc(self) -> int:
        """Physical cores of the launch."""
        return math.prod(self.kernel.grid or (1,))

    @property
    def profile(self) -> Profile:
        """Instructions, traffic, peaks of memory and findings of the last run."""
        launch = self._finished("profile")
        if self._profile is None:
            self._profile = profile(launch, self._checked)
        return self._profile

    @property
    def timing(self) -> Timing:
        """Time of the last run: engines at work, bounds, critical path. Found when first asked for."""
        if self._timing is None:
            found = self.clocks
            self._timing = timing(self.columns, found=found)
        return self._timing

    @property
    def clocks(self) -> tuple[Clock, ...]:
        """When every instruction of the last run starts and ends, by core."""
        if not self._time:
            raise UserError("timing", where="nki.simulate", value="time=False", expected="a run with time=True")
        if self._clocks is None:
            columns = self.columns
            self._clocks = tuple(clocks(columns, rates(columns[0].core.target.chip)))
        return self._clocks

    @property
    def columns(self) -> tuple[Accesses, ...]:
        """The records of the last run as columns, by core."""
        launch = self._finished("timing")
        if self._columns is None:
            checked = self._checked
            self._columns = checked.columns if checked else tuple(accesses(core) for core in launch.cores)
        return self._columns

    def _finished(self, what: str) -> Launch:
        if self.launch is None:
            raise UserError(what, where="nki.simulate", value=None, expected="a call of the kernel first")
        return self.launch

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        body = self.prepare(args, kwargs)
        assert self.launch is not None
        return self.finish(self.launch.run(body))

    def prepare(
        self, args: tuple[Any, ...], kwargs: dict[str, Any], turns: Turns | None = None
    ) -> Callable[[NeuronCore], Any]:
        """A new launch with the arguments in its HBM; returns what each of its cores has to run."""
        target = default_target(self._target)
        self.kernel.check_launch(target)
        options = default_options(self._values, self._rule)
        launch = self.launch = Launch(target, options, self.lnc, turns=turns)
        self._checked = self._profile = self._columns = self._clocks = self._timing = None
        arguments = self._arguments = Arguments(args, kwargs, _names(self.kernel.function, len(args)))
        given = [arguments.for_core(core) for core in launch.cores]
        check_annotations(self.kernel.function, *given[0])

        def body(core: NeuronCore) -> Any:
            core.grid = self.kernel.grid or ()
            positional, named = given[core.index]
            try:
                return self.kernel.function(*positional, **named)
            except (TypeError, ValueError, AttributeError, LookupError, ArithmeticError) as error:
                told = (isinstance(error, TypeError) and bad_call(error)) or bad_argument(error)
                if told is None:
                    raise
                raise told from error

        return body

    def finish(self, returned: list[Any]) -> Any:
        """What every core returned, checked; the first core's as arrays, and inputs that changed given back."""
        launch, arguments = self.launch, self._arguments
        assert launch is not None
        assert arguments is not None
        apply_schedule(launch.cores, self.kernel.schedule)
        check_results(launch.cores, [list(tensors(value)) for value in returned])
        if self._check:
            _note_outputs(launch.cores[0], returned[0])
            self._checked = check(launch)
            if launch.cores[0].options.values:
                for tensor in tensors(returned[0]):
                    check_result(tensor)
        launch.returned = returned[0]
        for taken in arguments.taken:
            if taken.tensor.storage.changed:
                taken.give_back()
        self._arguments = None
        return results(returned[0], torch=arguments.torch)


def _note_outputs(core: NeuronCore, returned: Any) -> None:
    """Findings for outputs elsewhere than in shared HBM: they simulate, but do not compile.

    Source: NKI migration guide, 0.2.0 to 0.3.0, "Output tensors must use nl.shared_hbm".
    """
    for tensor in tensors(returned):
        if tensor.buffer is not MemoryRegion.shared_hbm and not tensor.storage.argument:
            message = f"the kernel returns {tensor!r}: the compiler takes outputs in nl.shared_hbm only"
            note(core, "output-buffer", message, tensor.storage.source or source())


def _names(function: Callable[..., Any], count: int) -> dict[int, str]:
    try:
        parameters = list(inspect.signature(function).parameters)
    except (TypeError, ValueError):
        return {}
    return dict(enumerate(parameters[:count]))


def simulate(
    kernel: Any, *, target: str | None = None, values: bool = True, time: bool = True, quantize_rule: str | None = None
) -> Simulated:
    """A callable that runs ``kernel`` (or ``kernel[lnc]``) on virtual NeuronCores.

    Args:
        kernel: an ``@nki.jit`` kernel or a plain function.
        target: ``trn1``, ``trn2`` or ``trn3``; default the environment's, else ``trn3``.
        values: compute; otherwise only check and record: with ``time``, time alone.
        time: let ``timing`` tell how long the run takes; otherwise values alone.
        quantize_rule: ``"0.5"`` (default) or ``"0.4"``: which release's scale rule ``quantize_mx`` follows.

    Returns:
        A callable: arrays in (NumPy, PyTorch), arrays of the same kind out; inputs that the kernel writes are
        updated in place. Its ``profile`` and ``timing`` describe the last run.
    """
    return Simulated(kernel, target=target, values=values, time=time, quantize_rule=quantize_rule)
