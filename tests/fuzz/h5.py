"""Fuzz target: .h5 files, the bytes of groups and datasets, and h5py files with unsupported features."""

from __future__ import annotations

import io
import tempfile
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest

from tinygrad_gru import nn
from tinygrad_gru.interop import InteropError, keras

from .target import Target

_VERSIONS = ("earliest", "latest", "v108", "v110")
_SECRET = b"bytes that are in no weight file" * 8


def target() -> Target:
    h5py = pytest.importorskip("h5py")
    secret = Path(tempfile.mkdtemp()) / "secret"
    secret.write_bytes(_SECRET)

    def standard(file: Any) -> None:
        file["layers/dense/vars/0"], file["layers/dense/vars/1"] = np.ones((2, 3), "f4"), np.ones(3, "f8")
        file["layers/gru/cell/vars/0"] = np.ones((3, 6), ">f4")
        file["layers/gru/cell/vars/1"], file["layers/gru/cell/vars/2"] = np.ones((2, 6), "f2"), np.ones(6, "i4")

    def written(fill: Callable[[Any], None], version: str) -> bytes:
        content = io.BytesIO()
        with h5py.File(content, "w", libver=version) as file:
            fill(file)
        return content.getvalue()

    def hostile(random: Random) -> bytes:
        """The valid file, with some objects as links, in external storage, in other layouts, or far too large."""

        def fill(file: Any) -> None:
            standard(file)
            groups = [file, file["layers"], file["layers/dense"], file["layers/dense/vars"]]
            for _ in range(random.choice((1, 1, 2, 5))):
                group = random.choice(groups)
                name = random.choice(("0", "1", "2", "vars", "more", "é", "x" * 300))
                if name in group:
                    del group[name]
                random.choice(things)(random, file, group, name)

        return written(fill, random.choice(_VERSIONS))

    def array(random: Random, file: Any, group: Any, name: str) -> None:
        dtype = random.choice(("f4", "f8", ">f4", "f2", "i8", "u1", "?", "c8", "S3", [("a", "f4")]))
        group[name] = np.zeros(random.choice(((), (3,), (2, 3), (0, 3), (1,) * 20)), dtype)

    def declared(random: Random, file: Any, group: Any, name: str) -> None:
        options: dict[str, Any] = random.choice(({}, {"chunks": True}, {"compression": "gzip"}, {"maxshape": None}))
        group.create_dataset(name, random.choice(((3,), (2, 3), (10**6, 10**6), (2**58,))), "f4", **options)

    def elsewhere(random: Random, file: Any, group: Any, name: str) -> None:
        size = random.choice((3, 6, 64))
        group.create_dataset(name, (size,), "u1", external=[(str(secret), 0, size)])

    def virtual(random: Random, file: Any, group: Any, name: str) -> None:
        layout = h5py.VirtualLayout((3,), "f4")
        layout[:] = h5py.VirtualSource(random.choice((".", str(secret))), "layers/dense/vars/1", (3,))
        group.create_virtual_dataset(name, layout)

    def linked(random: Random, file: Any, group: Any, name: str) -> None:
        links = (h5py.SoftLink("/layers"), h5py.ExternalLink(str(secret), "0"), h5py.SoftLink("/" + "x" * 1000))
        group[name] = random.choice((*links, file, file["layers"], group))

    def deep(random: Random, file: Any, group: Any, name: str) -> None:
        for _ in range(random.choice((3, 60, 70, 200))):
            group = group.create_group(name, track_order=random.random() < 0.3)

    def many(random: Random, file: Any, group: Any, name: str) -> None:
        inner = group.create_group(name, track_order=random.random() < 0.5)
        for k in range(random.choice((9, 40, 200))):
            inner[str(k)] = np.float32(k)

    things = (array, declared, elsewhere, virtual, linked, deep, many)
    seeds = [written(standard, version) for version in _VERSIONS]
    return Target(".weights.h5", _read, InteropError, seeds, (), {"hostile": hostile}, check=_check)


def _read(path: Path) -> list[np.ndarray]:
    model = nn.Sequential(nn.Linear(2, 3), nn.GRU(3, 2))
    return list(keras.load(model, path).state_dict().values())


def _check(arrays: list[np.ndarray]) -> None:
    for array in arrays:
        with np.errstate(all="ignore"):
            assert _SECRET[:3] not in array.astype("u1").tobytes()
