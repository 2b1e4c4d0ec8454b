"""Chips, systems and prices: the only owner of levels and links. Data in ``*.toml``, each number with its source."""

from trainshed.hardware.catalogue import Catalogue
from trainshed.hardware.names import parse_set
from trainshed.hardware.schema import Chip, Level, NeuronCore, Pool, Price, System

__all__ = ["Catalogue", "Chip", "Level", "NeuronCore", "Pool", "Price", "System", "parse_set"]
