"""The tables read back with pyarrow, beside the clock, the profile and intervals added up by hand."""

import csv
from pathlib import Path

import ml_dtypes
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import trainshed
import trainshed.nki as nki
import trainshed.nki.isa as nisa
import trainshed.nki.language as nl
from trainshed.chip.timing.rates import rates
from trainshed.core.errors import UserError
from trainshed.report import explorer, explorer_tables
from trainshed.report.explorer import check_explorer, schema, write_explorer
from trainshed.report.explorer_summary import _level
from trainshed.report.explorer_tables import active

BF16 = ml_dtypes.bfloat16
TYPES = {"int64": pa.int64(), "int32": pa.int32(), "float": pa.float32(), "string": pa.string(), "boolean": pa.bool_()}


def matmul(lhsT, rhs):
    """Two tiles of products, a transpose, an exponential, and the lhs read again for every tile of columns."""
    out = nl.ndarray((128, 1024), dtype=nl.bfloat16, buffer=nl.shared_hbm, name="out")
    for tile in range(2):
        left = nl.ndarray((128, 128), dtype=nl.bfloat16, buffer=nl.sbuf)
        right = nl.ndarray((128, 512), dtype=nl.bfloat16, buffer=nl.sbuf)
        nisa.dma_copy(dst=left, src=lhsT, dge_mode=nisa.dge_mode.hwdge)
        nisa.dma_copy(dst=right, src=rhs[:, tile * 512 : (tile + 1) * 512])
        product = nl.ndarray((128, 512), dtype=nl.float32, buffer=nl.psum)
        nisa.nc_matmul(dst=product, stationary=left, moving=right)
        turned = nl.ndarray((128, 128), dtype=nl.bfloat16, buffer=nl.psum)
        nisa.nc_transpose(dst=turned, data=left)
        nisa.tensor_copy(dst=left, src=turned)
        result = nl.ndarray((128, 512), dtype=nl.bfloat16, buffer=nl.sbuf)
        nisa.activation(dst=result, op=nl.exp, data=product)
        nisa.dma_copy(dst=out[:, tile * 512 : (tile + 1) * 512], src=result)
    return out


def halves(a):
    """Each core of a logical NeuronCore scales its half."""
    out = nl.ndarray(a.shape, dtype=a.dtype, buffer=nl.shared_hbm)
    here = nl.ds(nl.program_id(0) * 128, 128)
    tile = nl.ndarray((128, 64), dtype=a.dtype, buffer=nl.sbuf)
    nisa.dma_copy(dst=tile, src=a[here, :])
    nisa.tensor_scalar(dst=tile, data=tile, op0=nl.multiply, operand0=2.0)
    nisa.dma_copy(dst=out[here, :], src=tile)
    return out


def run(kernel, *arrays, target="trn2", lnc=None):
    made = nki.jit(kernel)
    simulated = nki.simulate(made[lnc] if lnc else made, target=target, values=False)
    simulated(*arrays)
    return simulated


def export(simulated, directory: Path) -> dict[str, dict[str, list]]:
    """Every table as columns."""
    files = write_explorer(directory, simulated.launch, simulated.clocks, kernel="k.py::kernel")
    return {path.stem: pq.read_table(path).to_pydict() for path in files}


@pytest.fixture(scope="module")
def simulated():
    return run(matmul, np.zeros((128, 128), BF16), np.zeros((128, 1024), BF16))


@pytest.fixture(scope="module")
def tables(simulated, tmp_path_factory):
    return export(simulated, tmp_path_factory.mktemp("explorer") / "profile")


def length(intervals) -> int:
    """Nanoseconds that intervals cover, one nanosecond at a time."""
    return len({moment for start, end in intervals for moment in range(start, end)})


def one(table: dict[str, list]) -> dict:
    (count,) = {len(column) for column in table.values()}
    assert count == 1
    return {name: column[0] for name, column in table.items()}


def intervals(table, **want) -> list[tuple[int, int]]:
    return [
        (start, end)
        for i, (start, end) in enumerate(zip(table["start_ts"], table["end_ts"], strict=True))
        if all(table[name][i] == value for name, value in want.items())
    ]


def test_files_have_the_vendor_s_columns_and_types_and_say_that_they_are_simulated(simulated, tmp_path):
    files = write_explorer(tmp_path / "p", simulated.launch, simulated.clocks, kernel="mine")
    assert {path.stem for path in files} == {
        "ActiveTime", "DmaPacket", "DmaPacketAggregated", "DmaUsage", "Flow", "HbmUsage", "Instruction", "Metadata",
        "OpcodeSummary", "PsumUsage", "SbufUsage", "SchemaFields", "Summary", "TensorInfo", "Warning",
    }  # fmt: skip
    for path in files:
        found = pq.read_schema(path)
        assert found.names == [field.name for field in schema()[path.stem]]
        assert found.types == [TYPES[field.type] for field in schema()[path.stem]]
        assert found.metadata == {
            b"simulated": b"true", b"trainshed": trainshed.__version__.encode(), b"schema": b"7.4.0",
            b"kernel": b"mine", b"target": b"trn2",
        }  # fmt: skip


def test_the_schema_is_the_csv_and_one_field_of_our_own():
    with (Path(explorer.__file__).parent / "explorer.csv").open() as file:
        rows = [(row["table"], row["field"]) for row in csv.DictReader(file)]
    assert len(rows) == len(set(rows)) == 316
    own = {(table, field.name) for table, fields in schema().items() for field in fields} - set(rows)
    assert own == {("Summary", "is_simulation")}


def test_it_says_so_in_tables_too(tables):
    assert one(tables["Summary"])["is_simulation"] is True
    assert one(tables["Metadata"])["is_simulation"] is True
    assert tables["Warning"]["category"] == ["Simulation"]
    assert f"trainshed {trainshed.__version__} for trn2" in tables["Warning"]["message"][0]


def test_instructions_are_the_records_at_the_clock_s_times(simulated, tables):
    rows, items, clock = tables["Instruction"], simulated.launch.cores[0].instructions, simulated.clocks[0]
    assert len(rows["id"]) == len(items) == 14
    assert rows["id"] == list(range(14))
    np.testing.assert_allclose(rows["start_ts"], clock.start * 1e9, atol=0.5)
    np.testing.assert_allclose(rows["end_ts"], clock.end * 1e9, atol=0.5)
    assert rows["bir_debug_info_source_location"] == [str(item.source) for item in items]
    opcodes = ["DMA_DIRECT2D", "DMA_DIRECT2D", "MATMUL", "MATMUL", "TENSOR_COPY", "ACTIVATE", "DMA_DIRECT2D"]
    engines = ["DMA", "DMA", "Tensor", "Tensor", "Vector", "Scalar", "DMA"]
    assert rows["opcode"] == opcodes * 2
    assert rows["engine"] == engines * 2
    assert rows["pc"] == [0, 1, 0, 1, 0, 0, 2, 3, 4, 2, 3, 1, 1, 5]
    assert rows["tensor_instruction_type"][2:4] == ["REGULAR", "TRANSPOSE"]
    assert rows["raw_flops"][1:5] == [None, 2 * 128**2 * 512, 2 * 128**3, None]
    assert rows["flops_transpose"][1:5] == [None, 0, 2 * 128**3, None]
    assert rows["scalar_activation_fn"][5:7] == ["EXP", None]
    assert rows["operands"][5] == "dst=sbuf[128, 512]:bfloat16 src=psum[128, 512]:float32"
    assert (rows["psum_read_bytes"][5], rows["sbuf_write_bytes"][5]) == (128 * 512 * 4, 128 * 512 * 2)
    assert set(rows["hlo_name"]) == set(rows["performance_mode"]) == {None}


def test_what_an_engine_waits_for_is_its_idle_time_before_an_instruction(tables):
    rows = tables["Instruction"]
    for name in ("Tensor", "Vector", "Scalar"):
        free = 0
        for i, engine in enumerate(rows["engine"]):
            if engine == name:
                assert rows["evt_wait_time_ns"][i] == rows["start_ts"][i] - free
                free = rows["end_ts"][i]
    assert {wait for wait, engine in zip(rows["evt_wait_time_ns"], rows["engine"], strict=True) if engine == "DMA"} == {
        None
    }


@pytest.mark.parametrize("name", ["tensor", "vector", "scalar", "gpsimd", "sync"])
def test_an_engine_s_active_time_is_the_union_of_its_instructions(simulated, tables, name):
    spelled = {"gpsimd": "GpSimd"}.get(name, name.capitalize())
    covered = length(intervals(tables["Instruction"], engine=spelled))
    assert length(intervals(tables["ActiveTime"], engine=name)) == covered
    assert sum(e - s for s, e in intervals(tables["ActiveTime"], engine=name)) == covered
    found = one(tables["Summary"])
    assert found[f"{name}_engine_active_time"] == pytest.approx(covered * 1e-9)
    assert found[f"{name}_engine_active_time_percent"] == pytest.approx(covered * 1e-9 / simulated.timing.seconds)
    assert found[f"{name}_engine_active_time"] == pytest.approx(simulated.timing.busy.get(name, 0.0), abs=4e-9)
    count = sum(engine == spelled for engine in tables["Instruction"]["engine"])
    assert found[f"{name}_engine_instruction_count"] == count


def test_the_summary_agrees_with_the_profile_and_the_timing(simulated, tables):
    found, profile, timing = one(tables["Summary"]), simulated.profile, simulated.timing
    of = rates("trn2")
    assert found["total_time"] == pytest.approx(timing.seconds)
    assert found["dma_active_time"] == pytest.approx(timing.busy["dma"], abs=8e-9)
    assert found["hbm_read_bytes"] == profile.hbm_read_bytes
    assert found["hbm_write_bytes"] == profile.hbm_write_bytes
    assert found["dma_transfer_count"] == profile.dma.transfers
    assert found["dma_transfer_total_bytes"] == profile.dma.bytes
    assert found["hardware_flops"] - found["transpose_flops"] == profile.matmul_flops
    assert found["mfu_inst_estimated_percent"] == pytest.approx(profile.matmul_flops / of.peak["bf16"] / timing.seconds)
    assert found["inputs_outputs_weights_size_bytes"] == 2 * (128 * 128 + 128 * 1024 + 128 * 1024)
    assert found["mfu_estimated_percent"] is None  # of an HLO that a kernel does not have
    rows = intervals(tables["Instruction"])
    assert found["total_active_time"] == pytest.approx(length(rows) * 1e-9)
    assert found["total_exec_time"] == pytest.approx((max(e for _, e in rows) - min(s for s, _ in rows)) * 1e-9)


def test_opcodes_add_up_to_the_instructions(tables):
    rows, found = tables["Instruction"], tables["OpcodeSummary"]
    assert sum(found["instruction_count"]) == len(rows["id"])
    assert sum(found["instruction_time_ns"]) == sum(rows["duration_ns"])
    for engine, opcode, covered in zip(found["engine"], found["opcode"], found["active_time_ns"], strict=True):
        assert covered == length(intervals(rows, engine=engine, opcode=opcode))


def test_packets_are_the_descriptors_of_the_transfers(simulated, tables):
    packets, transfers = tables["DmaPacket"], tables["DmaPacketAggregated"]
    items = simulated.launch.cores[0].instructions
    assert sum(packets["transfer_bytes"]) == sum(transfers["transfer_bytes"]) == simulated.profile.dma.bytes
    assert packets["id"] == list(range(len(packets["id"])))
    for k, number in enumerate(transfers["id"]):
        mine = [i for i, of in enumerate(packets["packet_aggregation_id"]) if of == number]
        assert len(mine) == items[number].work["descriptors"]
        assert [packets["packet_idx"][i] for i in mine] == list(range(len(mine)))
        assert {packets["transfer_bytes"][i] for i in mine} == {items[number].work["descriptor_bytes"]}
        assert min(packets["start_ts"][i] for i in mine) == transfers["start_ts"][k]
        assert max(packets["end_ts"][i] for i in mine) == transfers["end_ts"][k]
        assert {packets["variable"][i] for i in mine} == {transfers["variable"][k]}
    assert length(intervals(packets)) == length(intervals(transfers))
    assert packets["engine_idx"] == packets["crc"] == [None] * len(packets["id"])


def test_transfers_name_tensors_places_and_queues(tables):
    found = tables["DmaPacketAggregated"]
    assert found["variable"] == ["lhsT", "rhs", "out"] * 2
    assert found["source"] == ["[[INPUT]]", "[[INPUT]]", "[[SB]]"] * 2
    assert found["dest"] == ["[SB]", "[SB]", "[OUTPUT]"] * 2
    assert found["queue_type"] == ["hardware_dynamic", "unknown", "unknown"] * 2
    assert found["op"] == ["read", "read", "write"] * 2
    assert found["read_offset"][4] == "[0x400]"
    assert found["write_sbuf_partitions"][:3] == ["0-127", "0-127", ""]
    assert found["write_num_sbuf_partitions"][:3] == [128, 128, 0]


def test_a_line_of_the_kernel_is_found_from_its_transfers_through_flow(tables):
    flow, rows = tables["Flow"], tables["Instruction"]
    edges = list(zip(flow["in_id"], flow["out_id"], flow["in_table"], flow["out_table"], flow["gap_time"], strict=True))
    to_dma = {end: start for start, end, _, table, _ in edges if table == "DmaPacketAggregated"}
    assert sorted(to_dma) == tables["DmaPacketAggregated"]["id"]
    assert all(rows["hbm_read_bytes"][i] or rows["hbm_write_bytes"][i] for i in to_dma.values())
    between = [edge for edge in edges if edge[3] == "Instruction"]
    assert {edge[:2] for edge in between} >= {(0, 2), (1, 2), (2, 5), (5, 6)}  # operands, product, exponential, store
    for start, end, table, _, gap in between:
        assert table == "Instruction"
        assert gap == rows["start_ts"][end] - rows["end_ts"][start] >= 0


def test_tensors_say_what_they_are_and_how_often_they_were_loaded(tables):
    found = tables["TensorInfo"]
    assert found["variable_name"] == ["lhsT", "rhs", "out"]
    assert found["type"] == ["IN", "IN", "OUT"]
    assert found["shape"] == ["128 128", "128 1024", "128 1024"]
    assert found["load_to_sbuf_dma_count"] == [2, 2, 0]
    assert found["load_to_sbuf_repeat_factor"] == [2.0, 1.0, 0.0]
    assert found["load_to_sbuf_avg_size_bytes"] == [128 * 128 * 2, 128 * 512 * 2, None]


def test_throughput_adds_up_to_the_bytes_that_moved(tables, simulated):
    for name, total in (("DmaUsage", simulated.profile.dma.bytes), ("HbmUsage", simulated.profile.dma.bytes)):
        found = tables[name]
        steps = np.diff(found["timestamp"]) * 1e-9
        assert found["total_transfer_bytes"][0] == 0
        assert found["total_transfer_bytes"][-1] == total
        assert found["current_throughput"][-1] == 0
        assert (np.array(found["current_throughput"][:-1]) * steps).sum() == pytest.approx(total)


def test_memories_fill_and_empty_as_tiles_come_and_go(tables):
    sbuf, psum = tables["SbufUsage"], tables["PsumUsage"]
    rows, row = tables["Instruction"], 224 * 1024
    for i, moment in enumerate(sbuf["timestamp"]):
        held = 0
        for k in (0, 7):  # what a trip of the loop holds from its first write to its last access
            for first, last, size in ((k, k + 4, 256), (k + 1, k + 2, 1024), (k + 5, k + 6, 1024)):
                held += size * (rows["start_ts"][first] <= moment < rows["end_ts"][last])
        for p in (0, 32, 64, 96):
            assert sbuf[f"partition_{p}_util_percent"][i] == pytest.approx(held / row)
        assert sbuf["avg_util_percent"][i] == pytest.approx(held / row)
    assert psum["avg_util_percent"][-1] == 0
    assert max(psum["avg_util_percent"]) >= (2048 + 256) / 16384
    assert set(psum["bank_0_util_percent"]) == {None}  # which bank is the compiler's to say


def test_a_kernel_that_gives_psum_addresses_has_its_banks(tmp_path):
    def kernel(a):
        tile = nl.ndarray((128, 128), dtype=nl.bfloat16, buffer=nl.sbuf)
        nisa.dma_copy(dst=tile, src=a)
        low = nl.ndarray((64, 128), dtype=nl.float32, buffer=nl.psum, address=(0, 0))
        high = nl.ndarray((128, 256), dtype=nl.float32, buffer=nl.psum, address=(0, 7 * 2048))
        nisa.memset(low, value=0.0)
        nisa.memset(high, value=0.0)
        nisa.tensor_copy(dst=tile[:64], src=low)
        nisa.tensor_copy(dst=tile, src=high[:, :128])
        out = nl.ndarray((128, 128), dtype=nl.bfloat16, buffer=nl.shared_hbm)
        nisa.dma_copy(dst=out, src=tile)
        return out

    found = export(run(kernel, np.zeros((128, 128), BF16)), tmp_path / "p")["PsumUsage"]
    assert max(found["bank_0_util_percent"]) == pytest.approx(64 * 512 / (128 * 2048))
    assert max(found["bank_7_util_percent"]) == pytest.approx(0.5)
    assert set(found["bank_3_util_percent"]) == {0.0}


def test_two_cores_are_told_apart(tmp_path):
    simulated = run(halves, np.zeros((256, 64), np.float32), lnc=2)
    tables = export(simulated, tmp_path / "p")
    rows = tables["Instruction"]
    assert rows["pcore_idx"] == [0] * 3 + [1] * 3
    assert rows["id"] == list(range(6))
    assert sorted(tables["DmaPacketAggregated"]["id"]) == [0, 2, 3, 5]
    assert set(tables["DmaPacket"]["packet_aggregation_id"]) == {0, 2, 3, 5}
    assert len(set(tables["DmaPacket"]["id"])) == len(tables["DmaPacket"]["id"])
    assert sum(tables["DmaPacket"]["transfer_bytes"]) == simulated.profile.dma.bytes
    assert set(tables["SbufUsage"]["pcore_idx"]) == set(tables["ActiveTime"]["pcore_idx"]) == {0, 1}
    found = one(tables["Summary"])
    assert found["vector_engine_active_time"] == pytest.approx(length(intervals(rows, engine="Vector")) * 1e-9)
    assert found["vector_engine_instruction_count"] == 2
    assert (found["hbm_read_bytes"], found["hbm_write_bytes"]) == (2 * 128 * 64 * 4,) * 2
    assert one(tables["Metadata"])["num_physical_cores"] == 2
    assert len(tables["TensorInfo"]["type"]) == 2


@pytest.mark.parametrize(("target", "dtype", "factor"), [
    ("trn2", np.float32, 4.0), ("trn2", ml_dtypes.float8_e5m2, 0.5), ("trn1", ml_dtypes.float8_e5m2, 1.0),
])  # fmt: skip
def test_flops_in_the_time_of_bf16(tmp_path, target, dtype, factor):
    def kernel(a):
        tile = nl.ndarray((128, 128), dtype=a.dtype, buffer=nl.sbuf)
        nisa.dma_copy(dst=tile, src=a)
        product = nl.ndarray((128, 128), dtype=nl.float32, buffer=nl.psum)
        nisa.nc_matmul(dst=product, stationary=tile, moving=tile)
        out = nl.ndarray((128, 128), dtype=nl.float32, buffer=nl.shared_hbm)
        result = nl.ndarray((128, 128), dtype=nl.float32, buffer=nl.sbuf)
        nisa.tensor_copy(dst=result, src=product)
        nisa.dma_copy(dst=out, src=result)
        return out

    found = one(export(run(kernel, np.zeros((128, 128), dtype), target=target), tmp_path / "p")["Summary"])
    assert found["hardware_flops"] == 2 * 128**3
    assert found["adjusted_hardware_flops"] == factor * 2 * 128**3


def test_a_kernel_without_transfers_writes_no_tables_of_them(tmp_path):
    def kernel():
        nisa.memset(nl.ndarray((128, 64), dtype=nl.float32, buffer=nl.sbuf), value=1.0)

    tables = export(run(kernel), tmp_path / "p")
    assert not {"DmaPacket", "DmaPacketAggregated", "DmaUsage", "HbmUsage", "TensorInfo", "PsumUsage"} & set(tables)
    assert one(tables["Summary"])["dma_transfer_count"] == 0
    assert one(tables["Summary"])["dma_transfer_average_bytes"] is None
    assert set(tables["SchemaFields"]["table_name"]) == set(tables)


def test_too_many_packets_are_left_out_and_told(simulated, tmp_path, monkeypatch):
    monkeypatch.setattr(explorer, "PACKETS", 767)
    tables = export(simulated, tmp_path / "p")
    assert "DmaPacket" not in tables
    assert tables["Warning"]["category"] == ["Simulation", "Missing Data"]
    assert "768 packets" in tables["Warning"]["message"][1]
    assert one(tables["Summary"])["dma_packet_time"] is None
    assert one(tables["Summary"])["dma_active_time"] > 0


def test_two_exports_of_a_run_are_the_same(simulated, tables, tmp_path):
    assert export(simulated, tmp_path / "again") == tables


# --- the directory --------------------------------------------------------------------------------------------


def test_a_former_export_is_replaced_whole(simulated, tmp_path):
    other = run(halves, np.zeros((128, 64), np.float32))
    export(simulated, tmp_path / "p")
    tables = export(other, tmp_path / "p")
    assert "PsumUsage" not in tables
    assert one(tables["Summary"])["matmul_instruction_count"] == 0
    assert [path.name for path in tmp_path.iterdir()] == ["p"]


def test_an_empty_directory_and_new_ones_below_are_taken(simulated, tmp_path):
    (tmp_path / "empty").mkdir()
    assert "Summary" in export(simulated, tmp_path / "empty")
    assert "Summary" in export(simulated, tmp_path / "new" / "below")


def test_anything_else_in_the_directory_is_refused_and_kept(simulated, tmp_path):
    export(simulated, tmp_path / "p")
    for name, content in (("notes.txt", b"mine"), ("Flow.parquet", b"not parquet")):
        (tmp_path / "p" / name).write_bytes(content)
        with pytest.raises(UserError, match=rf"--explorer: the directory holds something else: .*{name}.*; expected"):
            export(simulated, tmp_path / "p")
        assert (tmp_path / "p" / name).read_bytes() == content
        (tmp_path / "p" / name).unlink()
    pq.write_table(pa.table({"engine": ["Tensor"]}), tmp_path / "p" / "Instruction.parquet")  # a real profile's
    with pytest.raises(UserError, match=r"Instruction\.parquet"):
        export(simulated, tmp_path / "p")


def test_a_file_in_the_place_of_the_directory_is_refused(simulated, tmp_path):
    (tmp_path / "p").write_text("mine")
    with pytest.raises(UserError, match="not a directory"):
        export(simulated, tmp_path / "p")
    with pytest.raises(UserError, match="not a directory"):
        check_explorer(tmp_path / "p")
    assert (tmp_path / "p").read_text() == "mine"
    check_explorer(tmp_path / "new")


def test_an_error_on_the_way_leaves_nothing_behind(simulated, tmp_path, monkeypatch):
    def fails(*_args):
        raise OSError("no space left on device")

    before = export(simulated, tmp_path / "p")
    monkeypatch.setattr(explorer._Arrow, "write", fails)
    with pytest.raises(OSError, match="no space"):
        export(simulated, tmp_path / "p")
    with pytest.raises(OSError, match="no space"):
        export(simulated, tmp_path / "q")
    assert [path.name for path in tmp_path.iterdir()] == ["p"]
    assert {path.stem for path in (tmp_path / "p").iterdir()} == set(before)


def test_without_pyarrow_the_sentence_says_what_to_install(simulated, tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    with pytest.raises(UserError, match=r"'pyarrow'; expected pip install 'trainshed\[parquet\]'"):
        write_explorer(tmp_path / "p", simulated.launch, simulated.clocks, kernel="k")
    assert not list(tmp_path.iterdir())


# --- laws -----------------------------------------------------------------------------------------------------

SPANS = st.lists(st.tuples(st.integers(0, 60), st.integers(0, 20)), max_size=8)
law = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


def ended(spans):
    """Starts and ends of (start, length)."""
    start, span = np.array(spans, np.int64).reshape(-1, 2).T
    return start, start + span


@law
@given(SPANS)
def test_active_time_is_the_union_as_disjoint_intervals(spans):
    given_starts, given_ends = ended(spans)
    starts, ends = active(given_starts, given_ends)
    assert int((ends - starts).sum()) == length(zip(given_starts.tolist(), given_ends.tolist(), strict=True))
    assert (starts[1:] > ends[:-1]).all()


@law
@given(SPANS)
def test_the_level_is_what_has_begun_and_not_ended(spans):
    begin, end = ended(spans)
    amount, moments = np.arange(len(spans)) + 1, np.arange(90)
    expected = [
        sum(k + 1 for k, (low, high) in enumerate(zip(begin, end, strict=True)) if low <= t < high) for t in moments
    ]
    assert _level(moments, begin, end, amount).tolist() == expected


@law
@given(st.integers(1, 5000), st.integers(1, 200), st.integers(0, 500), st.integers(1, 16))
def test_packets_of_a_transfer_share_its_bytes_and_its_time(size, count, span, engines):
    class Launched:
        index, first = 0, 0
        transfers = np.array([0])
        start, end = np.array([7]), np.array([7 + span])
        items = (nki_record(size, count),)

    found = explorer_tables.packets(Launched, type("Named", (), {"variable": lambda self, item: "a"})(), 0, engines)
    assert found["transfer_bytes"].sum() == size
    assert np.ptp(found["transfer_bytes"]) <= 1
    assert (found["start_ts"].min(), found["end_ts"].max()) == (7, 7 + span)
    if span >= -(-count // engines):  # else several turns begin in one nanosecond
        assert np.unique(found["start_ts"], return_counts=True)[1].max() <= engines


def nki_record(size: int, count: int):
    """A DMA of ``size`` bytes in ``count`` descriptors."""
    from trainshed.chip.errors import Source
    from trainshed.chip.record import Instruction, Region
    from trainshed.chip.words import MemoryRegion, engine

    region = Region(0, MemoryRegion.shared_hbm, "uint8", 0, ((1, size),))
    work = {"bytes": size, "descriptors": count}
    return Instruction(0, 0, "dma_copy", engine.dma, (region,), (region,), work, {}, Source("k.py", 1), None)
