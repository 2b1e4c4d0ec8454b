"""Architectures → operator graphs, from Hugging Face ``config.json`` fields."""

from trainshed.models.load import builtin, from_config, load
from trainshed.models.media import Media
from trainshed.models.model import Model, PublishedCount

__all__ = ["Media", "Model", "PublishedCount", "builtin", "from_config", "load"]
