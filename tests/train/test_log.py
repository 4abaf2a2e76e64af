import errno
import os
import random

import pytest

from tinygrad_gru.train.folder import JsonLines, read_log


def write(path, steps, **settings):
    with JsonLines(path, **settings) as log:
        for step in steps:
            log.write({"step": step, "loss": step / 2})


def steps(path):
    return [record["step"] for record in read_log(path)]


def test_records_are_read_back_in_order(tmp_path):
    write(tmp_path / "log", [1, 2])
    assert read_log(tmp_path / "log") == [{"step": 1, "loss": 0.5}, {"step": 2, "loss": 1.0}]


def test_a_new_run_begins_a_new_log(tmp_path):
    write(tmp_path / "log", [1, 2])
    write(tmp_path / "log", [7])
    assert steps(tmp_path / "log") == [7]


def test_a_resumed_run_drops_the_records_of_steps_that_it_repeats(tmp_path):
    write(tmp_path / "log", [1, 2, 3, 4])
    write(tmp_path / "log", [3, 4, 5], keep_until=2)
    assert steps(tmp_path / "log") == [1, 2, 3, 4, 5]


def test_a_truncated_line_is_skipped(tmp_path):
    write(tmp_path / "log", [1, 2])
    content = (tmp_path / "log").read_text()
    (tmp_path / "log").write_text(content[:-3])
    assert steps(tmp_path / "log") == [1]


def test_a_missing_log_has_no_records(tmp_path):
    assert read_log(tmp_path / "log") == []
    write(tmp_path / "log", [1], keep_until=5)
    assert steps(tmp_path / "log") == [1]


def test_records_are_unbuffered(tmp_path):
    with JsonLines(tmp_path / "log") as log:
        for step in (1, 2, 3):
            log.write({"step": step})
            assert steps(tmp_path / "log") == list(range(1, step + 1))


def test_sync_reaches_the_disk(tmp_path, monkeypatch):
    synced = []
    with JsonLines(tmp_path / "log") as log:
        log.write({"step": 1})
        monkeypatch.setattr(os, "fsync", lambda descriptor: synced.append(os.fstat(descriptor).st_ino))
        log.sync()
    assert synced == [(tmp_path / "log").stat().st_ino]


DAMAGE = [
    b"",
    b"\x00" * 50,
    b'{"step": 2, "lo{"step": 2, "loss": 1.0}',
    b"\xff\xfe",
    b"[1, 2]",
    b"7",
    b"null",
    b'{"loss": 1.0}',
    b'{"step": "2"}',
    b'{"step": true}',
    b'{"step": 2, "loss": "low"}',
    b'{"step": 2, "loss": [1]}',
    b'{"step": ' + b"9" * 5000 + b"}",
    b"[" * 100_000,
    b'{"step": 3, "loss": 1.5',
]


@pytest.mark.parametrize("line", DAMAGE, ids=range(len(DAMAGE)))
def test_a_damaged_line_is_skipped(tmp_path, line):
    write(tmp_path / "log", [1, 2, 3])
    first, *others = (tmp_path / "log").read_bytes().splitlines(keepends=True)
    (tmp_path / "log").write_bytes(first + line + b"\n" + b"".join(others))
    assert steps(tmp_path / "log") == [1, 2, 3]
    write(tmp_path / "log", [3, 4], keep_until=2)
    assert (tmp_path / "log").read_bytes() == first + others[
        0
    ] + b'{"step": 3, "loss": 1.5}\n{"step": 4, "loss": 2.0}\n'


def test_random_damage_is_skipped(tmp_path):
    write(tmp_path / "log", range(20))
    whole = (tmp_path / "log").read_bytes()
    choose = random.Random(0)
    for _ in range(300):
        content = bytearray(whole)
        for _ in range(choose.choice([1, 3, 50])):
            content[choose.randrange(len(content))] = choose.randrange(256)
        (tmp_path / "log").write_bytes(content[: choose.randrange(len(content))])
        assert all(isinstance(record["step"], (int, float)) for record in read_log(tmp_path / "log"))


def test_the_old_log_is_cut_atomically(tmp_path, monkeypatch):
    write(tmp_path / "log", [1, 2, 3])
    before = (tmp_path / "log").read_bytes()

    def killed(source, target):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", killed)
        with pytest.raises(KeyboardInterrupt):
            JsonLines(tmp_path / "log", keep_until=1)
    assert (tmp_path / "log").read_bytes() == before


class Disk:
    """A file on a disk with `room` free bytes."""

    def __init__(self, file, room):
        self.file, self.room = file, room

    def write(self, content):
        if not self.room:
            raise OSError(errno.ENOSPC, "No space left on device")
        written = self.file.write(content[: self.room])
        self.room -= written
        return written

    def __getattr__(self, name):
        return getattr(self.file, name)


def test_a_full_disk_is_an_error_of_sync_alone_and_records_are_kept_until_there_is_room(tmp_path):
    with JsonLines(tmp_path / "log") as log:
        log._file = disk = Disk(log._file, room=30)
        for step in (1, 2, 3):
            log.write({"step": step, "loss": step / 2})
        with pytest.raises(OSError, match="could not write the log: No space left on device") as raised:
            log.sync()
        assert (raised.value.errno, raised.value.filename) == (errno.ENOSPC, str(tmp_path / "log"))
        assert (tmp_path / "log").stat().st_size == 30
        disk.room = 1000
        log.sync()
        assert steps(tmp_path / "log") == [1, 2, 3]


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="a device that is always full")
def test_a_full_device_is_named():
    with JsonLines("/dev/full") as log:
        log.write({"step": 1})
        with pytest.raises(OSError, match="No space left on device: '/dev/full'"):
            log.sync()
