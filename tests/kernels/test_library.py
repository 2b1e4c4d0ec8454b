"""The library: every kernel under its name."""

import inspect

from trainshed.core.dtypes import BYTES
from trainshed.kernels.library import library
from trainshed.nki.lint import lint
from trainshed.ops.neuron import NeuronOps


def test_names_are_rooms_and_variants():
    assert {"gemm.matmul", "gemm.matmul_mx", "norms.rmsnorm", "quantise.mx", "optimiser.adamw"} <= set(library())
    for name, one in library().items():
        assert one.name == name
        assert name.count(".") == 1


def test_entries_are_complete():
    for one in library().values():
        assert one.shapes, one.name
        assert set(one.dtypes) <= set(BYTES), one.name
        assert set(one.tolerance) >= set(one.dtypes), one.name
        assert all(set(shape) == set(one.axes) for shape in one.shapes), one.name


def test_operators_are_formulas_of_ops():
    for one in library().values():
        if one.operator is not None:
            found = one.operator(one.shapes[0], one.dtypes[0])
            parameters = set(inspect.signature(getattr(NeuronOps, found.method)).parameters)
            assert set(found.arguments) <= parameters - {"self", "what"}, one.name


def test_kernels_are_in_the_compilers_subset_of_python():
    for one in library().values():
        assert lint(one.kernel) == (), one.name
