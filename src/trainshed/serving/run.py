"""The one way in: a deployment and a workload to what it takes."""

from __future__ import annotations

from collections.abc import Callable

from trainshed.core import UserError
from trainshed.serving.closed import closed
from trainshed.serving.deployment import Deployment
from trainshed.serving.outcome import Outcome
from trainshed.serving.rate import offline, opened
from trainshed.serving.static import decode_only, prefill_only, static
from trainshed.serving.workload import Workload

_MODES: dict[str, Callable[[Deployment, Workload], Outcome]] = {
    "closed": closed, "offline": offline, "open": opened,
    "static": lambda d, w: static(d.decode, w),
    "prefill": lambda d, w: prefill_only(d.prefill, w),
    "decode": lambda d, w: decode_only(d.decode, w),
}  # fmt: skip


def run(deployment: Deployment, work: Workload) -> Outcome:
    """What the workload takes on the deployment, in closed form; arrays give arrays."""
    if work.mode == "static" and not deployment.shared:
        raise UserError("a static batch has one plan", where="--plan", value=deployment.plan, expected="one plan")
    return _MODES[work.mode](deployment, work)
