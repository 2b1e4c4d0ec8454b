"""How long the launches behind a row take."""

from __future__ import annotations

from collections.abc import Sequence

from trainshed.chip.accesses import Accesses, accesses
from trainshed.chip.timing.rates import Rates
from trainshed.chip.timing.timing import Timing, timing
from trainshed.kernels.measured.launch import Launch
from trainshed.nki.run import Simulated

#: What ran last: rows of one launch follow one another, one for each figure.
_ran: dict[object, Simulated] = {}


def timed(launch: Launch, rates: Rates) -> Timing:
    """The time of a launch on cores of these rates, alone on their chip."""
    return timing(_columns(launch), rates)


def seconds(launches: Sequence[Launch], rates: Rates) -> float:
    """What a clock around all of them shows: a launch's own time comes with each, on the device or the host."""
    return sum(timed(one, rates).seconds + (one.added_s or rates.launch) for one in launches)


def _columns(launch: Launch) -> list[Accesses]:
    sizes = tuple((argument.name, argument.shape, argument.dtype) for argument in launch.arguments)
    key = (launch.kernel.function, launch.target, launch.lnc, sizes, tuple(launch.options.items()))
    if key not in _ran:
        _ran.clear()
        _ran[key] = launch.run(values=False)
    done = _ran[key].launch
    assert done is not None
    return [accesses(core) for core in done.cores]
