"""``nki`` with ``cpu_simulate``: ``cpu_simulate(kernel)[lnc](**inputs)``."""

import os
from typing import Any

from nki_cpu_simulator.nki import collectives, compiler, isa, language, tensor, typing
from nki_cpu_simulator.nki.language import dtypes as dtype
from trainshed.nki import Kernel, Simulated, jit, simulate, simulator


class _Simulator:
    """A kernel that waits for its number of cores."""

    def __init__(self, kernel: Any, cores: Any = None) -> None:
        self._kernel, self._cores = kernel, cores

    def __getitem__(self, cores: Any) -> "_Simulator":
        return _Simulator(self._kernel, cores)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        simulated = simulate(self._kernel, target=os.environ.get("NKI_NC_VERSION") or None)
        return (simulated if self._cores is None else simulated[self._cores])(*args, **kwargs)


def cpu_simulate(kernel: Any) -> _Simulator:
    """A callable that runs ``kernel`` on virtual NeuronCores; index it with the number of cores first.

    ``NKI_NC_VERSION`` (``gen2``, ``gen3``, ``gen4``), as it stands at the call, selects the generation.
    """
    return _Simulator(kernel)


__all__ = [
    "Kernel",
    "Simulated",
    "collectives",
    "compiler",
    "cpu_simulate",
    "dtype",
    "isa",
    "jit",
    "language",
    "simulate",
    "simulator",
    "tensor",
    "typing",
]
