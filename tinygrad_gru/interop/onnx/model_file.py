"""ONNX files from untrusted sources: read, inlined and checked as a whole before anything is built from them.

The reader's work is bounded: functions that call each other may not expand to more nodes
than the file has bytes, and external data is read only from regular files in the model's own folder.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PureWindowsPath

import onnx
import onnx.inliner
from google.protobuf.message import DecodeError

from ...io import Budget, open_untrusted, untrusted
from ..errors import InteropError

_MAX_CALL_DEPTH = 64
_FREE_NODES = 1000  # that any file may expand to


@contextmanager
def opened(source: str | os.PathLike[str] | onnx.ModelProto) -> Iterator[tuple[onnx.ModelProto, Budget]]:
    """A model with functions inlined and external data read, and a budget of memory for building from it.

    In this block every error that the model causes is an InteropError that names the file.
    """
    if isinstance(source, onnx.ModelProto):
        with untrusted("the model", InteropError):
            yield _whole(source, None, source.ByteSize())
        return
    path = Path(source)
    with open_untrusted(path, InteropError) as file:
        content = file.read()
        try:
            model = onnx.ModelProto.FromString(content)
        except DecodeError as error:
            raise InteropError(f"it is not a valid ONNX file: {error}") from error
        yield _whole(model, path.parent, len(content))


def _whole(model: onnx.ModelProto, folder: Path | None, size: int) -> tuple[onnx.ModelProto, Budget]:
    if model.functions:
        _check_functions(model, size)
        try:
            model = onnx.inliner.inline_local_functions(model)
        except Exception as error:  # of several types without a common base
            raise InteropError(f"its functions cannot be inlined: {error}") from error
    external = [tensor for tensor in tensors_in(model.graph) if tensor.data_location == onnx.TensorProto.EXTERNAL]
    if not external:
        return model, Budget(size)
    if folder is None:
        raise InteropError(f"the values of {external[0].name!r} are external data: give the path of the model")
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    external = [tensor for tensor in tensors_in(copy.graph) if tensor.data_location == onnx.TensorProto.EXTERNAL]
    locations = [_ExternalData(tensor, folder) for tensor in external]
    budget = Budget(size + sum({location.path: location.size for location in locations}.values()))
    for location in locations:
        location.read(budget)
    return copy, budget


def graphs_in(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    """A graph and its subgraphs, at any depth."""
    remaining = [graph]
    while remaining:
        graph = remaining.pop()
        yield graph
        remaining += [subgraph for node in graph.node for subgraph in _subgraphs(node)]


def _subgraphs(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield attribute.g
        yield from attribute.graphs


def tensors_in(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    """All tensors of a graph: initializers, and attributes of nodes, in subgraphs too."""
    for part in graphs_in(graph):
        yield from part.initializer
        for node in part.node:
            for attribute in node.attribute:
                if attribute.HasField("t"):
                    yield attribute.t
                yield from attribute.tensors


# -- functions -------------------------------------------------------------------------------------------------------

_Name = tuple[str, str, str]


def _check_functions(model: onnx.ModelProto, size: int) -> None:
    """Raise InteropError if functions are recursive, or expand to far more nodes than the file has bytes."""
    bodies: dict[_Name, list[onnx.NodeProto]] = {}
    for function in model.functions:
        name = (function.domain, function.name, function.overload)
        if name in bodies:
            raise InteropError(f"it has two functions {name[1]!r}")
        bodies[name] = _nodes_in(function.node)
    counts: dict[_Name, int] = {}

    def count(nodes: list[onnx.NodeProto], callers: tuple[_Name, ...]) -> int:
        total = 0
        for node in nodes:
            name = (node.domain, node.op_type, node.overload)
            if name in callers or len(callers) > _MAX_CALL_DEPTH:
                raise InteropError(f"its function {name[1]!r} calls itself, or calls go too deep")
            if name in bodies and name not in counts:
                counts[name] = count(bodies[name], (*callers, name))
            total += counts.get(name, 0) + 1
            if total > _FREE_NODES + size:
                raise InteropError(f"its functions expand to more nodes than a file of {size:,} bytes may have")
        return total

    for name, nodes in bodies.items():
        counts[name] = count(nodes, (name,))
    count(_nodes_in(model.graph.node), ())


def _nodes_in(nodes: Iterator[onnx.NodeProto]) -> list[onnx.NodeProto]:
    """These nodes, and those of their subgraphs."""
    listed = list(nodes)
    return listed + [
        inner for node in listed for graph in _subgraphs(node) for part in graphs_in(graph) for inner in part.node
    ]


# -- external data ---------------------------------------------------------------------------------------------------


class _ExternalData:
    """The location of a tensor's external data: a part of a file in the model's folder."""

    def __init__(self, tensor: onnx.TensorProto, folder: Path):
        self.tensor = tensor
        entries = {entry.key: entry.value for entry in tensor.external_data}
        location = entries.get("location", "")
        self.path = self._inside(folder, location)
        self.offset, self.length = self._bytes(entries.get("offset", "0")), entries.get("length")
        status = os.stat(self.path)
        if not stat.S_ISREG(status.st_mode):
            raise self._error(f"{location!r} is not a regular file")
        self.size = status.st_size
        self.count = self.size - self.offset if self.length is None else self._bytes(self.length)
        if self.offset > self.size or self.count > self.size - self.offset:
            raise self._error(f"{location!r} has {self.size} bytes, and {self.count} from {self.offset} on are needed")

    def _inside(self, folder: Path, location: str) -> Path:
        """The path of a file in the folder, without symbolic links."""
        parts = PureWindowsPath(location).parts  # splits at / and \
        if not parts or PureWindowsPath(location).anchor or ".." in parts or "\0" in location:
            raise self._error(f"{location!r} is not a path inside the model's folder")
        folder = Path(os.path.realpath(folder))
        path = folder.joinpath(*Path(location).parts)
        if os.path.realpath(path) != str(path):
            raise self._error(f"{location!r} is or contains a link, which may lead out of the model's folder")
        if not path.exists():
            raise self._error(f"{location!r} is not in the model's folder")
        return path

    def _bytes(self, text: str) -> int:
        if not (text.isascii() and text.isdigit() and len(text) < 20):
            raise self._error(f"expected a number of bytes, got {text[:40]!r}")
        return int(text)

    def _error(self, reason: str) -> InteropError:
        return InteropError(f"the external data of {self.tensor.name!r}: {reason}")

    def read(self, budget: Budget) -> None:
        """Read the values into the tensor."""
        budget.spend(self.count, f"the constant {self.tensor.name!r}")
        with open(self.path, "rb") as file:
            file.seek(self.offset)
            content = file.read(self.count)
        self.tensor.raw_data = content
        self.tensor.ClearField("data_location")
        self.tensor.ClearField("external_data")
