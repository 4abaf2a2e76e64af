"""Text to learn from: the source of Python's own standard library, or any text file.

The standard library is on every machine that runs this program, so the main job needs no download. Its text differs a
little from one Python version to the next; the corpus carries a hash of what was read, to record beside a result.
"""

from __future__ import annotations

import hashlib
import os
import sysconfig
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

# Tests, generated tables, programs that only some installations have, what belongs to one machine or comes from
# elsewhere, and distutils, which left the library with Python 3.12.
_EXCLUDED = (
    "test", "tests", "__phello__", "idlelib", "turtledemo", "tkinter", "lib2to3", "distutils", "ensurepip",
    "encodings", "pydoc_data", "site-packages", "dist-packages", "config-*", "_sysconfigdata*", "sitecustomize.py",
)  # fmt: skip
_ONE_FILE_IN = 20
_HELD_OUT_PART = 10
_FEWEST_HELD_OUT = 2  # a character is judged by those before it


@dataclass(frozen=True)
class Corpus:
    """Text in two parts: one to train on, and one that is held out to judge by.

    `files` counts the files of both parts. `digest` is a SHA-256 by which the text is known again: over the names and
    contents of the files, in order, or over the content alone where it is one file, which may be moved.
    """

    name: str
    training: str
    held_out: str
    files: int
    digest: str


def standard_library(root: str | os.PathLike[str] | None = None) -> Corpus:
    """The source of the standard library under `root` (default: the running Python's).

    A file is held out if `zlib.crc32` of its path relative to `root`, written with slashes, divides by 20: about 5.7 %
    of the characters, whatever the version. Files are read in the order of these paths, as UTF-8.
    """
    root = Path(root if root is not None else sysconfig.get_paths()["stdlib"])
    parts: dict[bool, list[str]] = {False: [], True: []}
    digest = hashlib.sha256()
    for name in sorted(_source_files(root)):
        text = (root / name).read_text(encoding="utf-8", errors="replace")
        parts[is_held_out(name)].append(text)
        _add_to_digest(digest, name, text)
    training, held_out = "".join(parts[False]), "".join(parts[True])
    if not training or len(held_out) < _FEWEST_HELD_OUT:
        raise ValueError(
            f"{root} holds too little Python source to train on and to hold out "
            f"({len(parts[False])} and {len(parts[True])} files): this Python may keep its library in an archive; "
            "give a text file instead"
        )
    files = len(parts[False]) + len(parts[True])
    return Corpus("the Python standard library", training, held_out, files, digest.hexdigest())


def is_held_out(name: str) -> bool:
    """Whether the file called `name` (a relative path with slashes) is kept from training."""
    return zlib.crc32(name.encode("utf-8")) % _ONE_FILE_IN == 0


def text_corpus(path: str | os.PathLike[str]) -> Corpus:
    """One UTF-8 text file: its last tenth is held out, the rest is for training."""
    path = Path(path)
    if path.is_char_device():  # some never end
        raise ValueError(f"{path} is a device: give a file that can be read again when the run is resumed")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{path} is not UTF-8 text: byte {error.start} cannot be read (another encoding, or a binary file?)"
        ) from error
    if len(text) < _FEWEST_HELD_OUT * _HELD_OUT_PART:
        raise ValueError(
            f"{path} holds {len(text)} characters: too short a text to hold out a tenth, of which at least "
            f"{_FEWEST_HELD_OUT} are needed"
        )
    boundary = len(text) - len(text) // _HELD_OUT_PART
    digest = hashlib.sha256(text.encode()).hexdigest()
    return Corpus(path.name, text[:boundary], text[boundary:], 1, digest)


def _source_files(root: Path) -> Iterator[str]:
    """Paths of the Python files that count, relative to `root` and with slashes."""
    for folder, subfolders, files in os.walk(root):
        subfolders[:] = [name for name in subfolders if not _is_excluded(name)]
        for name in files:
            if name.endswith(".py") and not _is_excluded(name):
                yield Path(folder, name).relative_to(root).as_posix()


def _is_excluded(name: str) -> bool:
    return any(fnmatch(name, pattern) for pattern in _EXCLUDED)


def _add_to_digest(digest: hashlib._Hash, name: str, text: str) -> None:
    for part in (name, text):
        content = part.encode("utf-8", "surrogatepass")
        digest.update(len(content).to_bytes(8, "little"))
        digest.update(content)
