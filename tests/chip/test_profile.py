"""Counts, peaks and findings of a launch: closed forms from hand-made records."""

from __future__ import annotations

import json

import numpy as np
import pytest

from trainshed.chip.call import Call
from trainshed.chip.core import Options, enter, target
from trainshed.chip.errors import NkiValidationError
from trainshed.chip.isa.tensor import nc_matmul, nc_transpose
from trainshed.chip.launch import Launch
from trainshed.chip.profile import check, profile
from trainshed.chip.words import MemoryRegion, engine
from trainshed.numerics.formats import DType


class Run:
    """A launch whose instructions are issued as records alone."""

    def __init__(self, cores=1, values=False):
        self.launch = Launch(target("trn2"), Options(values=values), cores)
        enter(self.launch.cores[0])

    def tensor(self, shape, buffer="sbuf", dtype="float32", core=0, **more):
        enter(self.launch.cores[core])
        return self.launch.cores[core].allocate(shape, DType(dtype), MemoryRegion(buffer), **more)

    def argument(self, shape, dtype="float32", core=0):
        data = np.zeros(shape, DType(dtype).storage)
        return self.tensor(shape, "shared_hbm", dtype, core, data=data, name="x")

    def issue(self, opcode, on, reads=(), writes=(), core=0):
        enter(self.launch.cores[core])
        return Call(opcode).issue(engine[on], tuple(reads), tuple(writes))

    def load(self, dst, src, core=0):
        return self.issue("dma_copy", "dma", [src], [dst], core)

    def profile(self):
        enter(None)
        return profile(self.launch)

    def rules(self):
        return [f.rule for f in self.profile().findings]


@pytest.fixture(autouse=True)
def no_core_after():
    yield
    enter(None)


@pytest.fixture
def run():
    return Run()


def matmul_kernel(run):
    """C[128, 512] = A[K=128, M=128].T @ B[K=128, N=512] in bfloat16."""
    a, b = run.argument((128, 128), "bfloat16"), run.argument((128, 512), "bfloat16")
    c = run.tensor((128, 512), "shared_hbm", "float32")
    sa, sb = run.tensor((128, 128), dtype="bfloat16"), run.tensor((128, 512), dtype="bfloat16")
    acc, out = run.tensor((128, 512), "psum"), run.tensor((128, 512))
    run.load(sa, a)
    run.load(sb, b)
    nc_matmul(acc, sa, sb)
    run.issue("tensor_copy", "vector", [acc], [out])
    run.load(c, out)


def test_a_matmul_kernel_in_closed_form(run):
    matmul_kernel(run)
    found = run.profile()
    assert found.chip == "trn2"
    assert found.instructions == 5
    assert {name: e.opcodes for name, e in found.engines.items()} == {
        "dma": {"dma_copy": 3}, "tensor": {"nc_matmul": 1}, "vector": {"tensor_copy": 1},
    }  # fmt: skip
    assert found.hbm_read_bytes == 128 * 128 * 2 + 128 * 512 * 2
    assert found.hbm_write_bytes == 128 * 512 * 4
    assert found.matmul_flops == 2 * 128 * 128 * 512
    assert found.dma.transfers == 3
    assert found.dma.bytes == found.hbm_read_bytes + found.hbm_write_bytes
    assert (found.dma.smallest, found.dma.largest) == (128 * 256, 128 * 2048)
    # The operands together, then the result beside nothing: 256 + 1024 bytes, then 2048.
    assert found.sbuf_peak_bytes == 2048
    assert found.psum_peak_banks == 1
    assert [t.load_repeat for t in found.tensors] == [1, 1, 0]


def test_two_runs_give_equal_profiles_and_json(run):
    matmul_kernel(run)
    other = Run()
    matmul_kernel(other)
    one, two = run.profile(), other.profile()
    assert one == two
    plain = json.loads(json.dumps(one.to_json()))
    assert plain["engines"]["dma"] == {"instructions": 3, "opcodes": {"dma_copy": 3}}
    assert plain["sbuf_bytes"] == 224 * 1024
    assert plain["psum_banks"] == 8
    assert plain["findings"][0].keys() == {"rule", "message", "file", "line", "count"}


def test_small_transfers_are_told_once_per_line(run):
    src, dst = run.argument((128, 64 * 64)), run.tensor((128, 64 * 64))
    for i in range(64):
        run.load(dst[:, 64 * i : 64 * i + 64], src[:, 64 * i : 64 * i + 64])
    run.issue("tensor_copy", "vector", [dst], [run.tensor((128, 4096))])
    found = run.profile()
    assert [(f.rule, f.count) for f in found.findings] == [("small-dma", 64)]
    assert "256 B in each of 128 partitions, runs of 256 B (2097152 B in all)" in found.findings[0].message
    assert found.dma.small == 64
    assert found.dma.sizes == {64 * 4**5: 64}


def test_scattered_elements_are_small_descriptors(run):
    src, dst = run.argument((4096, 128)), run.tensor((128, 4096))
    run.load(dst, src.permute((1, 0)))
    run.issue("tensor_copy", "vector", [dst], [run.tensor((128, 4096))])
    assert "16384 B in each of 128 partitions, runs of 4 B" in run.profile().findings[0].message


def test_large_transfers_and_trifles_are_quiet(run):
    src, dst = run.argument((128, 512)), run.tensor((128, 512))
    bias, column = run.argument((128, 1)), run.tensor((128, 1))
    run.load(dst, src)
    run.load(column, bias)
    run.issue("tensor_scalar", "vector", [dst, column], [run.tensor((128, 512))])
    assert run.rules() == []


def test_a_tensor_loaded_again_and_again(run):
    src = run.argument((128, 512))
    for _ in range(5):
        dst = run.tensor((128, 512))
        run.load(dst, src)
        run.issue("tensor_copy", "vector", [dst], [run.tensor((128, 512))])
    found = run.profile()
    assert found.tensors[0].load_repeat == 5
    assert [f.rule for f in found.findings] == ["reload"]
    assert found.findings[0].message == "x, 262144 B, is read 5 times over (1310720 B)"


def test_two_cores_that_each_load_once_do_not_reload():
    run = Run(cores=2)
    src = run.argument((128, 512))
    for core in (0, 1):
        dst = run.tensor((128, 512), core=core)
        run.load(dst, src, core)
        run.issue("tensor_copy", "vector", [dst], [run.tensor((128, 512), core=core)], core)
    found = run.profile()
    assert found.cores == 2
    assert len(found.tensors) == 1
    assert found.tensors[0].load_repeat == 1
    assert found.hbm_read_bytes == 2 * 128 * 2048
    assert found.sbuf_peak_bytes == 4096


def test_transposes_share(run):
    src, dst = run.tensor((128, 128)), run.tensor((128, 128), "psum")
    run.issue("memset", "vector", (), [src])
    for _ in range(3):
        nc_transpose(dst, src)
    nc_matmul(dst, src, src, is_transpose=True)
    for _ in range(4):
        nc_matmul(dst, src, src)
    found = run.profile()
    assert (found.transposes, found.transpose_share) == (4, 0.5)
    assert found.matmul_flops == 4 * 2 * 128**3
    assert [f.rule for f in found.findings] == ["transposes"]


def test_near_capacity(run):
    big = run.tensor((128, 52 * 1024))
    run.issue("memset", "vector", (), [big])
    (finding,) = run.profile().findings
    assert finding.rule == "near-capacity"
    assert finding.message == "212992 of 229376 B of SBUF per partition are live"


def test_unused_loads(run):
    src = run.argument((128, 512))
    run.load(run.tensor((128, 512), name="forgotten"), src)
    (finding,) = run.profile().findings
    assert (finding.rule, finding.message) == ("unused-load", "forgotten is loaded and never read")


@pytest.mark.parametrize("values", [False, True])
def test_outputs_never_wholly_written(values):
    run = Run(values=values)
    out, tile = run.tensor((128, 512), "shared_hbm", name="out"), run.tensor((128, 512))
    whole = run.tensor((128, 512), "shared_hbm")
    run.issue("memset", "vector", (), [tile])
    for view, source in ((out[0:64], tile[0:64]), (out[32:96], tile[0:64]), (whole, tile)):
        run.load(view, source)
        if values:
            Call("dma_copy").write("dst", view, np.zeros(view.shape, np.float32))
    (finding,) = run.profile().findings
    assert finding.rule == "unwritten"
    assert finding.message == f"out in shared_hbm: {96 * 2048} of {128 * 2048} B ever written"
    assert finding.source == out.storage.source
    run.launch.returned = {"y": [whole]}
    assert run.rules() == []


def test_an_empty_kernel_has_a_profile(run):
    found = run.profile()
    assert (found.instructions, found.sbuf_peak_bytes, found.dma.transfers) == (0, 0, 0)


def test_check_raises_overlap_before_capacity(run):
    a, b = run.tensor((128, 1), address=(0, 0)), run.tensor((128, 1), address=(0, 0))
    row = run.launch.cores[0].target.sbuf_row // 4
    big = [run.tensor((128, row)), run.tensor((128, row))]
    run.issue("memset", "vector", (), [a, *big])
    run.issue("memset", "vector", (), [b, *big])
    with pytest.raises(NkiValidationError) as error:
        check(run.launch)
    assert error.value.rule == "sbuf-capacity"
    run.issue("tensor_copy", "vector", [a], [b])
    with pytest.raises(NkiValidationError) as error:
        check(run.launch)
    assert error.value.rule == "overlap"


def test_check_raises_a_race():
    run = Run(cores=2)
    for core in (0, 1):
        out, tile = run.tensor((128, 512), "shared_hbm", core=core, name="out"), run.tensor((128, 512), core=core)
        run.issue("memset", "vector", (), [tile], core)
        run.load(out[0 : 64 + core], tile[0 : 64 + core], core)
    with pytest.raises(NkiValidationError, match="in either order") as error:
        check(run.launch)
    assert error.value.rule == "race"


@pytest.mark.parametrize("equal", [True, False])
def test_equal_bytes_written_by_both_cores_are_no_race(equal):
    run = Run(cores=2, values=True)
    for core in (0, 1):
        out, tile = run.tensor((8, 8), "shared_hbm", core=core, name="out"), run.tensor((8, 8), core=core)
        run.issue("memset", "vector", (), [tile], core)
        run.load(out, tile, core)
        Call("dma_copy").write("dst", out, np.full((8, 8), 1 if equal else core, np.float32))
    if equal:
        assert [f.rule for f in check(run.launch).findings] == ["duplicate-write"]
        return
    with pytest.raises(NkiValidationError) as error:
        check(run.launch)
    assert error.value.rule == "race"


def test_without_values_the_same_write_on_both_cores_is_a_finding():
    run = Run(cores=2)
    for core in (0, 1):
        out, tile = run.tensor((8, 8), "shared_hbm", core=core, name="out"), run.tensor((8, 8), core=core)
        run.issue("memset", "vector", (), [tile], core)
        run.load(out, tile, core)
    assert [f.rule for f in check(run.launch).findings] == ["duplicate-write"]
