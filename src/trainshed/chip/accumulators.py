"""The accumulators of VectorE: one float32 register per partition, which no operand names.

``exponential``, ``range_select``, ``select_reduce``, ``tensor_scalar_reduce`` and ``tensor_scalar_cumulative`` share
them, under ``reduce_cmd``. An instruction calls :func:`begin` with its rules, before its record, and
:func:`accumulate` with what it computed.

Source: "Accumulator behavior" on the page of each of the five.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from trainshed.chip.alu import Array, Operator
from trainshed.chip.call import Call
from trainshed.chip.tensor import NkiTensor
from trainshed.chip.words import reduce_cmd


def begin(
    call: Call, data: NkiTensor, command: Any, allowed: tuple[reduce_cmd, ...], *, result: NkiTensor | None = None
) -> slice:
    """Check ``command`` and what it finds in the registers; the lanes (partitions of ``data``) it works on.

    To keep accumulating needs registers that hold something: after a run that was ``idle``, or before the first
    reset, their content is undefined. A result cannot be read out under ``idle``.
    """
    if command not in allowed:
        names = " or ".join(item.name for item in allowed)
        raise call.fail("reduce_cmd", "command", getattr(command, "name", command), names, "reduce-cmd")
    lanes = slice(data.start_partition, data.start_partition + data.shape[0])
    defined: Array = call.core.state.setdefault("vector-accumulators", np.zeros(128, np.bool_))
    if command is reduce_cmd.reduce and not defined[lanes].all():
        raise call.fail(
            "reduce_cmd", "reduce onto accumulators that are", "undefined", "reset_reduce or load_reduce before",
            "undefined-accumulator",
        )  # fmt: skip
    if command is reduce_cmd.idle and result is not None:
        raise call.fail("reduce_res", "result under reduce_cmd", "idle", "a reducing command, or None", "reduce-cmd")
    defined[lanes] = command is not reduce_cmd.idle
    return lanes


def accumulate(
    call: Call, lanes: slice, command: reduce_cmd, op: Operator, values: Array, initial: Any = None
) -> Array:
    """Reduce ``values`` (``[P, …]`` float32) onto the registers by ``op``; their new content as ``[P, 1]``.

    ``initial``: a scalar or ``[P, 1]`` for ``load_reduce``. Under ``idle`` the registers become NaN.
    """
    start = before(call, lanes, command, op, initial)
    if command is reduce_cmd.idle or command is reduce_cmd.reset:
        after = start
    else:
        with np.errstate(all="ignore"):
            whole = op.reduce(values.reshape(values.shape[0], -1), 1)
            after = op.apply(start, whole)
    call.core.hidden.vector[lanes] = after[:, 0]
    return after


def before(call: Call, lanes: slice, command: reduce_cmd, op: Operator, initial: Any = None) -> Array:
    """What the registers hold when accumulation starts, as ``[P, 1]``."""
    count = lanes.stop - lanes.start
    if command is reduce_cmd.reduce:
        return call.core.hidden.vector[lanes].reshape(count, 1)
    if command is reduce_cmd.load_reduce:
        return np.broadcast_to(np.asarray(initial, np.float32), (count, 1))
    value = np.nan if command is reduce_cmd.idle else op.identity
    return np.full((count, 1), value, np.float32)
