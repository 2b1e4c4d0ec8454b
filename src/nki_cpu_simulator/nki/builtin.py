"""What kernels find in ``builtins.builtin``: nothing is needed."""
