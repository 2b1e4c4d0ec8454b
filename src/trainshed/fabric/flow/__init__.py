"""Network models: what a set of dependent sends takes on the links of a network."""
