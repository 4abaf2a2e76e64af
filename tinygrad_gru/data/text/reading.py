"""Text from one file or from shards, block by block."""

from __future__ import annotations

import codecs
import io
import os
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path

from ..sharded import shard_paths

_BLOCK = 2**20  # bytes


def text_files(source: str | os.PathLike[str]) -> list[Path]:
    """The files of a text: one file; the `.txt` files of a folder; or those that match a pattern; by their names."""
    if os.path.isdir(source):
        paths = sorted(path for path in Path(source).glob("*.txt") if path.is_file())
        if not paths:
            raise FileNotFoundError(2, "the folder holds no .txt file: give a pattern of its files", os.fspath(source))
    else:
        paths = shard_paths(source)
    for path in paths:
        if path.is_char_device():  # some never end
            raise ValueError(f"{path} is a device: give a file, which can be read again when the run is resumed")
        if len(paths) > 1 and not path.stat().st_size:
            raise ValueError(f"{path} is empty: was this shard written to its end? leave it out")
    return paths


def text_blocks(paths: Sequence[Path], size: int = _BLOCK) -> Iterator[tuple[int, str]]:
    """The text of UTF-8 files, which follow each other, in blocks of `size` bytes, each with the number of its file.

    Line ends become newlines, and a byte order mark is left out. Raises ValueError, with the position, for another
    encoding, and for a file that changes while it is read.
    """
    for number, path in enumerate(paths):
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
