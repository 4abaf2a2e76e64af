"""Limits for files that come from others: memory in proportion to the file's size, and one error for what is wrong.

    with open_untrusted(path, InteropError) as file:        # whatever the content is, only InteropError comes out
        budget = Budget.of(file)
        budget.spend(math.prod(shape) * itemsize, name)     # before the array is made

A few bytes can describe any amount of work: an array of a billion elements, one that is shared by a thousand names, a
list that contains itself twice, and so on for forty levels. So whatever a reader makes is paid for before it is made.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO

_FACTOR = 16
_FLOOR = 1 << 24


class FileFormatError(ValueError):
    """Content that is damaged, that is not of the format, or that asks for more than a file of its size may."""


class Budget:
    """What may be made while a file is read: so many bytes for each byte of the file, and some for small files.

    size    bytes of the file
    factor  how many bytes may be made of one; sharing and conversion to wider dtypes are what honest files need it for
    floor   what any file may make
    """

    def __init__(self, size: int, factor: int = _FACTOR, floor: int = _FLOOR) -> None:
        self.size, self.limit = size, max(factor * size, floor)
        self.left = self.limit

    @classmethod
    def of(cls, file: BinaryIO) -> Budget:
        """The budget of an open file."""
        return cls(os.fstat(file.fileno()).st_size)

    def spend(self, count: int, what: str) -> None:
        """Pay for `count` bytes. FileFormatError if they are more than what is left; `what` says what they are for."""
        if count < 0 or count > self.left:
            raise FileFormatError(
                f"{what}: the file asks for more than the {self.limit:,} bytes that are allowed for its {self.size:,} "
                "(made to fill memory, or damaged?)"
            )
        self.left -= count


@contextmanager
def untrusted(name: str, error: type[Exception]) -> Iterator[None]:
    """In this block whatever is raised because of the content of a file becomes `error`, which gives its name.

    MemoryError stays what it is: budgets keep small files from it.
    """
    try:
        yield
    except MemoryError:
        raise
    except (error, FileFormatError) as reason:
        raise error(f"{name}: {reason}") from reason
    except Exception as reason:  # a reader foresees what it can; what it did not is the file's fault all the same
        raise error(f"{name}: the file is damaged: {type(reason).__name__}: {reason}") from reason


@contextmanager
def open_untrusted(path: str | os.PathLike[str], error: type[Exception]) -> Iterator[BinaryIO]:
    """The open file, in a block of `untrusted`. An OSError of opening it stays what it is."""
    with open(path, "rb") as file, untrusted(str(path), error):
        yield file
