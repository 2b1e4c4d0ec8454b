"""Instructions of the GpSimd engine."""
