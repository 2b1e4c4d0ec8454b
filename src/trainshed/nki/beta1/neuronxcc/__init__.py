"""``neuronxcc``, of which only ``neuronxcc.nki`` is here: NKI Beta 1."""

import sys

from trainshed.nki import beta1 as nki
from trainshed.nki.beta1.isa import constants as _constants

__all__ = ["nki"]
assert _constants

# The modules under their vendor's paths too, so that ``import neuronxcc.nki.language`` finds them.
for _name in ("", ".compiler", ".isa", ".isa.constants", ".language", ".typing"):
    sys.modules[f"{__name__}.nki{_name}"] = sys.modules[f"trainshed.nki.beta1{_name}"]
