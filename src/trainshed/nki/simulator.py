"""``nki.simulator``: the entry that serving frameworks call."""

from __future__ import annotations

from typing import Any

from trainshed.nki.run import simulate


def simulate_kernel(kernel: Any, *args: Any, **kwargs: Any) -> Any:
    """``kernel(*args)`` on virtual NeuronCores: arrays in, arrays of the same kind out."""
    return simulate(kernel)(*args, **kwargs)


__all__ = ["simulate_kernel"]
