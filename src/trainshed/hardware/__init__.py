"""Chips, systems and prices: the only owner of levels and links. Data in ``*.toml``, each number with its source."""
