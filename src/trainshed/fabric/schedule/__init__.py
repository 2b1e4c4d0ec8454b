"""Collectives as steps of sends between ranks, replayed with values or timed on a network."""
