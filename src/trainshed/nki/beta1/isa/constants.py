"""``neuronxcc.nki.isa.constants``: where Beta 1 kept the enumerations of instructions."""

from trainshed.chip.words import dge_mode, dma_engine, engine, nc_version, oob_mode, reduce_cmd

__all__ = ["dge_mode", "dma_engine", "engine", "nc_version", "oob_mode", "reduce_cmd"]
