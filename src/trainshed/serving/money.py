"""Power and energy of serving: what ``economy`` says of the chips' activity, and of hosts and switches beside them."""

from __future__ import annotations

from dataclasses import dataclass

from trainshed import economy
from trainshed.core import Cost, Number, formula, total
from trainshed.serving.deployment import Deployment
from trainshed.serving.outcome import Load, Outcome


@dataclass(frozen=True, kw_only=True, eq=False)
class Power:
    """Watts of a deployment at work; None where nobody states what they would follow from."""

    chips: Cost | None
    beside: Cost | None
    """Hosts and switches."""
    facility: Cost | None
    """All of it at the building's meter (PUE counted)."""

    @property
    def machines(self) -> Cost | None:
        """Chips, hosts and switches."""
        if self.chips is None or self.beside is None:
            return None
        return total("machines", [self.chips, self.beside], unit="W")


def power(deployment: Deployment, outcome: Outcome) -> Power:
    """Mean watts while the outcome lasts."""
    each = [_chips(load) for load in outcome.loads]
    known = [watts for watts in each if watts is not None]
    chips = total("chips", known, unit="W") if known and len(known) == len(each) else None
    beside = economy.overhead(deployment.system, deployment.chips, 1.0)
    facility = economy.facility(deployment.system, chips, deployment.chips, 1.0)
    return Power(chips=chips, beside=_watts("hosts and switches", beside), facility=_watts("facility", facility))


def _watts(what: str, joules: Cost | None) -> Cost | None:
    """Joules of one second as watts."""
    return None if joules is None else formula(what, "W", "joules / seconds", joules=joules, seconds=1.0)


def _chips(load: Load) -> Cost | None:
    worker = load.worker
    return economy.power(
        worker.chip, load.activity, load.seconds, ranks=worker.ranks * worker.replicas, chips=worker.chips
    )


def joules_per_token(deployment: Deployment, outcome: Outcome) -> Number | None:
    """Joules of chips, hosts and switches per output token; None where no power is known."""
    machines = power(deployment, outcome).machines
    return None if machines is None else machines.value / outcome.tokens_per_s
