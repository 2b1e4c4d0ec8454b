"""What is asked of a deployment: how requests come, how long they are, how many at a time."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Literal, get_args

import numpy as np

from trainshed.core import Number, UserError

Mode = Literal["static", "closed", "offline", "open", "prefill", "decode"]

#: What each mode cannot do without.
_NEEDS: dict[str, tuple[str, ...]] = {
    "static": ("isl", "osl", "batch"), "closed": ("isl", "osl", "concurrency"), "offline": ("isl", "osl"),
    "open": ("isl", "osl", "rate_per_s"), "prefill": ("isl", "batch"), "decode": ("batch",),
}  # fmt: skip


@dataclass(frozen=True, kw_only=True, eq=False)
class Workload:
    """Requests as means of their lengths; every number may be an array (one entry per row or plan).

    ``static``: one batch, prefilled together, then decoded together. ``closed``: ``concurrency`` users, each sends the
    next request when the last one is answered. ``offline``: all requests queued at once. ``open``: ``rate_per_s``
    arrivals. ``prefill`` and ``decode``: one phase alone, for one batch.
    """

    mode: Mode
    isl: Number | None = None
    """Input tokens per request."""
    osl: Number | None = None
    """Output tokens per request."""
    batch: Number | None = None
    concurrency: Number | None = None
    rate_per_s: Number | None = None
    requests: Number | None = None
    """Requests in the whole run; None: so many that the start does not matter."""
    context: Number | None = None
    """Tokens that a decode step attends, where stated (a compiled bucket, ``decode`` alone)."""
    identical: bool = False
    """Every prompt of a batch has the same tokens, so that an MoE layer reads the experts of one token only."""
    cached: Number | None = None
    """Tokens of each prompt whose keys and values a prefix cache holds already; prefill computes the others."""
    equal: bool = False
    """All requests have the same lengths (a benchmark's fixed lengths): those that end together return together."""
    max_batch: Number | None = None
    """Sequences that run at once in one replica; None: the engine's default."""
    tokens_per_step: Number | None = None
    """Prompt tokens that one step takes; None: the engine's default."""

    def __post_init__(self) -> None:
        if self.mode not in get_args(Mode):
            raise UserError("unknown mode", where="workload", value=self.mode, expected=", ".join(get_args(Mode)))
        for name in _NEEDS[self.mode]:
            if getattr(self, name) is None:
                raise UserError(f"mode {self.mode} needs {name}", where="workload", value=None, expected="a number")
        for f in fields(self):
            value = getattr(self, f.name)
            if f.name in ("mode", "identical", "equal") or value is None:
                continue
            if not np.all(np.isfinite(value)) or np.any(np.asarray(value) <= 0):
                raise UserError(f"{f.name} out of range", where="workload", value=value, expected="above zero")

    def prompt(self) -> Number:
        """Input tokens (of modes that have them)."""
        assert self.isl is not None
        return self.isl

    def fresh(self) -> Number:
        """Input tokens that prefill computes: all but those of a cached prefix, at least one."""
        return self.prompt() if self.cached is None else np.maximum(self.prompt() - self.cached, 1.0)

    def output(self) -> Number:
        """Output tokens (of modes that have them)."""
        assert self.osl is not None
        return self.osl
