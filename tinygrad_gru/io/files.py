"""Atomic replacement of files: a reader finds the old content or the new, never a part of it."""

from __future__ import annotations

import errno
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from glob import escape
from pathlib import Path
from typing import BinaryIO

from .lock import is_open_at, lock_descriptor


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """A binary file for writing that replaces `path` atomically when the block ends.

    A temporary file beside `path` is written, forced to the disk, and renamed. If anything is raised before (a full
    disk, Ctrl-C, an error of the caller's), `path` is unchanged and the temporary file is removed; so is one that a
    kill left behind earlier. Permissions are kept, and symbolic links are followed. What is not a regular file (a
    device, a pipe) is written directly.

    An OSError that names no file, as that of a full disk, or the temporary one, is raised again with the name `path`.
    That of a missing folder names the folder.

    >>> with io.replacing("notes.txt") as file:
    ...     _ = file.write(b"all of it, or nothing")
    >>> from pathlib import Path
    >>> Path("notes.txt").read_text()
    'all of it, or nothing'
    """
    path = Path(path)
    folder = Path(os.path.realpath(path)).parent
    if not folder.is_dir():
        what = "is not a folder" if folder.exists() else "does not exist: create it first"
        raise FileNotFoundError(errno.ENOENT, f"the folder {path.parent} {what}", str(path))
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        mode = None
    with _named(path):
        if mode is None or stat.S_ISREG(mode):
            with _temporary(Path(os.path.realpath(path)), mode) as file:
                yield file
        else:
            with open(path, "wb") as file:  # raises for a folder, with its name
                yield file


@contextmanager
def _temporary(target: Path, mode: int | None) -> Iterator[BinaryIO]:
    """A temporary file that replaces `target` when the block ends."""
    remove_parts(target)
    part, file = _new_part(target)
    try:
        with file:
            if mode is not None and hasattr(os, "fchmod"):
                with suppress(OSError):  # a file system without permissions
                    os.fchmod(file.fileno(), stat.S_IMODE(mode))
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, target)
    except BaseException:
        with suppress(OSError):
            part.unlink()
        raise
    sync_folder(target.parent)


def _new_part(target: Path) -> tuple[Path, BinaryIO]:
    """A new temporary file beside the target, locked while open, so that `remove_parts` leaves it alone."""
    while True:
        part = target.with_name(f".{target.name}.{secrets.token_hex(4)}.part")
        file = open(part, "xb")  # noqa: SIM115  (the caller closes it)
        with suppress(OSError):  # a file system without locks, where `remove_parts` cannot lock it either
            lock_descriptor(file.fileno())
        if is_open_at(part, file.fileno()):
            return part, file
        file.close()  # another process removed it before it was locked


def remove_parts(path: str | os.PathLike[str]) -> None:
    """Remove temporary files that a killed `replacing(path)` left behind; those in use are locked and stay.

    >>> io.remove_parts("model.safetensors")
    """
    path = Path(path)
    for part in path.parent.glob(f".{escape(path.name)}.*.part"):
        with suppress(OSError):
            with open(part, "r+b") as file:
                lock_descriptor(file.fileno())
            part.unlink()


def sync_folder(folder: Path) -> None:
    """Force the entries of a folder to the disk, on systems on which a folder can be opened for that.

    >>> from pathlib import Path
    >>> io.sync_folder(Path("."))
    """
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """Raise OSErrors that name no file, or a temporary one, with the name `path`."""
    try:
        yield
    except OSError as error:
        if error.errno is None or not str(error.filename or ".part").endswith(".part"):
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error
