"""Advisory file locks, which the system releases when a process ends, even by a kill."""

from __future__ import annotations

import errno
import os
import platform
import sys
import warnings
from contextlib import suppress
from pathlib import Path

if sys.platform == "win32":
    import msvcrt

    _BEYOND_ANY_CONTENT = 2**31 - 2  # Windows refuses reads of locked bytes, and the content names the holder

    def _lock(descriptor: int) -> None:
        position = os.lseek(descriptor, 0, os.SEEK_CUR)
        os.lseek(descriptor, _BEYOND_ANY_CONTENT, os.SEEK_SET)
        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        os.lseek(descriptor, position, os.SEEK_SET)
else:
    import fcntl

    def _lock(descriptor: int) -> None:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


_HELD_BY_ANOTHER = (errno.EAGAIN, errno.EACCES, errno.EDEADLK)


class LockedError(OSError):
    """A lock is held by another process, or by another part of this one."""


def lock_descriptor(descriptor: int) -> None:
    """Lock an open file until it is closed. Raises LockedError if it is locked, another OSError without support."""
    try:
        _lock(descriptor)
    except OSError as error:
        if error.errno in _HELD_BY_ANOTHER:
            raise LockedError(error.errno, "locked by another process") from error
        raise


def is_open_at(path: Path, descriptor: int) -> bool:
    """Whether `path` still names the open file: it may have been removed or replaced meanwhile."""
    try:
        return os.path.samestat(os.stat(path), os.fstat(descriptor))
    except FileNotFoundError:
        return False


class FileLock:
    """A file lock, held from `acquire` to `release` or to the end of the process.

    The file at `path` names the holder and is removed on release. After a kill it remains, without effect: what counts
    is the system's lock on the file, not its existence. On a file system without locks there is only a warning.

    >>> lock = io.FileLock("run.lock")
    >>> lock.acquire()
    >>> lock.release()
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self._descriptor: int | None = None

    def acquire(self) -> None:
        """Take the lock, without waiting for it. Raises LockedError, which names the holder, if it is held."""
        while True:
            descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o666)
            try:
                self._lock(descriptor)
                if is_open_at(self.path, descriptor):
                    break
            except BaseException:
                os.close(descriptor)
                raise
            os.close(descriptor)  # the previous holder has just removed the file, so this lock protects nothing
        self._descriptor = descriptor
        with suppress(OSError):  # a full disk: the lock is held, but does not name its holder
            os.ftruncate(descriptor, 0)
            os.write(descriptor, f"process {os.getpid()} on {platform.node()}".encode())

    def _lock(self, descriptor: int) -> None:
        try:
            lock_descriptor(descriptor)
        except LockedError as error:
            holder = os.read(descriptor, 200).decode(errors="replace")
            raise LockedError(f"{self.path} is locked by {holder or 'another process'}") from error
        except OSError as error:
            warnings.warn(
                f"{self.path} cannot be locked ({error.strerror}): make sure that no other process writes there",
                RuntimeWarning,
                stacklevel=4,
            )

    def release(self) -> None:
        """Release the lock, if it is held."""
        if self._descriptor is None:
            return
        with suppress(OSError):  # Windows does not remove open files
            if is_open_at(self.path, self._descriptor):
                os.unlink(self.path)
        os.close(self._descriptor)
        self._descriptor = None
