"""Architectures → operator graphs, from Hugging Face ``config.json`` fields."""

from trainshed.models.load import builtin, from_config, load
from trainshed.models.model import Media, Model, PublishedCount

__all__ = ["Media", "Model", "PublishedCount", "builtin", "from_config", "load"]
