"""Text from one file or from shards, block by block."""

from __future__ import annotations

import codecs
import io
import json
import os
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path

from ..sharded import ShardedArray, shard_paths
from .vocabulary import CharacterVocabulary

_BLOCK = 2**20  # bytes


def text_files(source: str | os.PathLike[str]) -> list[Path]:
    """The files of a text: one file; the `.txt` files of a folder; or those that match a pattern; by their names.

    Hidden files, whose names begin with a dot, are not among them.
    """
    if os.path.isdir(source):
        paths = sorted(path for path in Path(source).glob("[!.]*.txt") if path.is_file())
        if not paths:
            raise FileNotFoundError(2, "the folder holds no .txt file: give a pattern of its files", os.fspath(source))
    else:
        paths = shard_paths(source)
    for path in paths:
        if path.is_char_device():  # some never end
            raise ValueError(f"{path} is a device: give a file, which can be read again when the run is resumed")
        if len(paths) > 1 and not path.stat().st_size:
            raise ValueError(f"{path} is empty: was this shard written to its end? leave it out")
        if path.suffix == ".npy" and not vocabulary_file(path).exists():
            words = "ids need their vocabulary beside them, as json.dumps(vocabulary.description())"
            raise FileNotFoundError(2, words, str(vocabulary_file(path)))
    return paths


def name_of(source: str | os.PathLike[str], paths: Sequence[Path]) -> str:
    """What a text is called: as its file, or as its folder or pattern."""
    return (paths[0] if len(paths) == 1 else Path(os.path.abspath(source))).name  # that of "." is empty


def text_blocks(paths: Sequence[Path], size: int = _BLOCK) -> Iterator[tuple[int, str]]:
    """The text of UTF-8 files, which follow each other, in blocks of `size` bytes, each with the number of its file.

    A `.npy` file holds ids of characters, in the vocabulary of the file `vocabulary.json` beside it. In other files
    line ends become newlines, and a byte order mark is left out. Raises ValueError, with the position, for another
    encoding, and for a file that changes while it is read.
    """
    for number, path in enumerate(paths):
        if path.suffix == ".npy":
            yield from ((number, text) for text in _decoded(path, size))
            continue
        decoder = io.IncrementalNewlineDecoder(codecs.getincrementaldecoder("utf-8-sig")(), translate=True)
        with open(path, "rb") as file:
            before, done = os.fstat(file.fileno()), 0
            while True:
                block = file.read(size)
                done += len(block)
                try:
                    text = decoder.decode(block, final=not block)
                except UnicodeDecodeError as error:
                    position = done - len(error.object) + error.start  # the decoder may have kept bytes of a character
                    raise ValueError(
                        f"{path} is not UTF-8 text: byte {position} cannot be read (another encoding, or a binary "
                        "file?)"
                    ) from error
                if text:
                    yield number, text
                if not block:
                    break
            after = os.fstat(file.fileno())
            if stat.S_ISREG(after.st_mode) and (before.st_mtime_ns, done) != (after.st_mtime_ns, after.st_size):
                raise ValueError(f"{path} changed while it was read: start again when it is written to its end")


def _decoded(path: Path, size: int) -> Iterator[str]:
    """The text of ids in a `.npy` file, in blocks."""
    vocabulary, ids = _vocabulary_of(path), ShardedArray([path])
    if ids.ndim != 1 or ids.dtype.kind not in "iu":
        raise ValueError(
            f"{path} holds {ids.dtype} of shape {ids.shape}, but a shard of a text is of ids, integers (N,)"
        )
    for start in range(0, len(ids), size):
        try:
            yield vocabulary.decode(ids[start : start + size])
        except ValueError as error:
            raise ValueError(f"{path}, rows from {start} on: {error}") from error


def vocabulary_file(path: Path) -> Path:
    """The file that says which characters the ids in a `.npy` file are."""
    return path.with_name("vocabulary.json")


def _vocabulary_of(path: Path) -> CharacterVocabulary:
    file = vocabulary_file(path)
    try:
        return CharacterVocabulary.from_description(json.loads(file.read_text(encoding="utf-8")))
    except ValueError as error:
        raise ValueError(f"{file}: {error}") from error
