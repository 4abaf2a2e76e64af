"""A text as ids: of a small one in memory, of a large one in a file, which is written once and read by the batch."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import tempfile
import weakref
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from ...io import replacing
from ..sharded import ShardedArray
from .corpus import held_out_of
from .reading import name_of, text_blocks, text_files, vocabulary_file
from .vocabulary import CharacterVocabulary, code_points

_IN_MEMORY = 16 * 2**20  # bytes of text
_BLOCK = 4 * 2**20  # ids, when they are checked
_FORMAT = "tinygrad_gru text 2"
_DTYPES = ("|u1", "<u2", "<u4")


@dataclass(frozen=True)
class EncodedText:
    """A text whose characters are ids, in memory or on the disk: see `encoded_text`.

    `symbols` are its characters, in the order of their code points, `digest` is a SHA-256 of the whole text in UTF-8,
    `ends` the numbers of characters at which its files end.

    >>> from pathlib import Path
    >>> _ = Path("text.txt").write_text("do re mi fa so " * 10)
    >>> text = data.encoded_text("text.txt")
    >>> len(text), text.symbols, text.ends
    (150, ' adefimors', (150,))
    >>> training, held_out = text.encode(data.CharacterVocabulary(text.symbols))
    >>> len(training), held_out[:5].tolist()
    (135, [2, 7, 0, 8, 3])
    """

    name: str
    symbols: str
    digest: str
    ends: tuple[int, ...]
    _paths: tuple[Path, ...] = field(repr=False)
    _ids: Any = field(repr=False)  # np.ndarray or ShardedArray, of indices into _order
    _order: str = field(repr=False)

    @property
    def files(self) -> int:
        return len(self.ends)

    def __len__(self) -> int:
        return self.ends[-1]

    def encode(self, vocabulary: CharacterVocabulary) -> tuple[Any, np.ndarray]:
        """The ids of the part for training, an array or a ShardedArray, and those of the part that is held out.

        Raises ValueError, which names the first of them and where it is, for characters that the vocabulary lacks.
        """
        try:
            table = vocabulary.encode(self._order)
        except ValueError as error:
            raise ValueError(f"{self._first_unknown(vocabulary)}: {error}") from error
        boundary = len(self) - held_out_of(len(self))
        if isinstance(self._ids, ShardedArray):
            return _Ids(self._ids, table)[:boundary], table[np.asarray(self._ids[boundary:])]
        return table[self._ids[:boundary]], table[self._ids[boundary:]]

    def _first_unknown(self, vocabulary: CharacterVocabulary) -> str:
        """Where the first character is that the vocabulary lacks."""
        wrong = np.array([symbol not in vocabulary.symbols for symbol in self._order])
        for start in range(0, len(self), _IN_MEMORY):
            found = wrong[np.asarray(self._ids[start : start + _IN_MEMORY])]
            if found.any():
                position = start + int(found.argmax())
                file = int(np.searchsorted(self.ends, position, side="right"))
                begin = (0, *self.ends)[file]
                return f"{self._paths[file]} has an unknown character at position {position - begin}"
        raise AssertionError("all characters are known")


class _Ids(ShardedArray):
    """The ids of a text in a vocabulary: what is read goes through a table."""

    def __init__(self, array: ShardedArray, table: np.ndarray) -> None:
        vars(self).update(vars(array))
        self._table, self.dtype = table, table.dtype

    def _converted(self, rows: np.ndarray) -> np.ndarray:
        return self._table[rows]


def encoded_text(source: str | os.PathLike[str], cache: str | os.PathLike[str] | None = None) -> EncodedText:
    """A UTF-8 text as ids, in memory bounded by a block: one file, a folder of `.txt` files, or a pattern of files.

    Files may be `.npy`, of ids in a vocabulary that is described in `vocabulary.json` beside them (see
    `CharacterVocabulary.description`). Of several files, the text is that of all, in the order of their names
    ("part-00001.txt", …). It is read once, for its vocabulary, its digest and its ids. A text of more than 16 MiB is
    written as ids of the smallest integer type into the folder `cache`, where it is found again as long as its files
    have the same sizes and times, and its checksum is right; otherwise it is encoded anew. Nothing half-written is left
    behind. With None, or a folder that cannot be written, it is a temporary one.

    Raises ValueError for a text that is not UTF-8, too short, empty in one of its files, or changed while it is read.

    >>> from pathlib import Path
    >>> for number in range(3):
    ...     _ = Path(f"part-{number}.txt").write_text("do re mi fa so " * 10)
    >>> data.encoded_text("part-*.txt", cache="cache").ends
    (150, 300, 450)
    """
    paths = text_files(source)
    name = name_of(source, paths)
    if sum(path.stat().st_size for path in paths) <= _IN_MEMORY:
        blocks: list[np.ndarray] = []
        order, digest, ends = _encode(paths, np.dtype("<u4"), blocks.append)
        ids = np.concatenate([*blocks, np.empty(0, "<u4")]).astype(np.min_scalar_type(max(len(order) - 1, 0)))
        return _text(name, paths, ids, order, digest, ends)
    key = hashlib.sha256("\0".join(os.path.abspath(path) for path in paths).encode("utf-8", "surrogateescape"))
    if cache is not None and _is_writable(Path(cache)):
        array, facts = _on_disk(Path(cache) / f"{key.hexdigest()[:32]}.npy", paths)
    else:
        folder = Path(tempfile.mkdtemp(prefix="tinygrad_gru-"))
        try:
            array, facts = _on_disk(folder / "text.npy", paths)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        weakref.finalize(array._files[0], shutil.rmtree, folder, ignore_errors=True)
    return _text(name, paths, array, facts["symbols"], facts["digest"], facts["ends"])


def _on_disk(target: Path, paths: list[Path]) -> tuple[ShardedArray, dict[str, Any]]:
    """The ids in a file, which is written if it is not there or not of these files, and what is known of them."""
    found = _find(target, paths)
    if found is None:
        _write(target, paths)
        found = _find(target, paths)
    if found is None:
        raise ValueError(f"{paths[0]} or one of its shards changed while it was read: start again when all are written")
    return found


def _is_writable(folder: Path) -> bool:
    with suppress(OSError):  # no home, or one that can only be read, as in a container
        os.makedirs(folder, mode=0o700, exist_ok=True)  # a text may be private
    return os.access(folder, os.W_OK)


def _text(name: str, paths: list[Path], ids: Any, order: str, digest: str, ends: list[int]) -> EncodedText:
    held_out_of(ends[-1], " and ".join(map(str, paths[:2])) + (" …" if len(paths) > 2 else ""))
    return EncodedText(name, "".join(sorted(order)), digest, tuple(ends), tuple(paths), ids, order)


class _TooNarrow(Exception):
    """There are more symbols than ids of a dtype."""


def _encode(paths: list[Path], dtype: np.dtype, write: Callable[[Any], object]) -> tuple[str, str, list[int]]:
    """Write the ids of all characters by blocks; returns the symbols in the order of the ids, the digest, the ends."""
    id_of = np.full(0x110000, -1, np.int32)
    symbols: list[str] = []
    digest, ends = hashlib.sha256(), [0] * len(paths)
    count = 0
    for number, text in text_blocks(paths):
        points = code_points(text)
        ids = id_of[points]
        if ids.min() < 0:
            new = np.unique(points[ids < 0])
            id_of[new] = np.arange(len(symbols), len(symbols) + len(new))
            symbols += map(chr, new.tolist())
            if len(symbols) > np.iinfo(dtype).max + 1:
                raise _TooNarrow
            ids = id_of[points]
        digest.update(text.encode())
        count += len(text)
        ends[number] = count
        write(ids.astype(dtype))
    if len(paths) > 1 and 0 in ends:  # as a mark of the byte order alone
        raise ValueError(f"{paths[ends.index(0)]} is empty: was this shard written to its end? leave it out")
    return "".join(symbols), digest.hexdigest(), ends


def _identity(paths: list[Path]) -> list[list[Any]]:
    """What tells whether files have changed: their names, sizes and times."""
    vocabularies = {vocabulary_file(path) for path in paths if path.suffix == ".npy"}
    found = [(os.path.realpath(path), os.stat(path)) for path in (*paths, *sorted(vocabularies))]
    return [[name, status.st_size, status.st_mtime_ns, status.st_ctime_ns] for name, status in found]


def _write(target: Path, paths: list[Path]) -> None:
    """Encode a text into a `.npy` file; at its end are what is known of it in JSON, a CRC-32, and the JSON's length."""
    identity = _identity(paths)
    most = sum(size for _, size, *_ in identity)  # of characters
    for descr in _DTYPES:
        with suppress(_TooNarrow), _advising(target, most * int(descr[-1])), replacing(target) as file:
            _write_header(file, descr, most)
            begin = file.tell()
            checksum = 0

            def write(ids: np.ndarray, file: BinaryIO = file) -> None:
                nonlocal checksum
                checksum = zlib.crc32(ids.data, checksum)
                file.write(ids.data)

            order, digest, ends = _encode(paths, np.dtype(descr), write)
            facts = {"format": _FORMAT, "identity": identity, "symbols": order, "digest": digest, "ends": ends}
            content = json.dumps(facts).encode()
            checksum = zlib.crc32(content, checksum)
            file.write(content + checksum.to_bytes(4, "little") + len(content).to_bytes(8, "little"))
            file.seek(0)
            _write_header(file, descr, ends[-1])
            assert file.tell() == begin
            return


def _write_header(file: Any, descr: str, count: int) -> None:
    np.lib.format.write_array_header_1_0(file, {"descr": descr, "fortran_order": False, "shape": (count,)})


@contextmanager
def _advising(target: Path, size: int) -> Iterator[None]:
    """A block in which a disk that is full is answered with how much the encoded text needs, and where."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise
        words = f"the encoded text needs up to {size / 1e9:.1f} GB there; TINYGRAD_GRU_CACHE names another folder"
        raise OSError(error.errno, f"{error.strerror}: {words}", str(target)) from error


def _find(target: Path, paths: list[Path]) -> tuple[ShardedArray, dict[str, Any]] | None:
    """The ids in a file and what is known of them, if they are of these files as they are now."""
    with suppress(OSError, ValueError):
        array = ShardedArray([target])
        end = array._files[0].rest()
        content = end[-12 - int.from_bytes(end[-8:], "little") : -12]
        facts = json.loads(content)
        if (facts.get("format"), facts.get("identity")) == (_FORMAT, _identity(paths)):
            checksum = 0
            for start in range(0, len(array), _BLOCK):
                checksum = zlib.crc32(np.asarray(array[start : start + _BLOCK]).data, checksum)
            if zlib.crc32(content, checksum).to_bytes(4, "little") == end[-12:-8]:
                return array, facts
    return None
