"""A cache of object code on disk: bytes by key, in a folder of the user, bounded, least recently used out.

What is loaded is executed, so only regular files of this user are read, from a folder of this user, and of neither may
others have the right to write. A file's digest finds damage, not malice, for anybody can compute it: who can write to
the folder as this user can run code as this user, as with Python's own .pyc files. Whatever fails (a full disk, a
missing or read-only folder, a damaged file, another process) makes a cache miss, never an error.
"""

from __future__ import annotations

import os
import re
import stat
import sys
from contextlib import suppress
from hashlib import blake2b
from pathlib import Path
from typing import NamedTuple

from ..io import replacing

#: The most bytes that are kept on disk; the object code of a step takes some ten thousand.
LIMIT = 64 * 2**20
#: The most entries: each is looked at when one is stored, which takes 40 ms then.
_ENTRIES = 2048

_MAGIC = b"tinygrad_gru native code 1\n"
_DIGEST = 32  # bytes
_OURS = re.compile(r"[0-9a-f]+\.code|\.[0-9a-f]+\.code\.[0-9a-f]+\.part")
_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH
#: Through no symbolic link, and without waiting for the writer of a pipe.
_TO_READ = os.O_RDONLY | sum(getattr(os, name, 0) for name in ("O_NOFOLLOW", "O_NONBLOCK", "O_BINARY"))


class Usage(NamedTuple):
    """What is, or was, in the cache: the number of entries, and their bytes."""

    entries: int
    bytes: int


def folder() -> Path | None:
    """The folder of the cache, which need not exist; None if `TINYGRAD_GRU_CACHE` is `off` or there is no home.

    It is `native` in the folder that `TINYGRAD_GRU_CACHE` names, else in `tinygrad_gru` in the user's folder for
    caches: `XDG_CACHE_HOME` or `~/.cache`, on macOS `~/Library/Caches`, on Windows `%LOCALAPPDATA%`.
    """
    named = os.environ.get("TINYGRAD_GRU_CACHE", "")
    if named == "off":
        return None
    try:
        base = Path(named).expanduser() if named else _users_caches() / "tinygrad_gru"
        return Path(os.path.abspath(base)) / "native"
    except (RuntimeError, OSError):  # no home, or a relative path where the working folder has been removed
        return None


def _users_caches() -> Path:
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches"
    xdg = os.environ.get("XDG_CACHE_HOME", "")
    return Path(xdg) if os.path.isabs(xdg) else Path.home() / ".cache"  # a relative one is to be ignored, says XDG


def problem() -> str:
    """Why nothing is loaded from the folder and nothing stored, as far as can be told without trying; or ""."""
    where = folder()
    if where is None:
        is_off = os.environ.get("TINYGRAD_GRU_CACHE") == "off"
        return "TINYGRAD_GRU_CACHE is off" if is_off else "there is no home, or no working folder"
    try:
        status = os.lstat(where)
    except FileNotFoundError:
        return ""
    except OSError as error:
        return error.strerror or str(error)
    if not stat.S_ISDIR(status.st_mode):
        return "it is not a folder"
    if not _is_own(status):
        return "it belongs to another user, or others may write to it, and what is in it would be executed"
    return "" if os.access(where, os.W_OK) else "it cannot be written to"


def load(key: str) -> bytes | None:
    """The code that was stored under this key, or None. It becomes the most recently used entry."""
    path = _path(key)
    if path is None or not _is_own_folder(path.parent):
        return None
    try:
        descriptor = os.open(path, _TO_READ)
        with open(descriptor, "rb") as file:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode) or not _is_own(status) or status.st_size > LIMIT:
                return None
            content = file.read()
    except OSError:
        return None
    begin = len(_MAGIC) + _DIGEST
    code = content[begin:]
    if content[:begin] != _head(key, code):
        return None
    with suppress(OSError):  # a folder that can only be read
        os.utime(path)
    return code


def store(key: str, code: bytes) -> None:
    """Store code under a key, and remove the least recently used entries beyond the limit."""
    path = _path(key)
    if path is None or len(code) > LIMIT // 4:
        return
    with suppress(OSError):
        os.makedirs(path.parent, mode=0o700, exist_ok=True)
        is_replaceable = not os.path.lexists(path) or stat.S_ISREG(os.lstat(path).st_mode)
        if not is_replaceable or not _is_own_folder(path.parent):
            return  # `replacing` would write through a link, and wait for the reader of a pipe
        with replacing(path) as file:
            if hasattr(os, "fchmod"):
                os.fchmod(file.fileno(), 0o600)  # whatever the umask and the file that it replaces
            file.write(_head(key, code) + code)
        _evict(path.parent)


def usage() -> Usage:
    """How much there is."""
    sizes = [size for _, size, _ in _entries(folder())]
    return Usage(len(sizes), sum(sizes))


def clear() -> Usage:
    """Remove all of it, and no other file in the folder; returns how much it was."""
    return _remove(_entries(folder()))


def _evict(where: Path) -> None:
    """Remove the least recently used entries until a tenth of the limit is free, if it is exceeded."""
    entries = sorted((used, max(size, LIMIT // _ENTRIES), path) for used, size, path in _entries(where))
    excess = sum(size for _, size, _ in entries) - LIMIT
    if excess > 0:
        excess += LIMIT // 10
        oldest = []
        while excess > 0:
            oldest.append(entries.pop(0))
            excess -= oldest[-1][1]
        _remove(oldest)


def _remove(entries: list[tuple[int, int, str]]) -> Usage:
    sizes = []
    for _, size, path in entries:
        with suppress(OSError):  # another process was faster, or may do what this one may not
            os.unlink(path)
            sizes.append(size)
    return Usage(len(sizes), sum(sizes))


def _entries(where: Path | None) -> list[tuple[int, int, str]]:
    """When each was last used, its bytes, and its path; also of files that a killed process left half-written."""
    found = []
    with suppress(OSError):
        for entry in os.scandir(where) if where is not None else ():
            if _OURS.fullmatch(entry.name):
                with suppress(OSError):  # another process has removed it
                    status = entry.stat(follow_symlinks=False)
                    found.append((status.st_mtime_ns, status.st_size, entry.path))
    return found


def _path(key: str) -> Path | None:
    if not re.fullmatch("[0-9a-f]{16,128}", key):
        raise ValueError(f"key: expected a digest in hexadecimal digits, got {key!r:.140}")
    where = folder()
    return None if where is None else where / f"{key}.code"


def _head(key: str, code: bytes) -> bytes:
    """What a file begins with: its key is in the digest, so that no entry can stand under the name of another."""
    return _MAGIC + blake2b(key.encode() + b"\n" + code, digest_size=_DIGEST).digest()


def _is_own_folder(where: Path) -> bool:
    try:
        status = os.lstat(where)
    except OSError:
        return False
    return stat.S_ISDIR(status.st_mode) and _is_own(status)


def _is_own(status: os.stat_result) -> bool:
    """Whether a file belongs to this user alone. On Windows, without such bits, the profile guards it."""
    return not hasattr(os, "geteuid") or (status.st_uid == os.geteuid() and not status.st_mode & _OTHERS_WRITE)
