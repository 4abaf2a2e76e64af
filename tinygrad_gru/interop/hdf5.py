"""Reader of HDF5 files: the arrays of a file with the subset of HDF5 that Keras writes.

It reads nothing but the bytes that it is given. The rest of HDF5 (soft and external links, external storage, chunks,
filters, user-defined types) is refused by name, so that no file makes this process open another. Every address is
checked before it is visited and is visited once, so that links can neither form cycles nor multiply; an array is a view
of the bytes, so that a file cannot claim more memory than it has.

The layout is that of "HDF5 File Format Specification", version 3.0: superblocks 0 to 3, object headers 1 and 2, groups
as symbol tables or as link messages in their header, datasets that are contiguous or compact.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from .errors import InteropError

SIGNATURE = b"\x89HDF\r\n\x1a\n"
_UNDEFINED_ADDRESS = 2**64 - 1
_MAX_DEPTH = 64  # of nested groups; Keras's files have about 8
_MAX_RANK = 32
_MAX_ELEMENTS = 2**60

_DATASPACE, _LINK_INFO, _DATATYPE, _LINK, _EXTERNAL = 0x01, 0x02, 0x03, 0x06, 0x07
_LAYOUT, _FILTERS, _CONTINUATION, _SYMBOL_TABLE = 0x08, 0x0B, 0x10, 0x11
_REWRITE = "write it with h5py's own settings, or give model.get_weights()"

#: Floating-point types by (bytes, bits of the exponent, bits of the fraction): the names NumPy has for them.
_FLOATS = {(2, 5, 10): "f2", (4, 8, 23): "f4", (8, 11, 52): "f8"}


def read(content: bytes) -> dict[str, np.ndarray]:
    """The datasets of a file by path ("layers/dense/vars/0"), as arrays that are views of its bytes.

    Raises InteropError that says what is damaged, or which feature of HDF5 is not supported.
    """
    return _File(content).datasets()


class _Message(NamedTuple):
    """A header message: its type, and the bytes of its content."""

    type: int
    start: int
    size: int


class _File:
    """An HDF5 file in memory. All reading goes through `_unpack` and `_text`, which check the bounds."""

    def __init__(self, content: bytes):
        self.content = content
        self.visited: set[int] = set()
        self.remaining = 2 * len(content) + 4096  # bytes of structures: in a valid file each is read once

    def datasets(self) -> dict[str, np.ndarray]:
        found: dict[str, np.ndarray] = {}
        groups = [("", self._root(), 0)]
        while groups:
            path, address, depth = groups.pop()
            messages = {}
            links: dict[str, int] = {}
            for message in self._messages(address):
                if message.type == _LINK:
                    self._add(links, *self._link(message), path)
                elif message.type == _SYMBOL_TABLE:
                    for name, target in self._symbols(message):
                        self._add(links, name, target, path)
                elif message.type in messages and message.type in (_DATASPACE, _DATATYPE, _LAYOUT):
                    raise InteropError(f"{path!r} has two header messages of one type")
                messages[message.type] = message
            if _LINK_INFO in messages:
                self._check_not_dense(messages[_LINK_INFO], path)
            if _LAYOUT in messages:
                if links:
                    raise InteropError(f"{path!r} is both a group and a dataset")
                found[path] = self._dataset(messages, path)
            elif depth == _MAX_DEPTH:
                raise InteropError(f"groups are nested more than {_MAX_DEPTH} deep, as {path[:40]!r}…")
            else:
                groups += [(f"{path}/{name}" if path else name, target, depth + 1) for name, target in links.items()]
        return found

    @staticmethod
    def _add(links: dict[str, int], name: str, target: int, path: str) -> None:
        if not name or "/" in name or name == "." or name in links:
            raise InteropError(f"{path or 'the file'!r} has a link with the name {name[:40]!r}, empty or there already")
        links[name] = target

    # -- reading with bounds checks -----------------------------------------------------------------------------

    def _unpack(self, layout: str, at: int) -> tuple[Any, ...]:
        """Little-endian numbers at an address."""
        size = struct.calcsize("<" + layout)
        self._spend(at, size)
        return struct.unpack_from("<" + layout, self.content, at)

    def _spend(self, at: int, size: int) -> None:
        if at < 0 or at + size > len(self.content):
            raise InteropError(f"it points to byte {at + size}, and has {len(self.content)}: damaged, or cut off")
        self.remaining -= size
        if self.remaining < 0:
            raise InteropError("its structures overlap: damaged")

    def _expect(self, signature: bytes, at: int) -> None:
        if self._unpack(f"{len(signature)}s", at)[0] != signature:
            raise InteropError(f"there is no {signature.decode('latin-1').strip()} at byte {at}: damaged")

    def _visit(self, address: int) -> int:
        """The address of a structure, which must not have been visited."""
        if address in self.visited:
            raise InteropError(f"two links lead to byte {address}: a file of Keras has one link to each object")
        self.visited.add(address)
        return address

    def _text(self, at: int, size: int) -> str:
        self._spend(at, size)
        try:
            return self.content[at : at + size].decode()
        except UnicodeDecodeError as error:
            raise InteropError(f"a name at byte {at} is not text: damaged") from error

    # -- structures ----------------------------------------------------------------------------------------------

    def _root(self) -> int:
        """The address of the object header of the root group."""
        self._expect(SIGNATURE, 0)
        (version,) = self._unpack("B", 8)
        if version in (0, 1):
            offsets, lengths = self._unpack("BB", 13)
            base_at, root_at = (24, 64) if version == 0 else (28, 68)
        elif version in (2, 3):
            offsets, lengths = self._unpack("BB", 9)
            base_at, root_at = 12, 36
        else:
            raise InteropError(f"its superblock has version {version}, and 0 to 3 are known")
        if (offsets, lengths) != (8, 8):
            raise InteropError(f"its addresses have {offsets} bytes and its lengths {lengths}, and 8 are expected")
        (base,) = self._unpack("Q", base_at)
        if base != 0:
            raise InteropError(f"it begins at byte {base}, expected 0")
        return self._unpack("Q", root_at)[0]

    def _messages(self, address: int) -> Iterator[_Message]:
        """The messages of an object header and of its continuations."""
        self._visit(address)
        (first,) = self._unpack("B", address)
        if first == 1:
            (size,) = self._unpack("8xI", address)
            blocks, head = [(address + 16, size)], "HHB3x"
        else:
            self._expect(b"OHDR", address)
            version, flags = self._unpack("BB", address + 4)
            if version != 2:
                raise InteropError(f"an object header has version {version}, and 1 and 2 are known")
            start = address + 6 + 16 * bool(flags & 0x20) + 4 * bool(flags & 0x10)
            (size,) = self._unpack("BHIQ"[flags & 3], start)
            blocks, head = [(start + (1 << (flags & 3)), size)], "BHB2x" if flags & 4 else "BHB"
        length = struct.calcsize("<" + head)
        while blocks:
            at, size = blocks.pop()
            end = at + size
            if end > len(self.content):
                raise InteropError(f"an object header ends at byte {end}, beyond the file: damaged, or cut off")
            while at + length <= end:
                message_type, size, flags = self._unpack(head, at)
                at += length
                if at + size > end:
                    raise InteropError(f"a message at byte {at} is longer than its object header: damaged")
                if flags & 2 and message_type in (_DATASPACE, _DATATYPE, _LAYOUT, _LINK, _SYMBOL_TABLE):
                    raise InteropError(f"it has types or shapes that are shared between datasets: {_REWRITE}")
                if message_type == _CONTINUATION:
                    offset, extent = self._unpack_message(_Message(message_type, at, size), "QQ")
                    self._visit(offset)
                    if first == 1:
                        blocks.append((offset, extent))
                    else:
                        self._expect(b"OCHK", offset)
                        blocks.append((offset + 4, extent - 8))
                else:
                    yield _Message(message_type, at, size)
                at += size

    def _unpack_message(self, message: _Message, layout: str, skip: int = 0) -> tuple[Any, ...]:
        """Little-endian numbers in a message, `skip` bytes after its start."""
        if skip + struct.calcsize("<" + layout) > message.size:
            raise InteropError(f"a message at byte {message.start} is shorter than what it says: damaged")
        return self._unpack(layout, message.start + skip)

    def _check_not_dense(self, message: _Message, path: str) -> None:
        version, flags = self._unpack_message(message, "BB")
        (heap,) = self._unpack_message(message, "Q", 2 + 8 * (flags & 1))
        if version != 0 or heap != _UNDEFINED_ADDRESS:
            raise InteropError(f"{path or 'the root'!r} keeps its links in a heap, as newer versions can: {_REWRITE}")

    def _link(self, message: _Message) -> tuple[str, int]:
        """The name and the address of a link message."""
        version, flags = self._unpack_message(message, "BB")
        at = 2
        link_type = 0
        if version != 1:
            raise InteropError(f"a link has version {version}, and 1 is known")
        if flags & 8:
            (link_type,) = self._unpack_message(message, "B", at)
            at += 1
        at += 8 * bool(flags & 4) + bool(flags & 16)
        (size,) = self._unpack_message(message, "BHIQ"[flags & 3], at)
        at += 1 << (flags & 3)
        if at + size > message.size:
            raise InteropError(f"a link at byte {message.start} is shorter than its name: damaged")
        name = self._text(message.start + at, size)
        if link_type != 0:
            raise _external_link(name)
        (target,) = self._unpack_message(message, "Q", at + size)
        return name, target

    def _symbols(self, message: _Message) -> Iterator[tuple[str, int]]:
        """The names and the addresses of a symbol table (a group of version 1)."""
        tree, heap = self._unpack_message(message, "QQ")
        self._expect(b"HEAP", self._visit(heap))
        size, names = self._unpack("Q8xQ", heap + 8)
        if names + size > len(self.content):
            raise InteropError(f"the names of a group end at byte {names + size}, beyond the file: damaged")
        nodes: list[tuple[int, int | None]] = [(tree, None)]
        while nodes:
            node, level = nodes.pop()
            self._visit(node)
            if level == 0:
                yield from self._leaf(node, names, size)
                continue
            self._expect(b"TREE", node)
            node_type, height, count = self._unpack("BBH", node + 4)
            if node_type != 0 or (level is not None and height != level - 1):
                raise InteropError(f"a B-tree at byte {node} is not that of a group: damaged")
            nodes += [(self._unpack("Q", node + 32 + 16 * k)[0], height) for k in reversed(range(count))]

    def _leaf(self, node: int, names: int, size: int) -> Iterator[tuple[str, int]]:
        self._expect(b"SNOD", node)
        (count,) = self._unpack("2xH", node + 4)
        for k in range(count):
            offset, target, cached = self._unpack("QQI", node + 8 + 40 * k)
            end = self.content.find(b"\0", names + offset, names + size) if offset < size else -1
            if end < 0:
                raise InteropError(f"a name at byte {names + offset} has no end: damaged")
            name = self._text(names + offset, end - names - offset)
            if cached == 2:
                raise _external_link(name)
            yield name, target

    # -- datasets ------------------------------------------------------------------------------------------------

    def _dataset(self, messages: dict[int, _Message], path: str) -> np.ndarray:
        if _EXTERNAL in messages:
            raise InteropError(f"{path!r} is stored in another file: only what is in this one is read")
        if _FILTERS in messages:
            raise InteropError(f"{path!r} is compressed, or filtered in another way: {_REWRITE}")
        if _DATASPACE not in messages or _DATATYPE not in messages:
            raise InteropError(f"{path!r} does not say which shape and type it has: damaged")
        shape, dtype = self._shape(messages[_DATASPACE], path), self._dtype(messages[_DATATYPE], path)
        layout = messages[_LAYOUT]
        version, layout_class = self._unpack_message(layout, "BB")
        if version not in (3, 4) or layout_class not in (0, 1):
            descriptions = {2: "is stored in chunks", 3: "is put together from other datasets, perhaps of other files"}
            raise InteropError(f"{path!r} {descriptions.get(layout_class, 'has an unknown layout')}: {_REWRITE}")
        if layout_class == 0:
            (size,) = self._unpack_message(layout, "H", 2)
            start = layout.start + 4
            if size > layout.size - 4:
                raise InteropError(f"{path!r} is longer than its object header: damaged")
        else:
            start, size = self._unpack_message(layout, "QQ", 2)
        needed = math.prod(shape) * dtype.itemsize
        if math.prod(filter(None, shape)) >= _MAX_ELEMENTS:  # of an empty array too: NumPy multiplies them all
            raise InteropError(f"{path!r} is said to have the shape {shape}: damaged")
        if needed == 0:
            return np.zeros(shape, dtype)
        if start == _UNDEFINED_ADDRESS:
            raise InteropError(f"{path!r} of shape {shape} is declared, and its numbers are not in the file")
        if size < needed or start + needed > len(self.content):
            raise InteropError(
                f"{path!r} of shape {shape} needs {needed} bytes, and the file has "
                f"{max(0, min(size, len(self.content) - start))} for it: damaged, or cut off"
            )
        return np.frombuffer(self.content, dtype, math.prod(shape), start).reshape(shape)

    def _shape(self, message: _Message, path: str) -> tuple[int, ...]:
        version, rank = self._unpack_message(message, "BB")
        if version not in (1, 2) or rank > _MAX_RANK:
            raise InteropError(f"{path!r} has a shape of version {version} with {rank} axes, which is not supported")
        if version == 2 and self._unpack_message(message, "B", 3) == (2,):
            raise InteropError(f"{path!r} is empty: it has no shape")
        return self._unpack_message(message, "Q" * rank, 8 if version == 1 else 4)

    def _dtype(self, message: _Message, path: str) -> np.dtype:
        datatype, low, _, _, size = self._unpack_message(message, "BBBBI")
        order = "<" if low & 1 == 0 else ">"
        if datatype & 15 == 0 and size in (1, 2, 4, 8):
            offset, precision = self._unpack_message(message, "HH", 8)
            if (offset, precision) == (0, 8 * size):
                return np.dtype(f"{order}{'i' if low & 8 else 'u'}{size}")
        if datatype & 15 == 1 and not low & 0x40:
            offset, precision, _, exponent, _, fraction, bias = self._unpack_message(message, "HHBBBBI", 8)
            form = (size, exponent, fraction)
            if (offset, precision, bias) == (0, 8 * size, 2 ** (exponent - 1) - 1) and form in _FLOATS:
                return np.dtype(order + _FLOATS[form])
        raise InteropError(
            f"{path!r} is of a type that is not read here: expected float16, 32 or 64, or integers (bfloat16 is bytes "
            "without a type to HDF5: give model.get_weights())"
        )


def _external_link(name: str) -> InteropError:
    return InteropError(f"{name!r} is a link to another path or another file: only what is in the file itself is read")
