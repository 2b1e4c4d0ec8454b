"""What the vendor's compiler refuses, as data: each rule's sentence, what to write instead, and its page.

Three public sources: the NKI language guide, the NKI migration guides, and the front end that the compiler of
NKI 0.2 to 0.6 was built from (``leanprover/KLR`` on GitHub: ``interop/klr/gather.c`` reads Python,
``KLR/NKI/Simplify.lean`` and ``KLR/Trace`` check it). NKI 0.7 runs kernels as Python instead, so that the
rules about syntax end there (release notes of NKI 0.7.0); those about the API stay.
"""

from __future__ import annotations

from typing import NamedTuple

GUIDE = "NKI language guide"
MIGRATION = "NKI migration guide"
NOTES = "NKI release notes"
READER = "leanprover/KLR, interop/klr/gather.c"
SIMPLIFY = "leanprover/KLR, KLR/NKI/Simplify.lean"
TRACE = "leanprover/KLR, KLR/Trace"


class Rule(NamedTuple):
    """``what`` may name a ``{thing}``; ``until`` is the first NKI version that takes the construct."""

    what: str
    instead: str
    source: str
    level: str = "refused"
    until: str | None = None
    since: str = "0.2"


_SYNTAX = "0.7"
"""NKI 0.7 evaluates kernels as Python."""

RULES: dict[str, Rule] = {
    # --- statements -------------------------------------------------------------------------------------------
    "try": Rule("try statement", "if/else on values known when the kernel is compiled", READER, until=_SYNTAX),
    "raise": Rule("raise statement", "assert", READER, until=_SYNTAX),
    "with": Rule("with {thing}", "no with block but `with nl.no_reorder():`", SIMPLIFY, until=_SYNTAX),
    "import": Rule("import inside a kernel", "the import at the top of the file", READER, until=_SYNTAX),
    "global": Rule("{thing} statement", "a dict handed to the function", READER, until=_SYNTAX),
    "del": Rule("del statement", "a new name; storage is freed by itself", READER, until=_SYNTAX),
    "match": Rule("match statement", "if/elif, or a dict", READER, until=_SYNTAX),
    "type": Rule("type statement", "the type at the top of the file", READER, until=_SYNTAX),
    "async": Rule("async or await", "plain functions and loops", READER, until=_SYNTAX),
    "inner-function": Rule(
        "function {thing} inside a kernel", "a function at the top of the file (a body given to nl.fori_loop or "
        "nl.while_loop may stay inside)", READER, until=_SYNTAX,
    ),
    "inner-class": Rule("class {thing} inside a kernel", "a class at the top of the file", READER, until=_SYNTAX),
    "loop-else": Rule("else of a {thing} loop", "a flag set before break", SIMPLIFY, until=_SYNTAX),
    "for-target": Rule(
        "for loop over several names", "one name, and subscripts of it in the body", SIMPLIFY, until=_SYNTAX
    ),
    "assignment": Rule(
        "several subscripts or attributes assigned in one statement", "one statement each", SIMPLIFY, until=_SYNTAX
    ),
    # --- expressions ------------------------------------------------------------------------------------------
    "lambda": Rule("lambda", "a function at the top of the file", READER, until=_SYNTAX),
    "comprehension": Rule("{thing}", "a for loop that appends to a list", READER, until=_SYNTAX),
    "generator": Rule("yield", "a list that is returned", READER, until=_SYNTAX),
    "walrus": Rule("assignment expression (:=)", "an assignment before it", READER, until=_SYNTAX),
    "set": Rule("set", "a list, a tuple, or a dict with string keys", GUIDE + ", NKI Values", until=_SYNTAX),
    "star": Rule("expansion of a sequence (*{thing})", "its elements, one by one", SIMPLIFY, until=_SYNTAX),
    "double-star": Rule("expansion of a dict (**{thing})", "its items, one by one", SIMPLIFY, until=_SYNTAX),
    "format": Rule("format specification in an f-string", "the value without one", READER, until=_SYNTAX),
    "constant": Rule(
        "constant {thing}", "None, True, False, 32-bit integers, floats and strings", GUIDE + ", NKI Values",
        until=_SYNTAX,
    ),
    "dict-key": Rule("dict key that is not a string", "string keys", GUIDE + ", NKI Values", until=_SYNTAX),
    "matmul-operator": Rule("operator @", "nisa.nc_matmul or nl.matmul", SIMPLIFY, until=_SYNTAX),
    "is": Rule(
        "'is' with anything but None", "== or !=",
        MIGRATION + ", 0.2.0 to 0.3.0: Replace is / is not with == / !=", until=_SYNTAX,
    ),
    "builtin": Rule(
        "Python's {thing}()", "a loop, or one of abs, bool, dict, divmod, float, int, isinstance, len, list, max, min, "
        "print, range, slice, str, tuple, type", TRACE + "/Python.lean", until=_SYNTAX,
    ),
    "library": Rule(
        "call of {thing}", "nl and nisa functions on tensors, plain Python on numbers; NumPy before the kernel",
        GUIDE, until=_SYNTAX,
    ),
    # --- functions and classes --------------------------------------------------------------------------------
    "keyword-only": Rule(
        "keyword-only parameters ({thing})", "parameters with defaults at the end, without *",
        MIGRATION + ", 0.2.0 to 0.3.0: Remove keyword-only argument separator", until=_SYNTAX, since="0.3",
    ),
    "varargs": Rule("*{thing} parameter", "one parameter each, or a tuple", SIMPLIFY, until=_SYNTAX),
    "kwargs": Rule("**{thing} parameter", "one parameter each", SIMPLIFY, "warned", until=_SYNTAX),
    "decorator": Rule("decorator {thing}", "nki.jit, dataclass or staticmethod only", SIMPLIFY, until=_SYNTAX),
    "class-base": Rule(
        "class {thing} without NKIObject, Enum or NamedTuple as its base", "class {thing}(nl.NKIObject)",
        GUIDE + ", Class Support", until=_SYNTAX,
    ),
    "class-body": Rule(
        "statement in the body of class {thing}", "fields and methods only", READER, until=_SYNTAX
    ),
    "list-argument": Rule(
        "list as a kernel's argument ({thing})", "a tuple",
        MIGRATION + ", 0.2.0 to 0.3.0: Replace list kernel arguments with tuples", since="0.3",
    ),
    "nested-jit": Rule(
        "call of {thing}, which is itself decorated with nki.jit", "the function without the decorator",
        MIGRATION + ", 0.1.0 to 0.2.0: Remove nki.jit decorator on sub-kernels",
        "warned",
    ),
    "jit-argument": Rule(
        "nki.jit({thing}=…)", "nki.jit without it: NEURON_PLATFORM_TARGET_OVERRIDE chooses the chip",
        MIGRATION + ", 0.2.0 to 0.3.0: Deprecated and removed APIs", since="0.3",
    ),
    "jit-mode": Rule(
        "nki.jit(mode=…), which has no effect", "nki.jit alone",
        MIGRATION + ", 0.2.0 to 0.3.0: nki.jit(mode=...)", "warned", since="0.3",
    ),
    # --- registers and dynamic loops --------------------------------------------------------------------------
    "register-condition": Rule(
        "Python condition on the register {thing}, whose value is not known when the kernel is compiled",
        "nl.while_loop or nl.fori_loop, or an instruction that selects", TRACE + "/Types.lean; NKI dynamic loops",
    ),
    "dynamic-jump": Rule(
        "{thing} inside a dynamic loop", "a condition that ends the loop", TRACE + "/NKI.lean"
    ),
    "dynamic-reorder": Rule(
        "dynamic loop inside nl.no_reorder()", "no_reorder inside the loop",
        "NKI dynamic loops, Interaction with no_reorder",
    ),
    "dynamic-range": Rule(
        "for over nl.dynamic_range", "nl.fori_loop", MIGRATION + ", 0.5.0 to 0.6.0", "warned", until="0.7", since="0.6"
    ),
    "dynamic-range-removed": Rule(
        "for over nl.dynamic_range", "nl.fori_loop", NOTES + ", NKI 0.7.0", since="0.7"
    ),
    "register-while": Rule(
        "while on the register {thing}", "nl.while_loop", MIGRATION + ", 0.5.0 to 0.6.0", "warned", until="0.7",
        since="0.6",
    ),
    "register-while-removed": Rule(
        "while on the register {thing}", "nl.while_loop", NOTES + ", NKI 0.7.0", since="0.7"
    ),
    # --- names that are gone ----------------------------------------------------------------------------------
    "beta1-namespace": Rule(
        "{thing}: neuronxcc.nki inside a kernel", "import nki, nki.language and nki.isa",
        MIGRATION + ", 0.3.0 to 0.4.0", since="0.4",
    ),
    "arange": Rule(
        "{thing}", "slices, nl.ds(start, size), or .ap() for other patterns",
        MIGRATION + ", 0.1.0 to 0.2.0: Update indexing syntax for mgrid and arange",
    ),
    "mask": Rule(
        "mask= of {thing}", "slices that end at min(size, start + step)",
        MIGRATION + ", 0.1.0 to 0.2.0: Deprecation of masking",
    ),
    "block-dimension": Rule(
        "block dimension: nl.par_dim after the first dimension", "the partition dimension first: a list of tiles, "
        "or the blocks as a free dimension", MIGRATION + ", Removing block dimensions",
    ),
    "par-dim": Rule("nl.par_dim", "the size alone: dimension 0 is the partition", TRACE + "/Lang.lean", "warned"),
    "removed": Rule("{thing}", "{instead}", "{page}"),
    "discouraged": Rule("{thing}", "{instead}", "{page}", "warned"),
    # --- arguments --------------------------------------------------------------------------------------------
    "isa-dst": Rule(
        "{thing} without dst", "the destination as the first argument (dst=…); nothing is returned",
        MIGRATION + ", 0.1.0 to 0.2.0: All ISA functions require a destination parameter",
    ),
    "isa-argument": Rule("{thing}", "{instead}", "{page}"),
    "buffer-name": Rule(
        "buffer named by a string ({thing})", "nl.sbuf, nl.psum, nl.private_hbm or nl.shared_hbm",
        MIGRATION + ", 0.2.0 to 0.3.0: String buffer names no longer supported", since="0.3",
    ),
    "enum-number": Rule(
        "{thing} given as a number", "{instead}",
        MIGRATION + ", 0.2.0 to 0.3.0: Integer enum constants no longer supported", since="0.3",
    ),
    # The page refuses these too, and AWS's own kernels of 0.3 hold such constants.
    "enum-constant": Rule(
        "{thing}, a name for a number", "{instead}",
        MIGRATION + ", 0.2.0 to 0.3.0: Integer enum constants no longer supported", "warned", since="0.3",
    ),
    "output-buffer": Rule(
        "{thing} is returned but lives in nl.hbm", "buffer=nl.shared_hbm",
        MIGRATION + ", 0.2.0 to 0.3.0: Output tensors must use nl.shared_hbm", since="0.3",
    ),
}  # fmt: skip

#: Functions that no longer exist: what to call, and the page.
REMOVED = {
    "nki.isa.tensor_copy_dynamic_src": ("nisa.tensor_copy with .ap(scalar_offset=…)", MIGRATION + ", 0.3.0 to 0.4.0"),
    "nki.isa.tensor_copy_dynamic_dst": ("nisa.tensor_copy with .ap(scalar_offset=…)", MIGRATION + ", 0.3.0 to 0.4.0"),
    "nki.language.spmd_dim": ("an integer grid: kernel[2]", "NKI FAQ"),
    "nki.language.nc": ("an integer grid: kernel[2]", "NKI FAQ"),
    "nki.language.atomic_rmw": ("nisa.dma_compute", MIGRATION + ", 0.2.0 to 0.3.0"),
    "nki.language.loop_reduce": ("an accumulating instruction in the loop", MIGRATION + ", 0.1.0 to 0.2.0"),
    "nki.simulate_kernel": ("nki.simulate(kernel)(…)", MIGRATION + ", 0.2.0 to 0.3.0"),
    "nki.baremetal": ("nki.jit on NumPy arrays", MIGRATION + ", 0.2.0 to 0.3.0"),
}

#: Functions and attributes that exist but do not do what they seem to on hardware.
DISCOURAGED = {
    "nki.language.divide": (
        "nl.multiply with nl.reciprocal: no engine divides", NOTES + ", NKI 0.4.0: Known Issues"
    ),
    "nki.language.mod": ("arithmetic on known numbers: no engine has it", NOTES + ", NKI 0.4.0: Known Issues"),
    "nki.language.fmod": ("arithmetic on known numbers: no engine has it", NOTES + ", NKI 0.4.0: Known Issues"),
    "nki.language.tile_size.total_available_sbuf_size": (
        "tile_size.sbuf_fmax_bytes (per partition) or sbuf_size_bytes", MIGRATION + ", 0.3.0 to 0.4.0"
    ),
}  # fmt: skip

#: Parameters that no longer exist, by function: what to write, and the page.
PARAMETERS = {
    ("nki.isa.dma_copy", "dst_rmw_op"): "nisa.dma_compute(dst, srcs, reduce_op)",
    ("nki.isa.dma_copy", "unique_indices"): "nisa.dma_compute(…, unique_indices=…)",
    ("nki.isa.sendrecv", "use_gpsimd_dma"): "dma_engine=nisa.dma_engine.gpsimd_dma",
    ("nki.isa.register_move", "imm"): "src=nisa.register_alloc(value)",
    ("nki.isa.nc_matmul", "psumAccumulateFlag"): "accumulate=",
    ("nki.collectives.collective_permute_implicit_current_processing_rank_id", "num_channels"): (
        "channel_ids of collective_permute_implicit"
    ),
}

#: What a kernel may call of Python's own.
BUILTINS = frozenset({
    "abs", "bool", "dict", "divmod", "float", "int", "isinstance", "len", "list", "max", "min", "print", "range",
    "slice", "str", "super", "tuple", "type",
})  # fmt: skip
#: What a kernel may call of Python's library.
LIBRARY = frozenset({"math.ceil", "math.floor", "math.gcd", "math.log2", "math.log10", "math.pow", "math.sqrt"})
#: Packages none of whose functions (but LIBRARY's) a kernel may call.
PACKAGES = frozenset({
    "functools", "itertools", "jax", "math", "ml_dtypes", "numpy", "operator", "os", "random", "re", "sys", "torch",
})  # fmt: skip
BASES = frozenset({"NKIObject", "Enum", "IntEnum", "NamedTuple"})
DECORATORS = frozenset({"jit", "nki_jit", "dataclass", "staticmethod"})
