"""Other people's kernels and suites, run on the virtual NeuronCore."""
