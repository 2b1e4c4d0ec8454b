"""What a framework makes of good kernels: its share of their rate, its launches, what it hides behind them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from trainshed.core import Attention, Cost, Elementwise, Experts, Lookup, Number, Op, formula, longest, scaled, total
from trainshed.core.constant import Constant
from trainshed.hardware.schema import Chip
from trainshed.ops.base import OpCost
from trainshed.parallel import OpWork
from trainshed.parallel.work import add_up
from trainshed.software.schema import Framework


@dataclass(frozen=True, kw_only=True, eq=False)
class Kernels:
    """A framework on a chip."""

    framework: Framework
    chip: Chip

    def of(self, op: Op, kernel: OpCost) -> Cost:
        """Time of a kernel as the framework runs it."""
        if isinstance(op, Attention):
            return self._attention(kernel)
        share = self.framework.fit(self._share(op))
        return formula(kernel.time.what, "s", "kernel / share", kernel=kernel.time, share=share)

    @staticmethod
    def _share(op: Op) -> str:
        if isinstance(op, Elementwise | Lookup):
            return "elementwise_share"
        return "expert_share" if isinstance(op, Experts) else "gemm_share"

    def _attention(self, kernel: OpCost) -> Cost:
        share = self.framework.fit("attention_share")
        what = kernel.time.what
        if (legacy := self.legacy_share) is None:
            return formula(what, "s", "kernel / share", kernel=kernel.time, share=share)
        return formula(what, "s", "kernel / (share * legacy)", kernel=kernel.time, share=share, legacy=legacy)

    @property
    def legacy_share(self) -> Constant | None:
        """What is left of the chip's rate for an attention kernel written for the generation before it."""
        older = self.framework.attention_made_for
        return self.chip.fitted.get("legacy_share") if older and older == self.chip.previous else None

    def quantise(self, cost: OpCost | None) -> list[Cost]:
        """The passes that make low-precision copies of a product's operands."""
        if cost is None:
            return []
        passes = self.framework.fit("quantise_passes")
        return [formula(cost.time.what, "s", "passes * each", passes=passes, each=cost.time)]

    def run(self, what: str, kernels: Sequence[Cost], launches: Number) -> Cost:
        """Kernels one after another, or the host that launches them where that takes longer."""
        host = formula(
            f"{what}: launches", "s", "launches * launch", launches=launches, launch=self.framework.fit("launch")
        )  # fmt: skip
        return longest(what, [total(f"{what}: kernels", kernels, unit="s"), host])

    def forward(self, what: str, works: Sequence[OpWork]) -> Cost:
        """The forward pass of a block."""
        kernels = [self.of(w.op, w.forward) for w in works]
        for w in works:
            kernels += self.quantise(w.quantise_forward)
        return self.run(what, kernels, add_up(w.forward.launches for w in works))

    def backward(self, what: str, works: Sequence[OpWork], again: Sequence[tuple[OpWork, Number]]) -> Cost:
        """The backward pass of a block; ``again``: forward ops computed once more, with how often (0 or 1)."""
        kernels = [self.of(w.op, c) for w in works for c in w.backward]
        launches = add_up(c.launches for w in works for c in w.backward)
        for w in works:
            kernels += self.quantise(w.quantise_backward)
        for w, times in again:
            kernels.append(scaled(f"{w.op.name} again", self.of(w.op, w.forward), times))
            launches = launches + w.forward.launches * times
        return self.run(what, kernels, launches)


def exposed(what: str, communication: Cost, overlap: Constant, behind: Cost | Number) -> Cost:
    """What is left of a communication when the part that may overlap hides behind work."""
    return formula(
        what, "s", "communication - min(overlap * communication, behind)", communication=communication,
        overlap=overlap, behind=behind,
    )  # fmt: skip
