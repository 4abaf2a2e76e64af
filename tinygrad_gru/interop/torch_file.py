"""Reader of `torch.save` files that runs no code of theirs.

Such a file is a zip archive: `data.pkl` is a pickle of what was saved, `data/0`, `data/1`, … are the storages. A pickle
is a program for a small stack machine, and its instruction REDUCE calls any function that the file names. The machine
here (`unpickle.py`) has the instructions that build dictionaries, lists and tensors. It calls nothing: the few names
that it accepts are implemented here, and any other name is refused.
"""

from __future__ import annotations

import math
import os
import zipfile
from typing import Any, BinaryIO, Literal, NamedTuple

import numpy as np

from ..io import Budget, open_untrusted
from .errors import InteropError
from .unpickle import Name, Unpickler

_BFLOAT16 = "bfloat16"
_STORAGES = {
    "DoubleStorage": "f8", "FloatStorage": "f4", "HalfStorage": "f2", "BFloat16Storage": _BFLOAT16,
    "LongStorage": "i8", "IntStorage": "i4", "ShortStorage": "i2", "CharStorage": "i1", "ByteStorage": "u1",
    "BoolStorage": "?",
}  # fmt: skip
_FUNCTIONS = (
    "collections.OrderedDict", "torch.Size", "torch._utils._rebuild_tensor_v2", "torch._utils._rebuild_parameter",
)  # fmt: skip
_NAMES = frozenset({*_FUNCTIONS, *(f"torch.{name}" for name in _STORAGES)})
#: Tensors that are not dense arrays of a supported dtype, and what to save instead.
_ALTERNATIVES = {
    "torch._utils._rebuild_sparse_tensor": "a sparse tensor: save its .to_dense()",
    "torch._utils._rebuild_nested_tensor": "a nested tensor: save its .to_padded_tensor(0)",
    "torch._utils._rebuild_qtensor": "a quantized tensor: save its .dequantize()",
    "torch._utils._rebuild_meta_tensor_no_storage": "a tensor on the meta device, which has no numbers",
    "torch._utils._rebuild_tensor_v3": "a tensor of a dtype that is not read here: save its .float() or .long()",
    **{
        f"torch.{name}Storage": "complex numbers, which no module here has: save torch.view_as_real of them"
        for name in ("ComplexFloat", "ComplexDouble")
    },
}
_MAX_RANK = 64  # NumPy's


class _Storage(NamedTuple):
    """The elements of one or several tensors, in the archive's dtype, and the code of that dtype."""

    numbers: np.ndarray
    code: str


def read_torch_file(path: str | os.PathLike[str]) -> Any:
    """The content of a `torch.save` file: dictionaries, lists, numbers and strings, with NumPy arrays for tensors.

    bfloat16, which NumPy does not have, is converted to float32; that is exact. Raises InteropError for a file that is
    not such an archive, is damaged, contains more than data, or requires much more memory than its size.
    """
    with open_untrusted(path, InteropError) as file:
        try:
            with zipfile.ZipFile(file) as archive:
                return _Archive(archive, file).value()
        except (zipfile.BadZipFile, NotImplementedError, UnicodeError, OSError) as error:  # those of zipfile
            raise InteropError(
                "expected a zip archive of torch.save (a file from before torch 1.6, a whole pickle, or cut short?): "
                f"{error}"
            ) from error


class _Archive:
    """A zip archive of torch.save, and the budget of memory for its content."""

    def __init__(self, archive: zipfile.ZipFile, file: BinaryIO):
        self.archive, self.budget = archive, Budget.of(file)
        self.storages: dict[str, tuple[tuple[str, int], _Storage]] = {}
        names = archive.namelist()
        if len(set(names)) != len(names):
            raise InteropError("several members of the archive have the same name, so that it is ambiguous")
        programs = [name for name in names if name.rpartition("/")[2] == "data.pkl"]
        if len(programs) != 1:
            raise InteropError("expected an archive of torch.save with one data.pkl (a file of another format?)")
        self.folder = programs[0].removesuffix("data.pkl")
        if f"{self.folder}constants.pkl" in names:
            raise InteropError("a TorchScript archive holds code: save the module's state_dict() instead")
        order = self._member("byteorder") if f"{self.folder}byteorder" in names else b"little"
        if order not in (b"little", b"big"):
            raise InteropError(f"byteorder: expected little or big, got {order[:20]!r}")
        self.order: Literal["<", ">"] = ">" if order == b"big" else "<"

    def value(self) -> Any:
        machine = Unpickler(_NAMES, _ALTERNATIVES, self.storage, self.call, self.budget)
        return machine.run(self._member("data.pkl"))

    def _member(self, name: str) -> bytes:
        try:
            entry = self.archive.getinfo(self.folder + name)
        except KeyError:
            raise InteropError(f"{name} is missing in the archive") from None
        if entry.compress_type != zipfile.ZIP_STORED:  # torch never does that, and a few bytes may expand to gigabytes
            raise InteropError(f"{name} is compressed, which torch.save does not do")
        if entry.file_size != entry.compress_size or entry.file_size > self.budget.size:
            raise InteropError(f"{name}: the archive says that it has {entry.file_size:,} bytes, which it cannot have")
        self.budget.spend(entry.file_size, name)
        return self.archive.read(entry)

    def storage(self, described: Any) -> _Storage:
        """The storage that a pickle refers to as ("storage", its type, its name, a device, the number of elements)."""
        if type(described) is not tuple or tuple(map(type, described)) != (str, Name, str, str, int):
            raise InteropError("the file is damaged: expected a reference to a storage")
        _, name, key, _, count = described
        code = _STORAGES.get(name.path.removeprefix("torch."))
        if code is None:
            raise InteropError(f"the file is damaged: {name.path} is not a storage")
        if key not in self.storages:
            dtype = np.dtype({_BFLOAT16: "u2", "?": "u1"}.get(code, code)).newbyteorder(self.order)
            content = self._member(f"data/{key}")
            if len(content) != count * dtype.itemsize:
                raise InteropError(f"data/{key}: expected {count} elements of {dtype}, got {len(content)} bytes")
            self.storages[key] = (code, count), _Storage(np.frombuffer(content, dtype), code)
        known, storage = self.storages[key]
        if known != (code, count):
            raise InteropError(f"data/{key} is read as {code} and as {known[0]}, of {count} and of {known[1]} elements")
        return storage

    def call(self, path: str, arguments: tuple) -> Any:
        """The result of the function of that name, with arguments as in files of torch.save."""
        match path, arguments:
            case "torch._utils._rebuild_tensor_v2", (_Storage() as storage, offset, shape, strides, _, _, *metadata):
                return _resolved(self.tensor(storage, offset, shape, strides), metadata)
            case "torch._utils._rebuild_parameter", (np.ndarray() as parameter, _, _):
                return parameter
            case "torch.Size", (tuple() as sizes,):
                return _sizes(sizes)
            case "collections.OrderedDict", ():
                return {}
        raise InteropError(f"the file is damaged: {path} is called in a way that no state_dict needs")

    def tensor(self, storage: _Storage, offset: Any, shape: Any, strides: Any) -> np.ndarray:
        """A tensor of a storage, copied into a contiguous array."""
        numbers, code = storage
        (offset,), shape, strides = _sizes((offset,)), _sizes(shape), _sizes(strides)
        size = math.prod(shape)
        last = offset + sum((n - 1) * stride for n, stride in zip(shape, strides)) if size else offset
        fits = len(shape) == len(strides) and last < numbers.size + (size == 0) and size <= numbers.size
        if not fits or math.prod(filter(None, shape)) >= 2**60:  # of an empty array too: NumPy multiplies them all
            raise InteropError(
                f"a tensor of shape {shape} and strides {strides} at offset {offset} does not fit into a storage of "
                f"{numbers.size} elements (an expanded tensor? save its .contiguous())"
            )
        self.budget.spend(128 + size * (4 if code == _BFLOAT16 else numbers.itemsize), f"a tensor of shape {shape}")
        steps = tuple(stride * numbers.itemsize * (n > 1) for n, stride in zip(shape, strides)) if size else None
        array = np.ndarray(shape, numbers.dtype, numbers, offset * numbers.itemsize if size else 0, steps)
        if code == _BFLOAT16:  # the upper half of a float32
            array = (array.astype(np.uint32) << 16).view(np.float32)
        elif code == "?":  # any byte but 0 is true
            array = array != 0
        return array.astype(array.dtype.newbyteorder("="))


def _resolved(array: np.ndarray, metadata: list[Any]) -> np.ndarray:
    """The values of a tensor; its metadata may say that they are stored with the opposite sign (the neg bit)."""
    match metadata:
        case []:
            return array
        case [{"neg": True, **more}] if not more and array.dtype.kind == "f":  # x.conj().imag is such a view
            return -array
    raise InteropError("a tensor has metadata that are not understood (save its .resolve_conj().resolve_neg())")


def _sizes(values: Any) -> tuple[int, ...]:
    """A tuple of non-negative integers that NumPy accepts as a shape or strides."""
    sound = type(values) is tuple and len(values) <= _MAX_RANK
    if not sound or not all(type(n) is int and 0 <= n < 2**62 for n in values):
        raise InteropError(
            "a tensor does not fit into its storage: its offset, shape or strides are not integers, negative, or out "
            "of range"
        )
    return values
