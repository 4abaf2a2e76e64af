"""Fuzz target: .keras files, archives, their configuration, and their weights."""

from __future__ import annotations

import copy
import io
import json
import zipfile
from pathlib import Path
from random import Random
from typing import Any

import numpy as np

from tinygrad_gru import nn
from tinygrad_gru.interop import InteropError, keras

from .target import Part, Target

_GOLDEN = Path(__file__).parents[1] / "interop" / "golden" / "model.keras"
_VALUES = (
    None, True, False, 0, 1, -1, 2, 2**70, 0.5, 1e-3, float("nan"), "", "relu", "tanh", "linear", "GRU", [], [-1], [1],
    {}, {"config": {}}, {"class_name": "GRU", "config": {"name": "x"}}, [[]] * 3,
)  # fmt: skip


def target() -> Target:
    golden = _GOLDEN.read_bytes()
    with zipfile.ZipFile(io.BytesIO(golden)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}

    def replaced(name: str, content: bytes) -> bytes:
        return _archive({**members, name: content})

    def configured(random: Random) -> bytes:
        """The golden file with some entries of the configuration changed, removed or repeated."""
        config = json.loads(members["config.json"])
        for _ in range(random.choice((1, 1, 1, 2, 5))):
            _edit(random, config)
        return replaced("config.json", json.dumps(config).encode())

    def archived(random: Random) -> bytes:
        """Archives of odd members, compressed in every way."""
        made = dict(members)
        name = random.choice(list(made))
        edit = random.randrange(5)
        if edit == 0:
            del made[name]
        elif edit == 1:
            made[name] = bytes(random.choice((0, 100, 10**7, 3 * 10**7)))
        elif edit == 2:
            made[name] = b"[" * random.choice((10, 10**4, 10**6))
        elif edit == 3:
            made["../" + name] = made[name]
        methods = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)
        return _archive(made, random.choice(methods))

    parts = [
        Part([members["config.json"]], lambda content: replaced("config.json", content)),
        Part([members["model.weights.h5"]], lambda content: replaced("model.weights.h5", content)),
    ]
    return Target(
        ".keras", _read, InteropError, [golden], parts, {"configured": configured, "archived": archived}, check=_check
    )


def _archive(members: dict[str, bytes], method: int = zipfile.ZIP_STORED) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return out.getvalue()


def _edit(random: Random, config: Any) -> None:
    """Change one entry at any depth."""
    node = config
    while True:
        keys = list(node) if isinstance(node, dict) else list(range(len(node)))
        if not keys:
            return
        key = random.choice(keys)
        if isinstance(node[key], (dict, list)) and random.random() < 0.8:
            node = node[key]
            continue
        edit = random.randrange(4)
        if edit == 0:
            del node[key]
        elif edit == 1 and isinstance(node, dict):
            node[random.choice(("stateful", "dropout", "activation", "new", "axis", "config"))] = node[key]
        elif edit == 2 and isinstance(node, list):
            node.append(copy.deepcopy(node[key]))
        else:
            node[key] = copy.deepcopy(random.choice(_VALUES))
        return


class _Model(nn.Module):
    def __init__(self) -> None:
        self.embedding = nn.Embedding(4, 2)
        self.first = nn.GRU(2, 2, bidirectional=True, merge="sum", batch_first=True, reset_after=True)
        self.second = nn.GRU(2, 2, batch_first=True)
        self.norm = nn.LayerNorm(2, eps=1e-3)
        self.output = nn.Linear(2, 3)


def _read(path: Path) -> list[np.ndarray]:
    return list(keras.load(_Model(), path).state_dict().values())


def _check(arrays: list[np.ndarray]) -> None:
    assert [array.shape for array in arrays] == [array.shape for array in _Model().state_dict().values()]
