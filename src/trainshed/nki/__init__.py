"""AWS's kernel language NKI over the virtual NeuronCore (``trainshed.chip``).

Importing it makes ``import nki``, ``nki.language`` and ``nki.isa`` work where the vendor's package is not installed.
"""

from trainshed.nki import collectives, compiler, isa, language, simulator, typing
from trainshed.nki.hook import install
from trainshed.nki.run import Kernel, Simulated, jit, simulate

install()

__all__ = [
    "Kernel",
    "Simulated",
    "collectives",
    "compiler",
    "isa",
    "jit",
    "language",
    "simulate",
    "simulator",
    "typing",
]
