"""Explaining a Cost: its tree as JSON, and what the root would gain from a better constant."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from trainshed.core.constant import Number
from trainshed.core.cost import Cost


def tree(cost: Cost, *, name: str | None = None) -> dict[str, Any]:
    """A scalar cost as ``{what, value, unit, how, children[], constants[]}`` (design, section 5).

    In ``formula`` inputs stand as numbers, so that it is an expression over ``what`` of children and constants alone;
    ``expression`` and ``inputs`` keep the readable form.
    """
    node: dict[str, Any] = {"what": name or cost.what, "value": float(cost.value), "unit": cost.unit, "how": cost.how}
    if name and name != cost.what:
        node["label"] = cost.what
    is_formula = cost.how == "formula"
    node["children"] = [tree(child, name=n if is_formula else None) for n, child in cost.children]
    node["constants"] = [{"what": n, **c.to_json()} for n, c in cost.constants]
    if is_formula:
        node |= {"formula": cost.formula_text(), "expression": cost.expression}
        node["inputs"] = {n: float(np.asarray(v)) for n, v in cost.inputs}
    if cost.kernel is not None:
        longest = max(cost.children, key=lambda pair: float(np.asarray(pair[1].value)))[1]
        tiles = {name: float(np.asarray(size)) for name, size in cost.kernel.tiles.items()}
        node["kernel"] = {"family": cost.kernel.family, "tiles": tiles, "bound": longest.what}
    return node


def sensitivity(
    cost: Cost, evaluate: Callable[[Mapping[str, Number]], Number], *, step: float = 0.10
) -> list[dict[str, Any]]:
    """What the root gains when each constant it rests on improves by ``step``, largest first.

    ``evaluate`` runs the same cost function with the named constants replaced by arrays of shape (k, 1) and returns
    the root with k on its first axis. Structural constants (counts) are left alone.
    """
    constants = [c for c in cost.used_constants().values() if not c.structural]
    if not constants:
        return []
    k = len(constants)
    values: dict[str, Number] = {}
    for i, c in enumerate(constants):
        column = np.full((k, 1), float(np.asarray(c.value)))
        column[i, 0] *= 1 / (1 + step) if c.lower_is_better else 1 + step
        values[c.name] = column
    root = np.broadcast_to(np.asarray(evaluate(values), dtype=np.float64).reshape(k, -1)[:, 0], (k,))
    base = float(cost.value)
    gains = [
        {"what": c.name, "gain_for_10_percent": float(1 - v / base), "value": float(np.asarray(c.value)),
         "unit": c.unit}
        for c, v in zip(constants, root, strict=True)
    ]  # fmt: skip
    return sorted(gains, key=lambda g: -g["gain_for_10_percent"])
