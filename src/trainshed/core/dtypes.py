"""Which dtype each class of tensors has."""

from __future__ import annotations

from dataclasses import dataclass, fields

from trainshed.core.errors import UserError
from trainshed.numerics.dtypes import BYTES


@dataclass(frozen=True, kw_only=True)
class Dtypes:
    """dtype per tensor class; ``experts`` follows ``weights`` unless given, ``matmul`` is what the products run in."""

    weights: str = "bf16"
    experts: str = ""
    activations: str = "bf16"
    kv: str = "bf16"
    gradients: str = "fp32"
    optimizer: str = "fp32"
    """Master weights and both Adam moments, unless the framework says otherwise."""
    matmul: str = ""
    """The product dtype; empty: ``activations`` where weights are narrower than they, else ``weights``."""
    experts_matmul: str = ""
    """The product dtype of routed experts, where it is another (checkpoints that quantise the experts only)."""

    def __post_init__(self) -> None:
        for f in fields(self):
            value = getattr(self, f.name)
            if value and value not in BYTES:
                raise UserError(f"unknown dtype of {f.name}", where="--dtype", value=value, expected=", ".join(BYTES))

    def size(self, tensor_class: str) -> float:
        """Bytes per element of a tensor class."""
        return BYTES[self.of(tensor_class)]

    def of(self, tensor_class: str) -> str:
        """The dtype of a tensor class, defaults filled in."""
        value: str = getattr(self, tensor_class)
        if value:
            return value
        if tensor_class == "experts":
            return self.weights
        if tensor_class == "experts_matmul":
            return self.of("matmul")
        return self.weights if BYTES[self.weights] >= BYTES[self.activations] else self.activations

    @classmethod
    def parse(cls, text: str) -> Dtypes:
        """``bf16`` or ``weights=mxfp4,activations=bf16,kv=fp8``; fp8-class names alone set the product dtype too."""
        if "=" not in text:
            low = BYTES.get(text, 2.0) < 2.0
            return cls(weights=text, activations="bf16" if low else text, kv="bf16" if low else text, matmul=text)
        known = {f.name for f in fields(cls)}
        pairs = dict(part.split("=", 1) for part in text.split(",") if "=" in part)
        for key in pairs:
            if key not in known:
                raise UserError("unknown tensor class", where="--dtype", value=key, expected=", ".join(sorted(known)))
        return cls(**pairs)

    def __str__(self) -> str:
        return ",".join(f"{f.name}={self.of(f.name)}" for f in fields(self))
