"""``nki.compiler.kernel_builder``: the vendor's compiler takes kernels from here; here they are run."""

from trainshed.nki.run import Kernel, jit

__all__ = ["Kernel", "jit"]
