"""Files written whole or not at all."""

import os

import pytest

from trainshed.core.errors import UserError
from trainshed.report.whole import check_path, write_whole


def test_a_file_is_written_in_a_new_folder_and_replaced(tmp_path):
    path = tmp_path / "new" / "folder" / "file.bin"
    check_path(path, "--trace", ".bin")
    for data in (b"one", b"two"):
        write_whole(path, data)
        assert path.read_bytes() == data
    assert list(path.parent.iterdir()) == [path]


def test_what_cannot_be_replaced_leaves_nothing_behind(tmp_path):
    (tmp_path / "folder.bin" / "in it").mkdir(parents=True)
    with pytest.raises(OSError, match=r"folder\.bin"):
        write_whole(tmp_path / "folder.bin", b"data")
    assert [one.name for one in tmp_path.iterdir()] == ["folder.bin"]


@pytest.mark.parametrize(("name", "expected"), [
    ("trace.txt", "a name ending in .bin"), ("folder.bin", "a folder that may be written"),
    ("file/x.bin", "a folder that may be written"),
])  # fmt: skip
def test_paths_are_looked_at_before_anything_is_run(tmp_path, name, expected):
    (tmp_path / "folder.bin").mkdir()
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=expected):
        check_path(tmp_path / name, "--trace", ".bin")
    assert not (tmp_path / "trace.txt").exists()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_permission(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(UserError, match="cannot write"):
        check_path(tmp_path / "x.bin", "--plot", ".bin")
    tmp_path.chmod(0o700)
