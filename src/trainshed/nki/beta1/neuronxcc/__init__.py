"""``neuronxcc``, of which only ``neuronxcc.nki`` is here: NKI Beta 1."""

import sys

import trainshed.nki.beta1.isa.constants  # noqa: F401 - loaded, to be named below
from trainshed.nki import beta1 as nki

__all__ = ["nki"]

# The modules under their vendor's paths too, so that ``import neuronxcc.nki.language`` finds them.
for _name in ("", ".compiler", ".isa", ".isa.constants", ".language", ".typing"):
    sys.modules[f"{__name__}.nki{_name}"] = sys.modules[f"trainshed.nki.beta1{_name}"]
