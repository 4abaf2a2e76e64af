import os

import pytest

from tinygrad_gru.io import LockedError
from tinygrad_gru.train.folder import CHECKPOINT, RunFolder, create_folder


def test_a_folder_is_locked_by_one_run_at_a_time(tmp_path):
    folder = RunFolder(tmp_path / "a" / "run")
    with folder:
        with (
            pytest.raises(LockedError, match=r"run is in use by another run: .* is locked by process"),
            RunFolder(tmp_path / "a" / "run"),
        ):
            raise AssertionError
        with folder:
            pass
        with pytest.raises(LockedError), RunFolder(tmp_path / "a" / "run"):
            raise AssertionError
    with RunFolder(tmp_path / "a" / "run"):
        pass
    assert os.listdir(tmp_path / "a" / "run") == []


def test_half_written_files_of_a_killed_run_are_removed_and_other_files_are_not(tmp_path):
    for name in (".checkpoint.safetensors.0a1b2c3d.part", ".log.jsonl.0a1b2c3d.part", ".notes.0a1b2c3d.part"):
        (tmp_path / name).touch()
    with RunFolder(tmp_path):
        assert sorted(os.listdir(tmp_path)) == [".lock", ".notes.0a1b2c3d.part"]


@pytest.mark.parametrize("name", [CHECKPOINT, "best.safetensors"])
def test_a_folder_with_a_run_is_not_free(tmp_path, name):
    RunFolder(tmp_path).check_free()
    (tmp_path / name).touch()
    with pytest.raises(FileExistsError, match="holds a run already"):
        RunFolder(tmp_path).check_free()


def test_a_path_that_is_too_long_is_refused_and_nothing_is_created(tmp_path):
    with pytest.raises(OSError, match=r"cannot create a folder at .*… \(.*characters\): File name too long"):
        create_folder(tmp_path / ("x/" * 3000))
    assert os.listdir(tmp_path) == []


def test_many_folders_are_created_without_recursion(tmp_path):
    path = tmp_path / ("x/" * 1200)
    create_folder(path)
    assert path.is_dir()
    while path != tmp_path:  # not left to pytest, whose removal recurses
        path.rmdir()
        path = path.parent


def test_a_file_in_the_way_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="file"):
        create_folder(tmp_path / "file" / "run")
