"""A virtual NeuronCore: memories, engines' instructions with their legality and values, and instruction records."""
