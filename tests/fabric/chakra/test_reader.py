"""Directories of traces: what is read, and what is told of those that are none."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainshed.core import UserError
from trainshed.fabric.chakra import Builder, Call, read, replay, schema, write
from trainshed.fabric.chakra.schema import Attribute, Header, Info, Node
from trainshed.fabric.chakra.wire import varint
from trainshed.hardware import Catalogue

SYSTEM = Catalogue().system("p5")


def put(directory: Path, *ranks: list[Node], name: str = "t") -> Path:
    """Files of nodes, one per rank."""
    directory.mkdir(exist_ok=True)
    for rank, nodes in enumerate(ranks):
        bodies = [schema.write_header(Header()), *map(schema.write_node, nodes)]
        (directory / f"{name}.{rank}.et").write_bytes(b"".join(varint(len(b)) + b for b in bodies))
    return directory


def collective(id: int = 0, kind: int = 0, size: int = 1024, **more: Attribute) -> Node:
    """A collective's node as ASTRA-sim's generators make it."""
    said = {"is_cpu_op": Attribute(kind="bool", value=False), "comm_type": Attribute(kind="int64", value=kind),
            "comm_size": Attribute(kind="int64", value=size)}  # fmt: skip
    return Node(id=id, name="c", type=schema.COLLECTIVE, attributes=said | more)


def send(to: int, size: int = 8, id: int = 0) -> Node:
    """A message."""
    said = {"comm_size": Attribute(kind="int64", value=size), "comm_dst": Attribute(kind="int32", value=to),
            "comm_tag": Attribute(kind="int32", value=0)}  # fmt: skip
    return Node(id=id, name="s", type=schema.SEND, attributes=said)


def test_an_all_gather_s_size_is_one_rank_s_part(tmp_path: Path) -> None:
    trace = read(put(tmp_path / "a", *[[collective(kind=k) for k in (2,)] for _ in range(4)]))
    assert trace.size.tolist() == [4096.0] * 4
    assert [c.kind for c in trace.calls] == ["all_gather"]
    assert trace.groups[0].members.tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("number", "kind"),
    [
        (0, "all_reduce"),
        (1, "broadcast"),
        (5, "broadcast"),
        (6, "all_to_all"),
        (7, "reduce_scatter"),
        (9, "all_reduce"),
    ],
)
def test_kinds(tmp_path: Path, number: int, kind: str) -> None:
    trace = read(put(tmp_path / "a", [collective(kind=number)], [collective(kind=number)]))
    assert trace.calls[0].kind == kind
    assert trace.size[0] == (0.0 if number == 9 else 1024.0)


def test_durations_work_and_the_host(tmp_path: Path) -> None:
    said = {"is_cpu_op": Attribute(kind="bool", value=True), "num_ops": Attribute(kind="uint32", value=7),
            "tensor_size": Attribute(kind="uint64", value=9)}  # fmt: skip
    nodes = [Node(id=5, name="x", type=schema.COMPUTE, duration_micros=3, attributes=said),
             Node(id=2, name="y", type=schema.COMPUTE, data=(5,), control=(5,))]  # fmt: skip
    trace = read(put(tmp_path / "a", nodes))
    assert trace.seconds[0] == pytest.approx(3e-6)
    assert np.isnan(trace.seconds[1])
    assert (trace.ops[0], trace.bytes[0], trace.host.tolist()) == (7.0, 9.0, [True, False])
    assert (trace.first.tolist(), trace.before.tolist()) == ([0, 0, 1], [0])


def test_groups_by_file_by_pytorch_and_by_dimension(tmp_path: Path) -> None:
    named = collective(pg_name=Attribute(kind="string", value="3"))
    put(tmp_path / "a", *[[named]] * 4)
    (tmp_path / "a" / "comm_group.json").write_text(json.dumps({"3": [0, 1, 2, 3]}))
    assert read(tmp_path / "a").groups[0].name == "3"
    text = '["[{\\"pg_name\\": \\"3\\", \\"ranks\\": [0, 1]}]"]'
    first = Node(id=9, name="## process_group:init ##", type=schema.METADATA, inputs=Info(values=text))
    trace = read(put(tmp_path / "b", [named, first], [named, first]))
    assert trace.groups[0].members.tolist() == [0, 1]
    inner = collective(involved_dim=Attribute(kind="bool", value=(True, False)))
    outer = collective(1, involved_dim=Attribute(kind="bool", value=(False, True)))
    trace = read(put(tmp_path / "c", *[[inner, outer]] * 6), dims=(3, 2))
    assert [g.members.tolist() for g in trace.groups] == [[0, 1, 2], [0, 3], [1, 4], [2, 5], [3, 4, 5]]


def test_gzip_and_several_names(tmp_path: Path) -> None:
    put(put(tmp_path, [collective()], name="a"), [collective(), collective(1)], name="b")
    with pytest.raises(UserError, match="several traces"):
        read(tmp_path)
    assert len(read(tmp_path, name="b")) == 2
    (tmp_path / "c.0.et.gz").write_bytes(gzip.compress((tmp_path / "b.0.et").read_bytes()))
    assert len(read(tmp_path, name="c")) == 2


_NODE = Node(id=0, name="n", type=schema.COMPUTE)


@pytest.mark.parametrize(
    ("nodes", "message"),
    [
        ([_NODE, _NODE], "t.0.et: node 0 .*an id twice"),
        ([Node(id=0, data=(4,), type=4)], "depends on a node that is not there: 4"),
        ([Node(id=0, type=8)], "unknown type of node: 8; expected 0 to 7"),
        ([Node(id=1 << 63, type=4)], "beyond 63 bits"),
        ([Node(id=0, type=schema.COLLECTIVE)], "no attribute comm_type"),
        ([collective(kind=4)], "does not time: 'SCATTER'"),
        ([collective(kind=77)], "does not time: '77'"),
        ([collective(size=-1)], "comm_size: -1; expected a finite number, at least 0"),
        (
            [Node(id=0, type=4, attributes={"trainshed.seconds": Attribute(kind="double", value=-1.0)})],
            "trainshed.seconds: -1.0",
        ),
        ([Node(id=0, type=4, attributes={"num_ops": Attribute(kind="double", value=float("nan"))})], "num_ops: nan"),
        ([collective(comm_size=Attribute(kind="string", value="8"))], "comm_size: '8'; expected a finite number"),
        ([collective(pg_name=Attribute(kind="string", value="7"))], "a group that nothing defines: '7'"),
        ([collective(involved_dim=Attribute(kind="bool", value=(True, False)))], "beside it \\(dims\\)"),
        ([send(0)], "comm_dst: 0; expected another rank"),
        ([send(5)], "comm_dst: 5"),
    ],
)
def test_a_bad_node_is_one_sentence(tmp_path: Path, nodes: list[Node], message: str) -> None:
    with pytest.raises(UserError, match=message):
        read(put(tmp_path / "a", nodes))


def test_bad_files_and_directories(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no directory"):
        read(tmp_path / "none")
    with pytest.raises(UserError, match="no trace"):
        read(tmp_path)
    put(tmp_path, [_NODE], [_NODE], [_NODE])
    whole = (tmp_path / "t.1.et").read_bytes()
    for cut in range(1, len(whole)):
        (tmp_path / "t.1.et").write_bytes(whole[:cut])
        if cut != 8:  # behind the header: a rank without nodes
            with pytest.raises(UserError, match=r"t\.1\.et: no whole Chakra trace: .* at byte \d+"):
                read(tmp_path)
    (tmp_path / "t.1.et").write_bytes(b"")
    with pytest.raises(UserError, match="no whole Chakra trace"):
        read(tmp_path)
    (tmp_path / "t.1.et").unlink()
    with pytest.raises(UserError, match=r"a rank without a trace: 't\.1\.et'"):
        read(tmp_path)


@pytest.mark.parametrize(
    ("text", "message"),
    [("[1]", "no groups"), ("{", "no readable groups"), ('{"1": [0, 9]}', "without a trace: 9"),
     ('{"1": [0, 0]}', "distinct ranks"), ('{"1": "x"}', "a list of distinct ranks")],
)  # fmt: skip
def test_bad_groups(tmp_path: Path, text: str, message: str) -> None:
    (put(tmp_path, [_NODE]) / "comm_group.json").write_text(text)
    with pytest.raises(UserError, match=message):
        read(tmp_path)


def test_dims_must_fit(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="a product of 1 ranks"):
        read(put(tmp_path, [_NODE]), dims=(2, 2))


def example() -> Builder:
    """Every sort of node on four ranks."""
    made = Builder(name="all", ranks=4)
    pairs = [made.group([0, 1]), made.group([2, 3])]
    moe = Call(kind="moe_dispatch", algorithm="direct", dtype="fp8", copies=4.0)
    for rank in range(4):
        a = made.compute(rank, "a", 1.25e-6 * (rank + 1))
        b = made.collective(rank, "b", Call(kind="all_gather"), 4096.0, made.group(range(4)), [a])
        c = made.collective(rank, "c", moe, 512.0, pairs[rank // 2], [a, b])
        other = rank ^ 1
        d = made.send(rank, "d", 100.0, other, 7, [c])
        made.add(
            rank, schema.COMPUTE, "e", [made.receive(rank, "r", 100.0, other, 7), d], ops=1e9, bytes=1e6, host=True
        )
    return made


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    trace = example().trace()
    write(trace, tmp_path / "x")
    back = read(tmp_path / "x")
    for name in ("rank", "id", "kind", "host", "seconds", "ops", "bytes", "size", "peer", "tag", "first", "before"):
        np.testing.assert_array_equal(getattr(back, name), getattr(trace, name), err_msg=name)
    calls = [[t.calls[c] if c >= 0 else None for c in t.call] for t in (trace, back)]
    members = [[t.groups[g].members.tolist() if g >= 0 else None for g in t.group] for t in (trace, back)]
    assert calls[0] == calls[1]
    assert members[0] == members[1]
    assert tuple(back.label) == tuple(trace.label)
    assert json.loads((tmp_path / "x" / "comm_group.json").read_text()) == {"1": [0, 1], "2": [2, 3]}
    with pytest.raises(UserError, match="there already"):
        write(trace, tmp_path / "x")


@settings(max_examples=30, deadline=None)
@given(st.data())
def test_a_changed_byte_is_a_trace_or_one_sentence(data: st.DataObject) -> None:
    with TemporaryDirectory() as directory:
        path = write(example().trace(), Path(directory) / "x")[2]
        whole = bytearray(path.read_bytes())
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
        path.write_bytes(whole)
        try:
            total = replay(path.parent, SYSTEM).result["time_s"]
        except UserError as error:
            total = len(str(error))
        assert 0 < total < np.inf
