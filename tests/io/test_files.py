import errno
import os

import pytest

from tinygrad_gru.io import remove_parts, replacing


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
def test_an_exception_leaves_the_old_file_and_no_temporary_one(tmp_path, error):
    path = tmp_path / "numbers"
    path.write_bytes(b"old")
    with pytest.raises(error), replacing(path) as file:
        file.write(b"ne")
        raise error
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["numbers"]


def test_a_full_disk_at_the_end_leaves_the_old_file(tmp_path, monkeypatch):
    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    path = tmp_path / "numbers"
    path.write_bytes(b"old")
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"), replacing(path) as file:
        file.write(b"new")
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["numbers"]


def parts(folder):
    return sorted(name for name in os.listdir(folder) if name.endswith(".part"))


def test_temporary_files_of_a_killed_process_are_removed_and_those_in_use_are_not(tmp_path):
    (tmp_path / ".numbers.0a1b2c3d.part").write_bytes(b"half")
    (tmp_path / ".others.0a1b2c3d.part").write_bytes(b"another's")
    with replacing(tmp_path / "numbers") as file:
        file.write(b"slow")
        assert len(parts(tmp_path)) == 2
        with replacing(tmp_path / "numbers") as other:
            other.write(b"quick")
        remove_parts(tmp_path / "numbers")
        assert (tmp_path / "numbers").read_bytes() == b"quick"
        assert len(parts(tmp_path)) == 2
    assert (tmp_path / "numbers").read_bytes() == b"slow"
    assert parts(tmp_path) == [".others.0a1b2c3d.part"]


def test_wildcards_in_names_are_literal(tmp_path):
    (tmp_path / ".numbers.0a1b2c3d.part").write_bytes(b"")
    remove_parts(tmp_path / "*")
    assert parts(tmp_path) == [".numbers.0a1b2c3d.part"]


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="a device that is always full")
def test_a_device_is_written_into_and_not_replaced():
    for device in ("/dev/null", "/dev/full"):
        before = os.stat(device)
        try:
            with replacing(device) as file:
                file.write(b"numbers")
        except OSError as error:
            assert device == "/dev/full" and (error.errno, error.filename) == (errno.ENOSPC, device)
        assert os.path.samestat(os.stat(device), before)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="pipes with a name")
def test_a_pipe_is_written_into(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    try:
        with replacing(tmp_path / "pipe") as file:
            file.write(b"numbers")
        assert os.read(reader, 100) == b"numbers"
    finally:
        os.close(reader)


def test_a_folder_as_target_is_refused_before_anything_is_written(tmp_path):
    (tmp_path / "numbers").mkdir()
    with pytest.raises(OSError, match="numbers"), replacing(tmp_path / "numbers"):
        raise AssertionError
    assert os.listdir(tmp_path) == ["numbers"]


def test_symbolic_links_are_followed(tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "latest").symlink_to(tmp_path / "folder" / "numbers")
    for content in (b"first", b"second"):
        with replacing(tmp_path / "latest") as file:
            file.write(content)
        assert (tmp_path / "latest").is_symlink()
        assert (tmp_path / "folder" / "numbers").read_bytes() == content


@pytest.mark.skipif(os.name != "posix", reason="permissions of POSIX")
def test_permissions_are_kept(tmp_path):
    path = tmp_path / "numbers"
    path.touch()
    usual = path.stat().st_mode
    path.chmod(0o600)
    with replacing(path):
        pass
    assert path.stat().st_mode & 0o777 == 0o600
    with replacing(tmp_path / "new"):
        pass
    assert (tmp_path / "new").stat().st_mode == usual


def test_errors_name_the_target_instead_of_the_temporary_file(tmp_path):
    with pytest.raises(FileNotFoundError) as raised, replacing(tmp_path / "nowhere" / "numbers"):
        raise AssertionError
    assert raised.value.filename == str(tmp_path / "nowhere" / "numbers")


def test_errors_without_a_file_name_the_target(tmp_path):
    with pytest.raises(OSError, match="numbers") as raised, replacing(tmp_path / "numbers"):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert (raised.value.errno, raised.value.filename) == (errno.ENOSPC, str(tmp_path / "numbers"))


def test_a_missing_folder_is_named(tmp_path):
    missing = tmp_path / "no" / "where"
    with (
        pytest.raises(FileNotFoundError, match=rf"the folder {missing} does not exist: create it first: '{missing}/x'"),
        replacing(missing / "x"),
    ):
        pass
    (tmp_path / "no").touch()
    with (
        pytest.raises(FileNotFoundError, match=rf"the folder {tmp_path}/no is not a folder"),
        replacing(missing.parent / "x"),
    ):
        pass
