"""AWS's kernel language NKI over the virtual NeuronCore (``trainshed.chip``).

Importing it makes ``import nki``, ``nki.language`` and ``nki.isa`` work where the vendor's package is not installed.
"""

from trainshed.nki import collectives, compiler, dtype, experimental, isa, language, simulator, tensor, typing
from trainshed.nki.hook import install
from trainshed.nki.run import Kernel, Simulated, jit, simulate
from trainshed.nki.world import simulate_ranks

install()

__all__ = [
    "Kernel", "Simulated", "collectives", "compiler", "dtype", "experimental", "isa", "jit", "language",
    "simulate", "simulate_ranks", "simulator", "tensor", "typing",
]  # fmt: skip
