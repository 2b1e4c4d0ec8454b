"""Operator costs on any device: pure closed formulas over arrays."""

from trainshed.ops import gpu, neuron
from trainshed.ops.base import DeviceOps, OpCost, Rank, Tiles, device, together

__all__ = ["DeviceOps", "OpCost", "Rank", "Tiles", "device", "gpu", "neuron", "together"]
