import errno
import os

import pytest

from tinygrad_gru.io import replacing


def test_the_file_is_replaced_when_the_block_ends(tmp_path):
    path = tmp_path / "numbers"
    path.write_bytes(b"old")
    with replacing(path) as file:
        file.write(b"new")
        file.flush()
        assert path.read_bytes() == b"old"
    assert path.read_bytes() == b"new"
    assert os.listdir(tmp_path) == ["numbers"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit, OSError])
def test_whatever_is_raised_leaves_the_old_file_and_nothing_else(tmp_path, error):
    path = tmp_path / "numbers"
    path.write_bytes(b"old")
    with pytest.raises(error), replacing(path) as file:
        file.write(b"ne")
        raise error
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["numbers"]


def test_a_disk_that_fills_up_at_the_last_moment_harms_nothing(tmp_path, monkeypatch):
    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    path = tmp_path / "numbers"
    path.write_bytes(b"old")
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"), replacing(path) as file:
        file.write(b"new")
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["numbers"]


def test_a_folder_that_is_not_there_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere"), replacing(tmp_path / "nowhere" / "numbers"):
        pass
