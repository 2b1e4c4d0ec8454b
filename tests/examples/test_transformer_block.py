"""The transformer block of the examples: values as NumPy's, time as the formulas', a trace of every chip."""

import importlib.util
import sys
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

from trainshed.core import total
from trainshed.hardware.catalogue import Catalogue

PATH = Path(__file__).parents[2] / "examples" / "transformer_block.py"
#: A root mean square error of a bf16 result: each of its some ten roundings is at most 2^-9 of a value.
TOLERANCE = 2.0**-7


@pytest.fixture(scope="module")
def example():
    spec = importlib.util.spec_from_file_location("transformer_block", PATH)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


@pytest.fixture(scope="module")
def small(example):
    sizes = example.Sizes(tokens=256, hidden=512, heads=8, features=1024)
    return sizes, *example.run(sizes)


def _error(found, wanted):
    found = found.astype(np.float32)
    return float(np.sqrt(np.mean((found - wanted) ** 2) / np.mean(wanted**2)))


def test_values_are_those_of_numpy(example, small):
    sizes, ranks, x, layers = small
    wanted = example.reference(x, layers, sizes)
    for found in ranks:
        assert found.dtype == ml_dtypes.bfloat16
        assert _error(found, wanted) < TOLERANCE
    # Each part of the block counts: without one the result is another by far.
    for name in ("out", "down"):
        less = [layers[0], {**layers[1], name: 0 * layers[1][name]}]
        assert _error(ranks[0], example.reference(x, less, sizes)) > 10 * TOLERANCE
    assert _error(ranks[0], example.reference(x[::-1], layers, sizes)[::-1]) > 10 * TOLERANCE  # attention is causal


def test_ranks_have_shares_that_make_up_the_whole(example, small):
    sizes, _, _, layers = small
    shares = [example.weights_of(rank, layers, sizes)[0] for rank in range(sizes.ranks)]
    own = sizes.hidden // sizes.ranks
    np.testing.assert_array_equal(np.concatenate([s[1][:, :own] for s in shares], 1), layers[0]["q"])
    np.testing.assert_array_equal(np.concatenate([s[3] for s in shares]), layers[0]["out"])
    np.testing.assert_array_equal(np.concatenate([s[6] for s in shares]), layers[0]["down"])


def test_four_sums_of_eight_chips_that_begin_together(small):
    sizes, ranks, _, _ = small
    assert len(ranks.collectives) == 2 * sizes.layers
    assert ranks.classes == (0,) * sizes.ranks
    links = Catalogue().system("trn3-gen2").levels
    assert ranks.world.links.system.levels == links
    for one in ranks.collectives:
        assert (one.members, one.bytes) == (tuple(range(8)), sizes.tokens * sizes.hidden * 2)


def test_time_is_what_formulas_add_up_to(example):
    sizes = example.Sizes(layers=1)
    ranks, _, _ = example.run(sizes, values=False)
    formulas = float(total("block", example.predicted(sizes)).value)
    assert formulas == pytest.approx(ranks.seconds, rel=0.05)


def test_the_program_and_its_trace(example, small, monkeypatch, tmp_path, capsys):
    trace = tmp_path / "block.pftrace"
    arguments = "--layers 1 --tokens 128 --hidden 512 --heads 8 --features 1024 --trace"
    monkeypatch.setattr(sys, "argv", [str(PATH), *arguments.split(), str(trace)])
    example.main()
    told = capsys.readouterr().out
    assert "values: " in told
    assert "formulas: " in told
    data = trace.read_bytes()
    for chip in range(8):
        assert f"chip {chip}, rank {chip}, NeuronCore 0".encode() in data
    for track in (b"tensor", b"vector", b"scalar", b"gpsimd", b"collectives", b"dma load", b"dma store"):
        assert data.count(track) >= 8, track
    assert b"all_reduce" in data
