"""AWS's kernel language NKI over the virtual NeuronCore (``trainshed.chip``)."""
