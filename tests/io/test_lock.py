import errno
import os
import signal
import subprocess
import sys

import pytest

from tinygrad_gru.io import FileLock, LockedError, lock

HOLD = """
import sys, time
from tinygrad_gru.io import FileLock
FileLock(sys.argv[1]).acquire()
print("locked", flush=True)
time.sleep(60)
"""


def test_a_lock_is_exclusive_within_a_process(tmp_path):
    first, second = FileLock(tmp_path / "lock"), FileLock(tmp_path / "lock")
    first.acquire()
    with pytest.raises(LockedError, match=f"lock is locked by process {os.getpid()} on "):
        second.acquire()
    first.release()
    second.acquire()
    second.release()
    assert os.listdir(tmp_path) == []


def test_a_kill_releases_the_lock(tmp_path):
    path = tmp_path / "lock"
    with subprocess.Popen([sys.executable, "-c", HOLD, str(path)], stdout=subprocess.PIPE) as holder:
        try:
            holder.stdout.readline()
            with pytest.raises(LockedError, match=f"locked by process {holder.pid} on "):
                FileLock(path).acquire()
        finally:
            holder.kill()
    assert holder.returncode == -signal.SIGKILL and path.exists()
    ours = FileLock(path)
    ours.acquire()
    ours.release()
    assert not path.exists()


def test_a_lock_on_a_removed_file_is_retried(tmp_path, monkeypatch):
    """The holder may remove the file between our opening it and our locking it."""
    path = tmp_path / "lock"
    real, locked = lock._lock, []

    def removed_first(descriptor):
        if not locked:
            path.unlink()
        locked.append(descriptor)
        real(descriptor)

    monkeypatch.setattr(lock, "_lock", removed_first)
    ours = FileLock(path)
    ours.acquire()
    assert len(locked) == 2
    with pytest.raises(LockedError):
        FileLock(path).acquire()
    ours.release()


def test_a_file_system_without_locks_warns(tmp_path, monkeypatch):
    def refused(descriptor):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(lock, "_lock", refused)
    ours = FileLock(tmp_path / "lock")
    with pytest.warns(RuntimeWarning, match=r"lock cannot be locked \(No locks available\)"):
        ours.acquire()
    ours.release()


def test_release_without_a_lock_does_nothing(tmp_path):
    FileLock(tmp_path / "lock").release()
