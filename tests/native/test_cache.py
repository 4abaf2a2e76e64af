"""The cache of object code: what is stored is loaded again, by any process, and nothing else ever is."""

import errno
import importlib
import os
import random
import subprocess
import sys

import pytest

from tinygrad_gru.native import cache

KEY, OTHER = "0123456789abcdef" * 2, "fedcba9876543210" * 2

posix = pytest.mark.skipif(os.name != "posix", reason="permissions are those of POSIX")


@pytest.fixture(autouse=True)
def base(tmp_path, monkeypatch):
    monkeypatch.setenv("TINYGRAD_GRU_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def file_of(key):
    return cache.folder() / f"{key}.code"


def test_what_is_stored_is_loaded():
    assert cache.load(KEY) is None
    cache.store(KEY, b"code")
    cache.store(OTHER, b"")
    assert cache.load(KEY) == b"code" and cache.load(OTHER) == b""
    cache.store(KEY, b"newer")
    assert cache.load(KEY) == b"newer"
    assert cache.usage().entries == 2 and cache.problem() == ""


def test_clear_removes_entries_and_parts_of_them_and_no_other_file():
    cache.store(KEY, b"code")
    size = file_of(KEY).stat().st_size
    (cache.folder() / "notes.txt").write_text("mine")
    (cache.folder() / f".{OTHER}.code.0a1b2c3d.part").write_bytes(b"half")
    assert cache.usage().entries == 2
    assert cache.clear() == (2, size + 4)
    assert [path.name for path in cache.folder().iterdir()] == ["notes.txt"]
    assert cache.load(KEY) is None and cache.clear() == (0, 0)


@pytest.mark.parametrize("key", ["", "../../etc/passwd", "ABC" * 10, "0" * 15, "a" * 129])
def test_a_key_is_a_digest(key):
    with pytest.raises(ValueError, match="key: expected a digest"):
        cache.load(key)
    with pytest.raises(ValueError, match="key: expected a digest"):
        cache.store(key, b"")


@pytest.mark.parametrize("change", ["cut", "bit", "longer", "empty", "other key"])
def test_a_damaged_file_is_a_miss(change):
    cache.store(KEY, bytes(range(256)))
    content = bytearray(file_of(KEY).read_bytes())
    if change == "bit":
        content[-7] ^= 8
    changed = {"cut": content[:-1], "bit": content, "longer": content + b"\0", "empty": b"", "other key": content}
    target = OTHER if change == "other key" else KEY
    file_of(target).write_bytes(changed[change])
    assert cache.load(target) is None
    cache.store(target, b"again")
    assert cache.load(target) == b"again"


def test_least_recently_used_entries_go_first(monkeypatch):
    monkeypatch.setattr(cache, "LIMIT", 10_000)
    keys = [f"{n:032x}" for n in range(10)]
    for age, key in enumerate(keys):
        cache.store(key, bytes(900))
        os.utime(file_of(key), (1000 + age, 1000 + age))
    assert cache.load(keys[0]) is not None  # used now
    cache.store(KEY, bytes(900))
    assert cache.usage().bytes <= 9_000
    assert cache.load(keys[0]) is not None and cache.load(KEY) is not None and cache.load(keys[9]) is not None
    assert cache.load(keys[1]) is None


def test_small_entries_are_bounded_by_their_number():
    """For all are looked at whenever one is stored."""
    cache.store(KEY, b"code")
    for n in range(2100):
        (cache.folder() / f"{n:032x}.code").write_bytes(b"")
        os.utime(cache.folder() / f"{n:032x}.code", (n, n))
    cache.store(OTHER, b"code")
    assert 1800 < cache.usage().entries <= 2048 and cache.load(KEY) and cache.load(OTHER)
    assert not (cache.folder() / f"{0:032x}.code").exists()


def test_what_would_fill_a_quarter_is_not_stored(monkeypatch):
    monkeypatch.setattr(cache, "LIMIT", 1000)
    cache.store(KEY, bytes(251))
    assert cache.load(KEY) is None and cache.usage().entries == 0


@pytest.mark.parametrize("call", ["os.makedirs", "os.fsync", "os.replace"])
def test_a_full_disk_is_a_miss_and_leaves_nothing_behind(monkeypatch, call):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    cache.store(OTHER, b"earlier")
    with monkeypatch.context() as patch:
        patch.setattr(call, full)
        cache.store(KEY, b"code")
        cache.store(OTHER, b"later")
    assert cache.load(KEY) is None and cache.load(OTHER) == b"earlier"
    assert len(list(cache.folder().iterdir())) == 1


@posix
def test_a_write_that_the_system_cuts_short():
    resource = importlib.import_module("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        cache.store(KEY, bytes(100_000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert cache.load(KEY) is None and list(cache.folder().iterdir()) == []


def test_a_folder_that_can_only_be_read(monkeypatch):
    """By refusals of the system's, for root may write anywhere."""

    def refused(*_, **__):
        raise OSError(errno.EROFS, "Read-only file system")

    cache.store(KEY, b"code")
    for call in ("os.utime", "os.unlink", "tinygrad_gru.native.cache.replacing"):
        monkeypatch.setattr(call, refused)
    monkeypatch.setattr("os.access", lambda *_: False)
    cache.store(OTHER, b"code")
    assert cache.load(KEY) == b"code" and cache.load(OTHER) is None and cache.clear() == (0, 0)
    assert cache.problem() == "it cannot be written to"


def test_a_file_where_the_folder_should_be(base):
    base.write_text("in the way")
    cache.store(KEY, b"code")
    assert cache.load(KEY) is None and cache.usage() == (0, 0) and cache.clear() == (0, 0)
    assert "irectory" in cache.problem() or "not a folder" in cache.problem()


def test_off_and_without_a_home(monkeypatch):
    monkeypatch.setenv("TINYGRAD_GRU_CACHE", "off")
    cache.store(KEY, b"code")
    assert cache.folder() is None and cache.load(KEY) is None and cache.usage() == (0, 0) and cache.clear() == (0, 0)
    assert cache.problem() == "TINYGRAD_GRU_CACHE is off"
    monkeypatch.setenv("TINYGRAD_GRU_CACHE", "~no such user~/x")
    assert cache.folder() is None and cache.problem() == "there is no home, or no working folder"


@posix
def test_a_relative_folder_where_the_working_folder_is_gone(monkeypatch, tmp_path):
    monkeypatch.setenv("TINYGRAD_GRU_CACHE", "relative")
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    cache.store(KEY, b"code")
    assert cache.folder() is None and cache.load(KEY) is None


@posix
@pytest.mark.parametrize("mode", [0o620, 0o602, 0o666])
def test_a_file_that_others_may_write_is_not_loaded(mode):
    cache.store(KEY, b"code")
    file_of(KEY).chmod(mode)
    assert cache.load(KEY) is None
    cache.store(KEY, b"code")
    assert cache.load(KEY) == b"code" and file_of(KEY).stat().st_mode & 0o777 == 0o600


@posix
def test_a_folder_that_others_may_write_is_not_used():
    cache.store(KEY, b"code")
    cache.folder().chmod(0o777)
    cache.store(OTHER, b"code")
    assert cache.load(KEY) is None and not file_of(OTHER).exists() and "others may write" in cache.problem()
    cache.folder().chmod(0o700)
    assert cache.load(KEY) == b"code"


@posix
def test_what_belongs_to_another_user_is_not_loaded(monkeypatch):
    cache.store(KEY, b"code")
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    cache.store(OTHER, b"code")
    assert cache.load(KEY) is None and not file_of(OTHER).exists() and "another user" in cache.problem()


@posix
@pytest.mark.parametrize("kind", ["link", "pipe", "folder"])
def test_what_is_no_regular_file_is_not_loaded(kind, tmp_path):
    cache.store(KEY, b"code")
    elsewhere = file_of(KEY).rename(tmp_path / "elsewhere")
    if kind == "link":
        file_of(KEY).symlink_to(elsewhere)
    elif kind == "pipe":
        os.mkfifo(file_of(KEY))
    else:
        file_of(KEY).mkdir()
    before = elsewhere.read_bytes()
    assert cache.load(KEY) is None
    cache.store(KEY, b"other code")  # neither through the link, nor waiting for the reader of the pipe
    assert cache.load(KEY) is None and elsewhere.read_bytes() == before


@posix
def test_the_umask_does_not_decide():
    before = os.umask(0)
    try:
        cache.store(KEY, b"code")
    finally:
        os.umask(before)
    assert cache.load(KEY) == b"code" and cache.folder().stat().st_mode & 0o777 == 0o700


def test_the_folder_is_the_users(monkeypatch, tmp_path):
    monkeypatch.delenv("TINYGRAD_GRU_CACHE")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert cache.folder() == tmp_path / ".cache" / "tinygrad_gru" / "native"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "caches"))
    assert cache.folder() == tmp_path / "caches" / "tinygrad_gru" / "native"
    monkeypatch.setattr(sys, "platform", "darwin")
    assert cache.folder() == tmp_path / "Library" / "Caches" / "tinygrad_gru" / "native"
    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path / "AppData"))
    assert cache.folder() == tmp_path / "AppData" / "tinygrad_gru" / "native"


WORK = """
import random, sys
from tinygrad_gru.native import cache

cache.LIMIT = 60_000  # so that entries are evicted all the time
draws = random.Random(int(sys.argv[1]))
for _ in range(300):
    n = draws.randrange(20)
    key, code = f"{n:032x}", bytes([n]) * (n * 400)
    if draws.random() < 0.02:
        cache.clear()
    found = cache.load(key)
    assert found in (None, code), (n, len(found))
    if found is None:
        cache.store(key, code)
"""


def test_several_processes_at_once():
    """They store, load, evict and clear the same entries; one is killed in the midst of it."""
    workers = [subprocess.Popen([sys.executable, "-c", WORK, str(n)]) for n in range(4)]
    victim = workers.pop(random.Random(0).randrange(4))
    with pytest.raises(subprocess.TimeoutExpired):
        victim.wait(0.35)
    victim.kill()
    victim.wait()
    assert [worker.wait(60) for worker in workers] == [0, 0, 0]
    cache.clear()
    assert list(cache.folder().iterdir()) == []
