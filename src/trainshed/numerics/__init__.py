"""dtypes and their sizes (values come with the virtual NeuronCore)."""
