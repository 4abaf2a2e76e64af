"""Text corpora: the source of Python's own standard library, or any text file.

The standard library is on every machine that runs this program, so training needs no download. Its text differs a
little between Python versions; the corpus includes a hash of the text.
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

import numpy as np

from .reading import name_of, text_blocks, text_files
from .vocabulary import CharacterVocabulary

# Tests, generated tables, programs that only some installations have, configuration of this machine, third-party
# packages, and distutils, which Python 3.12 removed.
_EXCLUDED = (
    "test", "tests", "__phello__", "idlelib", "turtledemo", "tkinter", "lib2to3", "distutils", "ensurepip",
    "encodings", "pydoc_data", "site-packages", "dist-packages", "config-*", "_sysconfigdata*", "sitecustomize.py",
)  # fmt: skip
_HELD_OUT_FILES = 20  # one file in
_HELD_OUT_TEXT = 10  # one part in
_MIN_HELD_OUT = 2  # a character is predicted from those before it
_MOST_HELD_OUT = 2**21  # the standard error of the loss on so many is below 0.002 nats


@dataclass(frozen=True)
class Corpus:
    """A text in two parts: one for training, and one held out for evaluation.

    `files` counts the files of both parts. `digest` is a SHA-256 that identifies the text: over the names and contents
    of the files, in order, or over the content alone for `text_corpus`, whose files may be moved.

    >>> corpus = data.Corpus("abc", training="abcabc", held_out="abc", files=1, digest="…")
    >>> len(corpus.training), len(corpus.held_out)
    (6, 3)
    """

    name: str
    training: str
    held_out: str
    files: int
    digest: str

    @property
    def symbols(self) -> str:
        """The characters that occur, in the order of their code points."""
        return CharacterVocabulary.from_text(self.training + self.held_out).symbols

    def encode(self, vocabulary: CharacterVocabulary) -> tuple[np.ndarray, np.ndarray]:
        """The ids of the part for training, and those of the part that is held out."""
        return vocabulary.encode(self.training), vocabulary.encode(self.held_out)


def standard_library(root: str | os.PathLike[str] | None = None) -> Corpus:
    """The source of the standard library under `root` (default: the running Python's).

    A file is held out if `zlib.crc32` of its path relative to `root`, written with slashes, is divisible by 20: about
    5.7 % of the characters in every version. Files are read as UTF-8, in the order of these paths. ValueError if there
    is too little to hold out.

    >>> corpus = data.standard_library()
    >>> corpus.files > 100, len(corpus.training) > 10 * len(corpus.held_out)
    (True, True)
    """
    root = Path(root if root is not None else sysconfig.get_paths()["stdlib"])
    texts: dict[bool, list[str]] = {False: [], True: []}
    digest = hashlib.sha256()
    for name in sorted(_source_files(root)):
        text = (root / name).read_text(encoding="utf-8", errors="replace")
        texts[is_held_out(name)].append(text)
        _add_to_digest(digest, name, text)
    training, held_out = "".join(texts[False]), "".join(texts[True])
    if not training or len(held_out) < _MIN_HELD_OUT:
        raise ValueError(
            f"{root} holds too little Python source to train on and to hold out "
            f"({len(texts[False])} and {len(texts[True])} files): this Python may keep its library in an archive; "
            "give a text file instead"
        )
    files = len(texts[False]) + len(texts[True])
    return Corpus("the Python standard library", training, held_out, files, digest.hexdigest())


def is_held_out(name: str) -> bool:
    """Whether the file `name` (a relative path with slashes) is held out from training."""
    return zlib.crc32(name.encode("utf-8")) % _HELD_OUT_FILES == 0


def text_corpus(path: str | os.PathLike[str]) -> Corpus:
    """A corpus of a UTF-8 text: its last tenth, at most 2 Mi characters, is held out, and the rest is for training.

    It is held in memory; `encoded_text`, which takes the same files and patterns, is for a larger one. Raises
    ValueError for another encoding and for less than 20 characters.

    >>> from pathlib import Path
    >>> _ = Path("text.txt").write_text("do re mi fa so " * 10)
    >>> data.text_corpus("text.txt").held_out
    'do re mi fa so '
    """
    paths = text_files(path)
    text = "".join(block for _, block in text_blocks(paths))
    boundary = len(text) - held_out_of(len(text), path)
    digest = hashlib.sha256(text.encode()).hexdigest()
    return Corpus(name_of(path, paths), text[:boundary], text[boundary:], len(paths), digest)


def held_out_of(characters: int, name: object = "the text") -> int:
    """How many characters at the end of a text are held out. ValueError, with its `name`, if there are too few."""
    held_out = min(characters // _HELD_OUT_TEXT, _MOST_HELD_OUT)
    if held_out < _MIN_HELD_OUT:
        raise ValueError(
            f"{name} holds {characters} characters: too short a text to hold out a tenth, of which at least "
            f"{_MIN_HELD_OUT} are needed"
        )
    return held_out


def _source_files(root: Path) -> Iterator[str]:
    """The paths of the Python files that are not excluded, relative to `root` and with slashes."""
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
