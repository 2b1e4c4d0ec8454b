"""The fabric: what collectives take over the levels of links of a system."""

from trainshed.fabric.collective import ALGORITHMS, KINDS, CollectiveCost, collective
from trainshed.fabric.group import Group
from trainshed.fabric.program import program

__all__ = ["ALGORITHMS", "KINDS", "CollectiveCost", "Group", "collective", "program"]
