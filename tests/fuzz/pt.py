"""Fuzz target: .pt files, programs of pickles in archives with valid checksums."""

from __future__ import annotations

import io
import pickle
import struct
import zipfile
from pathlib import Path
from random import Random
from typing import Any

import numpy as np

from tinygrad_gru import nn
from tinygrad_gru.interop import InteropError, torch

from .target import Part, Target

_GOLDEN = Path(__file__).parents[1] / "interop" / "golden"


def target() -> Target:
    golden = next(_GOLDEN.glob("*.pt")).read_bytes()
    data = {"epoch": 3, "lr": 0.1, "names": ["a", ("b", None, True)], "n": 2**60}
    parts = [
        Part([_program(golden)], lambda program: _replaced(golden, program)),
        Part([pickle.dumps(data, protocol=protocol) for protocol in (2, 4)], _archive),
    ]
    return Target(".pt", _read, InteropError, [golden], parts, {"opcodes": _opcodes, "tensors": _tensors})


def _read(path: Path) -> Any:
    """The content of a file, traversed, and loaded into a module if the file has its weights."""
    content = torch.read(path)
    if type(content) is dict and "model" in content:
        torch.load(nn.Sequential(nn.Embedding(4, 2), nn.Linear(2, 3), nn.LayerNorm(3)), content["model"])
    return repr(content)[:1000]


def _program(file: bytes) -> bytes:
    with zipfile.ZipFile(io.BytesIO(file)) as archive:
        return archive.read(next(name for name in archive.namelist() if name.endswith("data.pkl")))


def _replaced(file: bytes, program: bytes) -> bytes:
    """The file with another program."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(file)) as before, zipfile.ZipFile(out, "w") as after:
        for name in before.namelist():
            after.writestr(name, program if name.endswith("data.pkl") else before.read(name))
    return out.getvalue()


def _archive(program: bytes) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("archive/data.pkl", program)
        for key in range(8):
            archive.writestr(f"archive/data/{key}", np.arange(64, dtype="<f4").tobytes())
    return out.getvalue()


def _text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value)) + value.encode()


def _integer(random: Random) -> bytes:
    value = random.choice((0, 1, 2, 3, 4, 8, 63, 64, 65, -1, 2**31, 2**32, 2**50, 2**62, 2**63, 2**64, -(2**63)))
    return b"\x8a\x10" + value.to_bytes(16, "little", signed=True)


def _opcodes(random: Random) -> bytes:
    """A program of random instructions, most of which find operands on the stack."""
    words = ("storage", "0", "1", "cpu", "weight", "neg", "é" * 20)
    names = (
        "torch._utils\n_rebuild_tensor_v2", "torch._utils\n_rebuild_parameter", "torch\nFloatStorage", "torch\nSize",
        "collections\nOrderedDict", "torch\nBFloat16Storage", "torch\nBoolStorage", "os\nsystem", "builtins\neval",
    )  # fmt: skip
    pieces = [
        lambda: _text(random.choice(words)), lambda: _integer(random),
        lambda: b"c" + random.choice(names).encode() + b"\n",
        lambda: random.choice((b"N", b"\x88", b"\x89", b")", b"]", b"}")), lambda: b"(",
        lambda: random.choice((b"t", b"\x85", b"\x86", b"\x87")), lambda: random.choice((b"a", b"e", b"s", b"u")),
        lambda: b"Q", lambda: b"R", lambda: b"b", lambda: b"q" + bytes([random.randrange(4)]),
        lambda: b"h" + bytes([random.randrange(4)]), lambda: b"\x94", lambda: b"\x93",
        lambda: random.choice((b"0", b"2", b"1", b"o", b"i", b"\x81", b"\x92", b"\x8f", b"\x97", b"P1\n", b"\x82\x01")),
    ]  # fmt: skip
    weights = [6, 6, 3, 6, 4, 4, 4, 2, 2, 1, 2, 3, 1, 1, 0.2]
    body = b"".join(piece() for piece in random.choices(pieces, weights, k=random.randrange(1, 60)))
    return _archive(b"\x80\x02" + body + b".")


def _tensors(random: Random) -> bytes:
    """Tensors with odd storages, offsets, shapes and strides, in odd containers."""

    def group(*values: bytes) -> bytes:
        return b"(" + b"".join(values) + b"t"

    def integer(value: int) -> bytes:
        return b"\x8a\x10" + value.to_bytes(16, "little", signed=True)

    def numbers() -> bytes:
        if random.random() < 0.2:
            return group(*(_integer(random) for _ in range(random.choice((0, 1, 2, 2, 3, 70)))))
        return group(*(integer(random.choice((0, 1, 1, 2, 3, 5))) for _ in range(random.choice((1, 2, 2, 3)))))

    def storage() -> bytes:
        kind, count = random.choice((("Float", 64), ("Float", 64), ("Int", 64), ("Double", 32), ("Bool", 256)))
        kind = random.choice((kind, kind, kind, "BFloat16", "ComplexFloat"))
        count = random.choice((count, count, count, 128, 2**40))
        name = f"ctorch\n{kind}Storage\n".encode()
        key = _text(str(random.choice((0, 0, 0, 1, 2, 9))))
        return group(_text("storage"), name, key, _text("cpu"), integer(count)) + b"Q"

    def tensor(depth: int = 0) -> bytes:
        of = storage() if depth > 2 or random.random() < 0.9 else random.choice((tensor(depth + 1), _integer(random)))
        shape = numbers()
        strides = numbers() if random.random() < 0.3 else shape
        metadata = random.choices((b"", b"}", b"}" + _text("neg") + b"\x88s"), (6, 1, 2))[0]
        offset = integer(random.choice((0, 0, 1, 60))) if random.random() < 0.8 else _integer(random)
        inside = group(of, offset, shape, strides, b"\x89", b"}", metadata)
        return b"ctorch._utils\n_rebuild_tensor_v2\n" + inside + b"R"

    def value() -> bytes:
        kinds = (tensor, tensor, tensor, lambda: _integer(random), lambda: b"]" + tensor() + b"a")
        double = b"q\x00h\x00\x86" * random.choice((0, 0, 0, 0, 5, 40))
        deep = b"\x85" * random.choice((0, 0, 0, 0, 10, 100, 3000))
        return random.choice(kinds)() + double + deep

    return _archive(b"\x80\x02}" + b"".join(_text(str(n)) + value() + b"s" for n in range(random.randrange(4))) + b".")
