"""Files that are replaced as a whole: whoever opens one finds the old content or the new, and never a part of it."""

from __future__ import annotations

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
    """A binary file to write to, which takes the place of `path` when the block ends.

    It is written beside `path`, forced to the disk, and renamed. If anything is raised on the way (a full disk, Ctrl-C,
    an error of the caller's), `path` is as it was before and the half-written file is gone; what a kill left of an
    earlier attempt is removed. Permissions are kept, a symbolic link stays one, and into what is no file (a device, a
    pipe) the content is written as it comes.

    An OSError that names no file, as that of a full disk, or the one beside, is raised again with the name of this one.
    """
    path = Path(path)
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        mode = None
    with _named(path):
        if mode is None or stat.S_ISREG(mode):
            with _beside(Path(os.path.realpath(path)), mode) as file:
                yield file
        else:
            with open(path, "wb") as file:  # a folder is refused here, by its name
                yield file


@contextmanager
def _beside(target: Path, mode: int | None) -> Iterator[BinaryIO]:
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
    """A new file beside the target, locked while it is open, so that it is not taken for what a kill has left."""
    while True:
        part = target.with_name(f".{target.name}.{secrets.token_hex(4)}.part")
        file = open(part, "xb")  # noqa: SIM115  (the caller closes it)
        with suppress(OSError):  # a file system without locks: there nobody can lock it in order to remove it either
            lock_descriptor(file.fileno())
        if is_open_at(part, file.fileno()):
            return part, file
        file.close()  # removed by somebody else before it was locked


def remove_parts(path: str | os.PathLike[str]) -> None:
    """Remove what `replacing(path)` left behind where it was killed; what is being written stays."""
    path = Path(path)
    for part in path.parent.glob(f".{escape(path.name)}.*.part"):
        with suppress(OSError):
            with open(part, "r+b") as file:
                lock_descriptor(file.fileno())
            part.unlink()


def sync_folder(folder: Path) -> None:
    """Force the names in a folder to the disk, where the system lets a folder be opened for that."""
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _named(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno is None or not str(error.filename or ".part").endswith(".part"):
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error
