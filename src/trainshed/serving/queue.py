"""Who waits for whom in a closed loop: prompts queue for prefill, decoding sequences wait for the prompts of others.

A worker with m requests in its care is a closed queueing network of two stations: prefill (one server, S seconds per
prompt) and decode (everyone at once, Z seconds per request). By the arrival theorem a prompt finds what m - 1 requests
leave at the prefill station; with Schweitzer's approximation (Bard 1979; Reiser and Lavenberg 1980) its stay is
W = L + S (m - 1) W / (W + Z), where L is the time of a pass. Decoding in turn is stretched by the prompts that arrive
meanwhile. Plain arithmetic on arrays; the costs are formed afterwards from the numbers found here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from trainshed.core import Number

_ROUNDS = 40


@dataclass(frozen=True, kw_only=True, eq=False)
class Balance:
    """The steady state of a closed loop."""

    decoding: Number
    """Sequences in decode at once."""
    ahead: Number
    """Prompts that a new one finds before it."""
    stay: Number
    """Seconds at the prefill station."""
    residence: Number
    """Seconds in decode."""


def stay(latency: Number, service: Number, others: Number, away: Number) -> Number:
    """W = L + S · others · W / (W + Z): seconds at a station that ``others`` requests visit between Z seconds away."""
    b = away - latency - service * others
    return (-b + np.sqrt(b * b + 4.0 * latency * away)) / 2.0


def balance(
    *, members: Number, steps: Number, step: Callable[[Number], Number], stall: Number, latency: Number,
    service: Callable[[Number], Number], servers: Number = 1.0,
) -> Balance:  # fmt: skip
    """Solves for the sequences in decode: ``step(n)`` seconds per decode step of n, ``stall`` seconds per prompt that
    joins, ``service(step)`` seconds that a prompt holds one of ``servers`` prefill servers."""
    members, decoding = np.asarray(members, dtype=np.float64), np.asarray(members, dtype=np.float64) * 1.0
    for _ in range(_ROUNDS):
        each = step(np.maximum(decoding, 1.0))
        residence = np.maximum(steps * each + stall * decoding, 1e-12)
        held = service(each) / servers
        waited = stay(latency, held, members - 1.0, residence)
        decoding = 0.5 * decoding + 0.5 * members * residence / (residence + waited)
    ahead = (members - 1.0) * waited / (waited + residence)
    return Balance(decoding=decoding, ahead=ahead, stay=waited, residence=residence)
