"""Kernels of our own in NKI, and in ``measured`` those whose device times are published."""
