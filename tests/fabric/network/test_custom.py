"""A user's own network: what the file says is what is built, and each mistake is one sentence."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from trainshed.core import UserError
from trainshed.fabric.network import custom
from trainshed.fabric.network.build import network
from trainshed.fabric.network.routing import latency, routes
from trainshed.hardware import Catalogue

LAB = """
name = "lab"

[chips]
count = 4
bandwidth = "400 GB/s"
latency = "1 us"

[coordinates]
rack = [0, 0, 1, 1]

[[levels]]
name = "rack"
hop = "2 us"
reach = 0.9

[[levels]]
name = "network"
scale_out = true
launch = "5 us"

[[switches]]
name = "rack"
count = 2
kind = "rack switch"

[[switches]]
name = "tor"

[[links]]
from = "chip 0..1"
to = "rack 0"
bandwidth = "100 GB/s"
latency = "0.5 us"
level = "rack"

[[links]]
from = ["chip 2", "chip 3"]
to = "rack 1"
bandwidth = "100 GB/s"
latency = "0.5 us"
level = "rack"

[[links]]
from = "chip 0..3"
to = "tor"
bandwidth = "200 Gbit/s"
latency = "3 us"
level = "network"
"""


def _write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "lab.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_what_the_file_says(tmp_path: Path) -> None:
    read = custom.read(_write(tmp_path, LAB))
    net = read.network
    assert (net.name, net.chips, net.nodes, net.links) == ("lab", 4, 7, 4 + 2 * 8)
    assert net.levels == ("chip", "rack", "network")
    assert net.scale_out == ("network",)
    assert list(net.names) == ["chip 0", "chip 1", "chip 2", "chip 3", "rack 0", "rack 1", "tor"]
    assert net.coordinates["rack"].tolist() == [0, 0, 1, 1]
    found = routes(net, np.array([0, 0, 0]), np.array([0, 1, 2]))
    assert latency(net, found) == pytest.approx([1e-6, 1e-6, 6e-6])
    assert net.bandwidth[found.link[-1]] == 25e9
    assert read.transport.hop == pytest.approx({"rack": 2e-6, "network": 0.0})
    assert read.transport.launch == pytest.approx({"rack": 0.0, "network": 5e-6})
    assert read.transport.reach == {"rack": 0.9, "network": 1.0}
    assert "hop of level network is 0 s: not given" in read.defaults
    assert "reach of level network is 1: not given" in read.defaults
    assert not any(said.startswith("reach of level rack") for said in read.defaults)


def test_one_way_links_and_named_chips(tmp_path: Path) -> None:
    ring = '[chips]\nnames = ["a", "b", "c"]\n' + "".join(
        f'[[links]]\nfrom = "{a}"\nto = "{b}"\nbandwidth = "1 GB/s"\nlatency = "0 s"\nboth_ways = false\n'
        for a, b in ("ab", "bc", "ca")
    )
    net = custom.load(_write(tmp_path, ring))
    assert (net.name, net.levels, net.links) == ("lab", ("network",), 3)
    found = routes(net, np.array([0, 1]), np.array([1, 0]))
    assert np.diff(found.first).tolist() == [1, 2]


@pytest.mark.parametrize(("name", "chips"), [("trn3-gen2", 8), ("trn2-ultra", 128), ("vtrain-v100", 8), ("p5", 72)])
def test_a_network_written_and_read_is_the_same(tmp_path: Path, name: str, chips: int) -> None:
    built = network(Catalogue().system(name), chips)
    read = custom.load(_write(tmp_path, custom.dump(built)))
    assert (read.name, read.chips, read.levels, read.scale_out) == (
        built.name, built.chips, built.levels, built.scale_out,
    )  # fmt: skip
    assert list(read.names) == list(built.names)
    assert [read.kinds[k] for k in read.kind] == [built.kinds[k] for k in built.kind]
    columns = ("source", "target", "level", "bandwidth", "latency")
    rows = [sorted(zip(*(getattr(net, c).tolist() for c in columns), strict=True)) for net in (read, built)]
    assert rows[0] == rows[1]
    assert {k: v.tolist() for k, v in read.coordinates.items()} == {k: v.tolist() for k, v in built.coordinates.items()}


def test_the_example_of_the_module_is_true(tmp_path: Path) -> None:
    assert custom.__doc__ is not None
    example = "\n".join(line[4:] for line in custom.__doc__.splitlines() if line.startswith("    "))
    net = custom.load(_write(tmp_path, example))
    assert (net.chips, net.links) == (8, 8 + 2 * 9)
    found = routes(net, np.array([0]), np.array([4]))
    assert [net.link_name(int(k)) for k in found.link] == ["chip 0 -> rack 0", "rack 0 -> rack 1", "rack 1 -> chip 4"]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"100 GB/s"', '"0 GB/s"', r"lab.toml, key links.bandwidth, line \d+: a link that carries nothing: '0 GB/s'"),
        ('"100 GB/s"', '"100"', r"key links.bandwidth, line \d+:.*'100'"),
        ('"100 GB/s"', '"100 W"', r"key links.bandwidth, line \d+:.*'100 W'"),
        ('"0.5 us"', '"-0.5 us"', r"key links.latency, line \d+:.*'-0.5 us'"),
        ('to = "rack 0"', 'to = "rack 7"', r"key links.to, line \d+: unknown node: 'rack 7'; expected one of rack"),
        ('to = "rack 0"', 'to = "chip 0"', r"key links.to, line \d+: a link from a node to itself: 'chip 0'"),
        ('"chip 0..1"', '"chip 1..0"', "key links.from, .*an empty range of nodes: 'chip 1..0'"),
        ('"chip 0..1"', '["chip 0", "chip 0"]', "a link given twice: 'chip 0 -> rack 0'"),
        ('"chip 0..3"', '"chip 0..9"', "unknown node: 'chip 4'"),
        ('name = "tor"', 'name = "chip 2"', "key switches.name, .*two nodes of one name: 'chip 2'"),
        ('name = "network"\nscale', 'name = "rack"\nscale', "two levels of one name: 'rack'"),
        ('level = "network"', 'level = "net"', "unknown level: 'net'"),
        ("count = 2", "count = 2\ncolour = 3", "unknown key: 'colour'"),
        ("count = 4", "count = 0", "count must be at least 1: 0"),
        ("count = 4", "count = 1000000000", "count of nodes"),
        ("count = 4", 'count = 4\nnames = ["a"]', "chips named and counted"),
        ('name = "lab"', 'name = "lab"\nspeed = 1', "unknown key: 'speed'"),
        ("[0, 0, 1, 1]", "[0, 0, 1]", r"coordinate of the chips: \[0, 0, 1\]; expected 4 whole numbers"),
        ("reach = 0.9", "reach = 1.5", "reach of a level: 1.5; expected above 0, at most 1"),
        ('hop = "2 us"', "hop = 2", "key levels.hop"),
        ('kind = "rack switch"', 'kind = "chip"', "kind of a switch: 'chip'"),
        ('latency = "3 us"\n', "", "missing key latency"),
        ("[[switches]]", "[[switches]", "broken TOML"),
    ],
)
def test_mistakes(tmp_path: Path, old: str, new: str, message: str) -> None:
    assert old in LAB
    with pytest.raises(UserError, match=message):
        custom.load(_write(tmp_path, LAB.replace(old, new, 1)))


def test_a_disconnected_network(tmp_path: Path) -> None:
    cut = LAB[: LAB.index('[[links]]\nfrom = "chip 0..3"')]
    with pytest.raises(UserError, match=r"lab.toml, key links.*chips that cannot reach each other: 'chip 0 to chip 2'"):
        custom.load(_write(tmp_path, cut))
    one_way = LAB.replace('level = "network"\n', 'level = "network"\nboth_ways = false\n')
    with pytest.raises(UserError, match="cannot reach each other"):
        custom.load(_write(tmp_path, one_way))


def test_no_chips_and_no_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="a network needs chips"):
        custom.load(_write(tmp_path, 'name = "x"'))
    with pytest.raises(UserError, match="cannot read the file"):
        custom.load(tmp_path / "absent.toml")
