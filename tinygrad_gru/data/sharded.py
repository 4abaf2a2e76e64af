"""Arrays in files, of which only the rows that are asked for are read."""

from __future__ import annotations

import copy
import os
import threading
from bisect import bisect_right
from collections.abc import Iterable
from glob import glob
from itertools import accumulate, pairwise
from math import prod
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

_MOST_OPEN = 64  # files: systems allow a process some hundred


class ShardedArray:
    """An array in `.npy` files (shards), one after the other along its first axis, which may be larger than memory.

    `shards` is a list of paths, or a pattern such as "part-*.npy", whose files are taken in the order of their names.
    As of a NumPy array, a slice (of step 1) is a view, here one that reads nothing. An index or an array of indices
    reads these rows, and `np.asarray` reads all. `ArrayBatches`, `StreamBatches` and `TextStream` take one as an array.

    Rows are read and not mapped into memory, so that what was read does not count as memory of the process, and a file
    that shrinks is an error and no crash. Raises ValueError for shards of different dtypes or shapes, and for
    an empty or a truncated one; OSError, which names it, if a shard has vanished or was changed since the first look.

    >>> for number in range(2):
    ...     np.save(f"part-{number}.npy", np.arange(6).reshape(3, 2) + 10 * number)
    >>> array = data.ShardedArray("part-*.npy")
    >>> array, len(array[2:]), array[[1, 4]].tolist()
    (ShardedArray(int64 of shape (6, 2) in 2 files), 4, [[2, 3], [12, 13]])
    """

    def __init__(self, shards: str | os.PathLike[str] | Iterable[str | os.PathLike[str]]) -> None:
        paths = shard_paths(shards) if isinstance(shards, (str, os.PathLike)) else [Path(shard) for shard in shards]
        if not paths:
            raise ValueError("shards: the list is empty")
        self._files = [_File(path) for path in paths]
        first = self._files[0]
        for file in self._files:
            if (file.dtype, file.shape[1:]) != (first.dtype, first.shape[1:]):
                raise ValueError(
                    f"{file.path} has rows of {file.dtype} and shape {file.shape[1:]}, but {first.path} has "
                    f"{first.dtype} and {first.shape[1:]}: are they shards of one array?"
                )
        self._ends = list(accumulate(file.shape[0] for file in self._files))
        self._opened: list[_File] = []
        self._start, self._stop = 0, self._ends[-1]
        self.dtype = first.dtype

    @property
    def shape(self) -> tuple[int, ...]:
        return (len(self), *self._files[0].shape[1:])

    @property
    def ndim(self) -> int:
        return len(self.shape)

    def __len__(self) -> int:
        return self._stop - self._start

    def __repr__(self) -> str:
        files = f"{len(self._files)} file{'s' * (len(self._files) > 1)}"
        return f"{type(self).__name__}({self.dtype} of shape {self.shape} in {files})"

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            start, stop, step = index.indices(len(self))
            if step != 1:
                raise IndexError(f"a slice of shards has the step 1, got {step}: give an array of indices")
            view = copy.copy(self)
            view._start, view._stop = self._start + start, self._start + max(start, stop)
            return view
        indices = np.asarray(index)
        if not indices.size and not hasattr(index, "dtype"):  # an empty list has no integers to tell it by
            indices = indices.astype(int)
        if indices.dtype.kind not in "iu" or isinstance(index, tuple):  # array[1, 0] is an element, and no two rows
            raise IndexError(f"shards are indexed along their first axis, by integers or a slice, got {index!r:.80}")
        wrong = (indices < -len(self)) | (indices >= len(self))
        if wrong.any():
            raise IndexError(f"index {indices[wrong].flat[0]} is out of bounds for {len(self)} rows")
        indices = indices.astype(np.int64)  # sums of smaller types would overflow
        rows = np.where(indices < 0, indices + len(self), indices).reshape(-1) + self._start
        result = np.empty((rows.size, *self._files[0].shape[1:]), self._files[0].dtype)
        edges = [0, *(np.flatnonzero(np.diff(rows) != 1) + 1).tolist(), rows.size]
        for begin, end in pairwise(edges):  # runs of rows that follow each other
            if end > begin:
                self._read(int(rows[begin]), result[begin:end])
        return self._converted(result.reshape(indices.shape + result.shape[1:]))[()]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        if copy is False:
            raise ValueError("shards are on the disk: an array of them is a copy")
        result = np.empty((len(self), *self._files[0].shape[1:]), self._files[0].dtype)
        self._read(self._start, result)
        result = self._converted(result)
        return result if dtype is None else result.astype(dtype, copy=False)

    def _converted(self, rows: np.ndarray) -> np.ndarray:
        """What is given for the rows in the files."""
        return rows

    def _read(self, row: int, out: np.ndarray) -> None:
        """Read the rows of all shards from `row` on into `out`."""
        done = 0
        while done < len(out):
            shard = bisect_right(self._ends, row + done)
            begin = self._ends[shard] - self._files[shard].shape[0]
            count = min(self._ends[shard] - row - done, len(out) - done)
            self._file(shard).read(row + done - begin, out[done : done + count])
            done += count

    def _file(self, shard: int) -> _File:
        """The file of a shard; the one that was opened first is closed if there are too many."""
        file = self._files[shard]
        if not file.is_open:
            self._opened.append(file)
            if len(self._opened) > _MOST_OPEN:
                self._opened.pop(0).close()
        return file


def shard_paths(pattern: str | os.PathLike[str]) -> list[Path]:
    """The file at this path, or those that match this pattern, in the order of their names."""
    if os.path.exists(pattern):
        return [Path(pattern)]
    paths = sorted(Path(name) for name in glob(os.fspath(pattern)))
    if not paths:
        raise FileNotFoundError(2, "there is no such file, and none that matches it as a pattern", os.fspath(pattern))
    return paths


class _File:
    """One `.npy` file: its header, and its rows, which are read when they are asked for."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._opened: BinaryIO | None = None
        self._seen: tuple[int, int] | None = None
        file = self._open()
        try:
            version = np.lib.format.read_magic(file)
            read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}[version]
            self.shape, fortran, self.dtype = read(file)
        except (ValueError, KeyError) as error:
            raise ValueError(f"{path} is not a .npy file: {error}") from error
        if fortran or self.dtype.kind not in "biuf" or not self.shape:
            order = ", in Fortran order" if fortran else ""
            raise ValueError(
                f"{path} holds {self.dtype} of shape {self.shape}{order}, but a shard is an array of numbers in C "
                "order: np.save(path, np.ascontiguousarray(array))"
            )
        if not self.shape[0]:
            raise ValueError(
                f"{path} is an empty shard, of shape {self.shape}: was it written to its end? leave it out"
            )
        self.begin, self.row = file.tell(), self.dtype.itemsize * prod(self.shape[1:])
        self.end = self.begin + self.row * self.shape[0]
        if os.fstat(file.fileno()).st_size < self.end:
            raise ValueError(f"{path} is truncated: its header says {self.shape}, which it does not hold")
        self.close()

    @property
    def is_open(self) -> bool:
        return self._opened is not None

    def close(self) -> None:
        with self._lock:  # not while another thread reads: the next file that is opened has the same number
            file, self._opened = self._opened, None
            if file is not None:
                file.close()

    def __del__(self) -> None:  # nobody reads, and a process that was forked may have the lock closed for ever
        if self._opened is not None:
            self._opened.close()

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name not in ("_lock", "_opened")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """A copy, which another process may have, opens the file itself, and sees whether it has changed."""
        vars(self).update(state, _lock=threading.Lock(), _opened=None)

    def _open(self) -> BinaryIO:
        file = self._opened
        if file is None:
            file = open(self.path, "rb", buffering=0)  # noqa: SIM115  (see `close`)
            try:
                self._check_unchanged(file)
            except OSError:
                file.close()
                raise
            self._opened = file
        return file

    def _check_unchanged(self, file: BinaryIO) -> None:
        status = os.fstat(file.fileno())
        seen = (status.st_size, status.st_mtime_ns)
        if self._seen not in (None, seen):
            raise OSError(f"{self.path} has changed since it was first opened: batches would be of two data sets")
        self._seen = seen

    def read(self, row: int, out: np.ndarray) -> None:
        """Read the rows from `row` on into an array, C-contiguous."""
        self._read_at(self.begin + row * self.row, out.reshape(-1).view(np.uint8).data)

    def rest(self) -> bytes:
        """What follows the array in the file."""
        content = bytearray(os.fstat(self._open().fileno()).st_size - self.end)
        self._read_at(self.end, memoryview(content))
        return bytes(content)

    def _read_at(self, offset: int, out: memoryview) -> None:
        with self._lock:  # another thread would close the file, or where there is no pread move its position
            file = self._open()
            while len(out):
                if hasattr(os, "pread"):  # a process that was forked shares the position
                    content = os.pread(file.fileno(), min(len(out), 2**30), offset)
                else:
                    file.seek(offset)
                    content = file.read(min(len(out), 2**30))
                if not content:
                    raise OSError(f"{self.path} ends before its last row: it was truncated while it was in use")
                out[: len(content)] = content
                out, offset = out[len(content) :], offset + len(content)
            self._check_unchanged(file)  # not only of a file that is opened again: np.save writes into this one
