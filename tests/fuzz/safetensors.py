"""Fuzz target: .safetensors files, with random headers."""

from __future__ import annotations

import io
import json
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import numpy as np

from tinygrad_gru import nn
from tinygrad_gru.interop import InteropError, torch
from tinygrad_gru.io import safetensors

from .target import Part, Target


def target() -> Target:
    weights = {"weight": np.arange(6, dtype="f4").reshape(2, 3), "bias": np.zeros(2, "f4")}
    others = {
        "a.b": np.arange(3, dtype="i8"),
        "half": np.ones((2, 2), "f2"),
        "flag": np.array([True]),
        "é": np.zeros((0, 3)),
    }
    seeds = [_file(weights), _file(others, {"format": "pt", "note": "β"})]
    parts = [Part([_header(seed)], partial(_with_header, data=seed[8 + len(_header(seed)) :])) for seed in seeds]
    return Target(".safetensors", _read, InteropError, seeds, parts, {"headers": _headers})


def _read(path: Path) -> Any:
    """The content of a file, and loaded into a module if the file has its weights."""
    read = torch.read(path)
    if read.keys() == {"weight", "bias"}:
        torch.load(nn.Linear(3, 2), path)
    return repr(read)[:1000]


def _file(arrays: dict[str, np.ndarray], metadata: dict[str, str] | None = None) -> bytes:
    out = io.BytesIO()
    safetensors.write(out, arrays, metadata)
    return out.getvalue()


def _header(file: bytes) -> bytes:
    return file[8 : 8 + int.from_bytes(file[:8], "little")]


def _with_header(header: bytes, data: bytes) -> bytes:
    return len(header).to_bytes(8, "little") + header + data


def _headers(random: Random) -> bytes:
    """Consecutive entries, a few of them with wrong offsets, shapes or types."""
    widths = {"F32": 4, "F64": 8, "I8": 1, "BOOL": 1, "BF16": 2, "U64": 8, "C64": 8, "F8_E4M3": 1, "": 4}
    entries: dict[str, Any] = {}
    offset = 0
    invalid = random.choice((0.0, 0.05, 0.3))
    for number in range(random.randrange(5)):
        kind = random.choice(list(widths) if random.random() < invalid else ["F32", "F64", "I8", "BOOL", "BF16"])
        shape = [random.choice((0, 1, 1, 2, 3)) for _ in range(random.randrange(4))]
        size = widths[kind]
        for n in shape:
            size *= n
        entry = {"dtype": kind, "shape": shape, "data_offsets": [offset, offset + size]}
        offset += size
        for name in entry:
            if random.random() < invalid:
                entry[name] = random.choice(_ODD)
            elif random.random() < invalid and name != "dtype" and entry[name]:
                entry[name][random.randrange(len(entry[name]))] = random.choice(_ODD)
        entries[random.choice(("weight", "bias", "__metadata__", "\ud800", f"t{number}"))] = entry
    if random.random() < 0.5:
        entries["__metadata__"] = random.choice(({}, {"format": "pt"}, *([_ODD[0]] if invalid else [])))
    header = json.dumps(entries).encode()
    if random.random() < invalid:
        header = header.replace(b"t1", b"t0")
    return _with_header(header, bytes(offset if random.random() > invalid else random.randrange(99)))


_ODD: tuple[Any, ...] = (
    None, True, -1, 1.5, 1e300, "F32", [], {}, [1] * 65, [2**62] * 3, [2**31] * 5000, 2**63, 10**400, [[0, 8]],
    [0, 8, 16], "9" * 999,
)  # fmt: skip
