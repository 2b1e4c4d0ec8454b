"""Chakra execution traces (MLCommons), in and out: read, write, and replay on a system."""

from trainshed.fabric.chakra.answer import Replay, on, replay
from trainshed.fabric.chakra.reader import read
from trainshed.fabric.chakra.trace import Builder, Call, Group, Trace
from trainshed.fabric.chakra.writer import write

__all__ = ["Builder", "Call", "Group", "Replay", "Trace", "on", "read", "replay", "write"]
