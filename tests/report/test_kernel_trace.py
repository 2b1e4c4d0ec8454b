"""The Perfetto trace of a kernel, read back with a decoder of its own."""

from collections import Counter, defaultdict

import numpy as np
import pytest

import trainshed.nki as nki
import trainshed.nki.isa as nisa
import trainshed.nki.language as nl
from trainshed.report.kernel_trace import write_trace


def fields(data):
    """The fields of a message: (number, whole number or bytes)."""
    at = 0
    while at < len(data):
        key, at = varint(data, at)
        value, at = varint(data, at)
        if key & 7 == 2:
            value, at = data[at : at + value], at + value
        else:
            assert key & 7 == 0
        yield key >> 3, value


def varint(data, at):
    value = shift = 0
    while data[at] & 0x80:
        value |= (data[at] & 0x7F) << shift
        at, shift = at + 1, shift + 7
    return value | data[at] << shift, at + 1


def read(path):
    """Tracks by number, slices (track, name, begin, end, arguments) and counters of a trace."""
    tracks, names, keys, strings = {}, {}, {}, {}
    open_slices, slices, counters = {}, [], defaultdict(list)
    for number, packet in fields(path.read_bytes()):
        assert number == 1
        packet = dict(fields(packet))
        if 12 in packet:
            for kind, entry in fields(packet[12]):
                entry = dict(fields(entry))
                {2: names, 3: keys, 29: strings}[kind][entry[1]] = entry[2].decode()
        if 60 in packet:
            about = dict(fields(packet[60]))
            tracks[about[1]] = about[2].decode(), about.get(5)
        if 11 in packet:
            event, given = {}, {}
            for key, value in fields(packet[11]):
                if key == 4:
                    one = dict(fields(value))
                    given[keys[one[1]]] = strings[one[17]] if 17 in one else one.get(3, one.get(2))
                else:
                    event[key] = value
            moment, track = packet[8], event[11]
            if event[9] == 1:
                assert track not in open_slices, "slices of one track do not overlap"
                open_slices[track] = names[event[10]], moment, given
            elif event[9] == 2:
                name, begin, given = open_slices.pop(track)
                assert begin <= moment
                slices.append((track, name, begin, moment, given))
            else:
                counters[track].append((moment, event[30]))
    assert not open_slices
    return tracks, slices, counters


def kernel(a):
    out = nl.ndarray((4, 128, 512), dtype=nl.float32, buffer=nl.shared_hbm)
    for i in range(4) if nl.num_programs() == 1 else range(2 * nl.program_id(0), 2 * nl.program_id(0) + 2):
        tile = nl.ndarray((128, 512), dtype=nl.float32, buffer=nl.sbuf)
        nisa.dma_copy(dst=tile, src=a[i], name=f"load {i}")
        nisa.tensor_scalar(tile, tile, nl.add, 1.0)
        nisa.dma_copy(dst=out[i], src=tile)
    return out


def traced(tmp_path, lnc=1):
    run = nki.simulate(nki.jit(kernel)[lnc], target="trn2", values=False)
    run(np.zeros((4, 128, 512), np.float32))
    path = tmp_path / "k.pftrace"
    write_trace(path, run.columns, run.clocks)
    return run, read(path)


def test_a_slice_for_every_instruction_on_the_track_of_its_engine_or_queue(tmp_path):
    run, (tracks, slices, _) = traced(tmp_path)
    clock = run.clocks[0]
    root = next(number for number, (name, _) in tracks.items() if name == "NeuronCore 0")
    assert Counter(tracks[s[0]] for s in slices) == {
        ("dma load", root): 4, ("vector", root): 4, ("dma store", root): 4,
    }  # fmt: skip
    for _, name, begin, end, given in slices:
        i = given["instruction"]
        item = run.launch.cores[0].instructions[i]
        assert (name, given["line"]) == (item.opcode, str(item.source))
        assert (begin, end) == (round(clock.start[i] * 1e9), round(clock.end[i] * 1e9))
        assert given.get("bytes") == item.work.get("bytes")
        assert given.get("name") == item.name
        if clock.cause[i] >= 0:
            assert given["waited for"].startswith(run.launch.cores[0].instructions[clock.cause[i]].opcode)


def test_the_critical_path_is_marked_and_ends_with_the_last_store(tmp_path):
    _, (_, slices, _) = traced(tmp_path)
    marked = [s[4]["instruction"] for s in slices if s[4].get("on the critical path")]
    assert 11 in marked
    assert 0 in marked
    assert len(marked) < 12


def test_live_memory_begins_and_ends_empty(tmp_path):
    run, (tracks, _, counters) = traced(tmp_path)
    held = next(values for number, values in counters.items() if tracks[number][0].startswith("sbuf"))
    assert held[-1][1] == 0
    assert 2048 <= max(value for _, value in held) <= 4 * 2048
    assert [moment for moment, _ in held] == sorted(moment for moment, _ in held)
    assert run.profile.sbuf_peak_bytes == 2048  # in program order one tile after the other


def test_each_core_has_tracks_of_its_own(tmp_path):
    _, (tracks, slices, _) = traced(tmp_path, lnc=2)
    roots = {number for number, (name, _) in tracks.items() if name.startswith("NeuronCore")}
    assert Counter(tracks[s[0]][1] for s in slices) == dict.fromkeys(roots, 6)
    assert len(roots) == 2


def test_a_folder_in_its_place_is_an_error_and_nothing_stays(tmp_path):
    run = nki.simulate(kernel, values=False)
    run(np.zeros((4, 128, 512), np.float32))
    (tmp_path / "k.pftrace").mkdir()
    with pytest.raises(OSError, match=r"k\.pftrace"):
        write_trace(tmp_path / "k.pftrace", run.columns, run.clocks)
    assert [one.name for one in tmp_path.iterdir()] == ["k.pftrace"]
