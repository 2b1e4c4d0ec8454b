"""Operator costs on any device: pure closed formulas over arrays."""
