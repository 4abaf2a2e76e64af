"""Files of `torch.save`, read without running what is in them.

Such a file is a zip archive: `data.pkl` is a pickle that says what was saved, `data/0`, `data/1`, … are the numbers. A
pickle is a program for a small stack machine, and its instruction REDUCE calls any function that the file names. The
machine here knows the instructions that build dictionaries, lists and tensors. It calls nothing: the few names that it
understands stand for what it does itself, and any other name is refused.
"""

from __future__ import annotations

import math
import os
import pickletools
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from .errors import InteropError

_BFLOAT16 = "bfloat16"
_STORAGES = {
    "DoubleStorage": "f8", "FloatStorage": "f4", "HalfStorage": "f2", "BFloat16Storage": _BFLOAT16,
    "LongStorage": "i8", "IntStorage": "i4", "ShortStorage": "i2", "CharStorage": "i1", "ByteStorage": "u1",
    "BoolStorage": "?",
}  # fmt: skip
_ORDERED, _SIZE = "collections.OrderedDict", "torch.Size"
_TENSOR, _PARAMETER = "torch._utils._rebuild_tensor_v2", "torch._utils._rebuild_parameter"
_NAMES = {_ORDERED, _SIZE, _TENSOR, _PARAMETER, *(f"torch.{name}" for name in _STORAGES)}

_CONSTANTS: dict[str, Callable[[], Any]] = {
    "NONE": lambda: None, "NEWTRUE": lambda: True, "NEWFALSE": lambda: False,
    "EMPTY_TUPLE": tuple, "EMPTY_LIST": list, "EMPTY_DICT": dict,
}  # fmt: skip
_VALUES = {
    "BININT", "BININT1", "BININT2", "LONG1", "LONG4", "BINFLOAT",
    "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8",
}  # fmt: skip
_NOTHING = {"PROTO", "FRAME", "STOP"}


class _Name(NamedTuple):
    """A name of the file's program; nothing is looked up under it."""

    path: str


class _Storage(NamedTuple):
    """The numbers of one or several tensors, as they lie in the archive."""

    numbers: np.ndarray
    kind: str


def read_torch_file(path: str | os.PathLike[str]) -> Any:
    """What `torch.save` wrote: dictionaries, lists, numbers and strings, with NumPy arrays for tensors.

    bfloat16, which NumPy does not have, becomes float32; that is exact. Raises InteropError for a file that is not
    such an archive, that is damaged, or that holds more than data.
    """
    path = Path(path)
    try:
        with zipfile.ZipFile(path) as archive:
            return _Archive(archive).value()
    except InteropError as error:
        raise InteropError(f"{path}: {error}") from error
    except zipfile.BadZipFile as error:
        raise InteropError(
            f"{path}: expected a zip archive of torch.save (a file from before torch 1.6, a whole pickle, or cut "
            f"short?): {error}"
        ) from error
    except (ArithmeticError, LookupError, MemoryError, RecursionError, TypeError, ValueError, struct.error) as error:
        raise InteropError(f"{path}: the archive is damaged: {type(error).__name__}: {error}") from error


class _Archive:
    def __init__(self, archive: zipfile.ZipFile):
        self.archive = archive
        programs = [name for name in archive.namelist() if name.rpartition("/")[2] == "data.pkl"]
        if len(programs) != 1:
            raise InteropError("expected an archive of torch.save with one data.pkl (a file of another kind?)")
        self.folder = programs[0].removesuffix("data.pkl")
        if f"{self.folder}constants.pkl" in archive.namelist():
            raise InteropError("a TorchScript archive holds code: save the module's state_dict() instead")
        order = self._member("byteorder") if f"{self.folder}byteorder" in archive.namelist() else b"little"
        self.is_big = {b"little": False, b"big": True}[order]

    def value(self) -> Any:
        return _Machine(self.storage).run(self._member("data.pkl"))

    def _member(self, name: str) -> bytes:
        entry = self.archive.getinfo(self.folder + name)
        if entry.compress_type != zipfile.ZIP_STORED:  # torch never does that, and a few bytes may unfold to gigabytes
            raise InteropError(f"{name} is compressed, which torch.save does not do")
        return self.archive.read(entry)

    def storage(self, described: Any) -> _Storage:
        """The storage that a pickle refers to as ("storage", its type, its name, a device, the number of elements)."""
        tag, kind, key, _, count = described
        if tag != "storage":
            raise InteropError(f"expected a reference to a storage, got {tag!r}")
        kind = _STORAGES[kind.path.removeprefix("torch.")]
        dtype = np.dtype("u2" if kind == _BFLOAT16 else kind).newbyteorder(">" if self.is_big else "<")
        return _Storage(np.frombuffer(self._member(f"data/{key}"), dtype, count), kind)


class _Machine:
    """Runs the program of a pickle, as far as it makes data.

    storage  gives the `_Storage` for a reference to one
    """

    def __init__(self, storage: Callable[[Any], _Storage]):
        self.storage = storage
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}

    def run(self, program: bytes) -> Any:
        for instruction, argument, _ in pickletools.genops(program):
            self._do(instruction.name, argument)
        (result,) = self.stack
        return result

    def _do(self, name: str, argument: Any) -> None:
        stack = self.stack
        if name in _VALUES:
            stack.append(argument)
        elif name in _CONSTANTS:
            stack.append(_CONSTANTS[name]())
        elif name in ("BINPUT", "LONG_BINPUT"):
            self.memo[argument] = stack[-1]
        elif name == "MEMOIZE":
            self.memo[len(self.memo)] = stack[-1]
        elif name in ("BINGET", "LONG_BINGET"):
            stack.append(self.memo[argument])
        elif name == "MARK":
            self.marks.append(len(stack))
        elif name in ("TUPLE", "TUPLE1", "TUPLE2", "TUPLE3"):
            stack.append(tuple(self._taken(None if name == "TUPLE" else int(name[-1]))))
        elif name in ("APPEND", "APPENDS"):
            items = self._taken(1 if name == "APPEND" else None)
            _a(list, stack[-1]).extend(items)
        elif name in ("SETITEM", "SETITEMS"):
            items = self._taken(2 if name == "SETITEM" else None)
            _a(dict, stack[-1]).update(zip(items[::2], items[1::2]))
        elif name == "GLOBAL":
            stack.append(_known(argument.replace(" ", ".")))
        elif name == "STACK_GLOBAL":
            stack.append(_known(".".join(self._taken(2))))
        elif name == "BINPERSID":
            stack.append(self.storage(stack.pop()))
        elif name == "REDUCE":
            called, arguments = self._taken(2)
            stack.append(_made(_a(_Name, called).path, arguments))
        elif name == "BUILD":  # the versions of the modules, which a state_dict carries as an attribute
            stack.pop()
            _a(dict, stack[-1])
        elif name not in _NOTHING:
            raise InteropError(f"the pickle has an instruction {name}, which no state_dict needs")

    def _taken(self, count: int | None) -> list[Any]:
        """The last `count` values, or those since the last mark, taken off the stack."""
        start = self.marks.pop() if count is None else len(self.stack) - count
        taken = self.stack[start:]
        if start < 0 or start > len(self.stack):
            raise IndexError("the stack is empty")
        del self.stack[start:]
        return taken


def _known(path: str) -> _Name:
    if path not in _NAMES:
        raise InteropError(
            f"it asks for {path}, which would mean to run code from a file; only tensors in dictionaries and lists are "
            "read (a whole module was saved? save its state_dict() instead)"
        )
    return _Name(path)


def _a(kind: type, value: Any) -> Any:
    if not isinstance(value, kind):
        raise TypeError(f"expected a {kind.__name__}, got a {type(value).__name__}")
    return value


def _made(path: str, arguments: tuple) -> Any:
    if path == _TENSOR:
        return _tensor(*arguments[:4])
    if path == _PARAMETER:
        return _a(np.ndarray, arguments[0])
    if path == _SIZE:
        return tuple(arguments[0])
    if path == _ORDERED:
        return dict(*arguments)
    raise TypeError(f"{path} is not called in a state_dict")


def _tensor(storage: _Storage, offset: int, shape: tuple[int, ...], strides: tuple[int, ...]) -> np.ndarray:
    """The elements of a storage that a tensor shows, as an array of its own."""
    numbers, kind = storage
    size = math.prod(shape)
    last = offset + sum((n - 1) * stride for n, stride in zip(shape, strides)) if size else offset
    fits = len(shape) == len(strides) and min(offset, *shape, *strides, 0) == 0 and last < len(numbers) + (size == 0)
    if not fits or size > len(numbers):
        raise InteropError(
            f"a tensor of shape {shape} and strides {strides} from place {offset} on does not lie in a storage of "
            f"{len(numbers)} elements (an expanded tensor? save its .contiguous())"
        )
    steps = tuple(stride * numbers.itemsize for stride in strides)
    array = np.lib.stride_tricks.as_strided(numbers[offset:], shape, steps)
    if kind == _BFLOAT16:  # the upper half of a float32
        return (array.astype(np.uint32) << 16).view(np.float32)
    return array.astype(array.dtype.newbyteorder("="))
