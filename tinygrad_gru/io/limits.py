"""Limits for untrusted files: memory in proportion to the file's size, and one error type for invalid content.

    with open_untrusted(path, InteropError) as file:        # whatever the content is, only InteropError is raised
        budget = Budget.of(file)
        budget.spend(math.prod(shape) * itemsize, name)     # before the array is allocated

A few bytes can describe any amount of work: an array of a billion elements, one that is shared by a thousand names, a
list that contains itself twice, forty levels deep. So a reader spends from the budget before each allocation.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO

_FACTOR = 16
_MINIMUM = 1 << 24


class FileFormatError(ValueError):
    """The content of a file is damaged, of another format, or requires more memory than a file of its size may."""


class Budget:
    """An allocation budget for reading a file: a number of bytes per byte of the file, and a minimum for small ones.

    size     bytes of the file
    factor   bytes that may be allocated per byte; valid files need more than 1 for sharing and for wider dtypes
    minimum  bytes that any file may allocate

    >>> io.Budget(size=100, minimum=0).limit
    1600
    """

    def __init__(self, size: int, factor: int = _FACTOR, minimum: int = _MINIMUM) -> None:
        self.size, self.limit = size, max(factor * size, minimum)
        self.left = self.limit

    @classmethod
    def of(cls, file: BinaryIO) -> Budget:
        """The budget of an open file."""
        return cls(os.fstat(file.fileno()).st_size)

    def spend(self, count: int, what: str) -> None:
        """Spend `count` bytes on `what`. Raises FileFormatError if fewer are left."""
        if count < 0 or count > self.left:
            raise FileFormatError(
                f"{what}: the file requires more than the {self.limit:,} bytes that are allowed for its {self.size:,} "
                "(made to exhaust memory, or damaged?)"
            )
        self.left -= count


@contextmanager
def untrusted(name: str, error: type[Exception]) -> Iterator[None]:
    """A block in which any exception that the content of a file causes is raised as `error`, with the file's `name`.

    MemoryError is not converted: budgets prevent it for small files.

    >>> with io.untrusted("weights", ValueError):
    ...     {}["header"]
    Traceback (most recent call last):
    ValueError: weights: ...
    """
    try:
        yield
    except MemoryError:
        raise
    except (error, FileFormatError) as reason:
        raise error(f"{name}: {reason}") from reason
    except Exception as reason:  # of a case that the reader does not check for
        raise error(f"{name}: the file is damaged: {type(reason).__name__}: {reason}") from reason


@contextmanager
def open_untrusted(path: str | os.PathLike[str], error: type[Exception]) -> Iterator[BinaryIO]:
    """The open file, in a block of `untrusted`. An OSError of opening it is not converted; an empty file is refused.

    >>> with open("weights", "wb") as file:
    ...     _ = file.write(b"not what was expected")
    >>> with io.open_untrusted("weights", ValueError) as file:
    ...     file.read(3)
    b'not'
    """
    if not isinstance(path, (str, bytes, os.PathLike)):  # `open` takes an integer, as the file that is open at it
        raise TypeError(f"path: expected a str or a Path, got a {type(path).__name__}")
    with open(path, "rb") as file, untrusted(str(path), error):
        status = os.fstat(file.fileno())
        if stat.S_ISREG(status.st_mode) and not status.st_size:
            raise error("the file is empty")
        yield file
