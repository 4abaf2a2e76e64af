"""Checkpoints: the whole state of a training run in one safetensors file.

A state is a tree of dictionaries and lists. Its arrays become the file's tensors, named by their path in the tree
("model.output.weight"), so that other tools can read them; everything else is JSON in the file's metadata. The file is
replaced atomically, so a checkpoint is never half old and half new. A checksum detects damage. Nothing is pickled.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

from . import safetensors
from .files import replacing
from .limits import open_untrusted
from .strict_json import parse_json

_FORMAT = "tinygrad_gru checkpoint 1"
_TENSOR = "$tensor"
_RESERVED_NAMES = ("", "__metadata__")
_MAX_DEPTH = 64  # of nested objects and arrays


class CheckpointError(RuntimeError):
    """A checkpoint cannot be written, read or used."""


def save_checkpoint(path: str | os.PathLike[str], state: Mapping[str, Any]) -> None:
    """Write `state` to `path` atomically: as a whole or not at all.

    state   dictionaries (keys are strings), lists and tuples (read back as lists) of host arrays, strings, numbers,
            booleans and None

    Raises CheckpointError if the file cannot be written; an earlier checkpoint there is then unharmed.

    >>> train.save_checkpoint("state", {"step": 3, "history": [0.5, 0.25], "weights": np.zeros(2)})
    """
    tensors, metadata = _to_tensors(state)
    path = Path(path)
    try:
        with replacing(path) as file:
            safetensors.write(file, tensors, metadata)
    except OSError as error:
        before = "; the earlier checkpoint there is unharmed" if path.exists() else ""
        raise CheckpointError(f"could not write the checkpoint {path}: {error.strerror or error}{before}") from error


def _to_tensors(state: Mapping[str, Any]) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """The tensors and the metadata of the file that holds a state."""
    text, tensors = _flatten(state)
    return tensors, {"format": _FORMAT, "state": text, "checksum": _checksum(text, tensors)}


def to_bytes(state: Mapping[str, Any]) -> bytes:
    """The content of the file that `save_checkpoint` writes."""
    file = BytesIO()
    safetensors.write(file, *_to_tensors(state))
    return file.getvalue()


def from_bytes(content: bytes) -> dict[str, Any]:
    """The state that `to_bytes` has written. Raises CheckpointError if the bytes are something else."""
    return _parse(content, plain=False)


def fingerprint(state: Mapping[str, Any]) -> str:
    """A SHA-256 that identifies a state."""
    return _checksum(*_flatten(state))


def load_checkpoint(path: str | os.PathLike[str], plain: bool = False) -> dict[str, Any]:
    """The state that `save_checkpoint` wrote to `path`; the arrays are copies.

    plain  whether it may also be a safetensors file of another program, which is then the dictionary of its arrays

    Raises CheckpointError if there is none, or if it is damaged, truncated, or a file of another format.

    >>> train.save_checkpoint("state", {"step": 3, "weights": np.zeros(2)})
    >>> train.load_checkpoint("state")["step"]
    3
    """
    try:
        with open_untrusted(path, CheckpointError) as file:
            return _parse(file.read(), plain)
    except FileNotFoundError as error:
        raise CheckpointError(f"there is no checkpoint {path}") from error
    except OSError as error:
        raise CheckpointError(f"could not read the checkpoint {path}: {error.strerror or error}") from error


def _parse(content: bytes, plain: bool) -> dict[str, Any]:
    try:
        tensors, metadata = safetensors.read(content)
    except safetensors.SafetensorsError as error:
        raise CheckpointError(
            f"not a whole checkpoint: {error} (damaged, truncated, or a file of another format?)"
        ) from error
    if metadata.get("format") != _FORMAT:
        if plain:
            return dict(tensors)
        raise CheckpointError(
            f"a safetensors file but not a {_FORMAT!r}: its format is {metadata.get('format')!r:.40} "
            "(weights of another program, or a checkpoint of another version?)"
        )
    text = metadata.get("state", "")
    if metadata.get("checksum") != _checksum(text, tensors):
        raise CheckpointError("damaged: its content does not match its checksum")
    state = _insert_tensors(parse_json(text), tensors, _MAX_DEPTH)
    if type(state) is not dict or tensors:
        raise CheckpointError("its state is not an object, or does not refer to all of its tensors")
    return state


def _flatten(state: Mapping[str, Any]) -> tuple[str, dict[str, np.ndarray]]:
    """The state as JSON, and its arrays by the names under which the JSON refers to them."""
    tensors: dict[str, np.ndarray] = {}
    return json.dumps(_extract_tensors(state, "", tensors)), tensors


def _extract_tensors(tree: Any, path: str, tensors: dict[str, np.ndarray]) -> Any:
    """A copy of the tree for JSON: arrays are moved into `tensors` and replaced by their names."""
    if isinstance(tree, np.ndarray):
        if np.ma.is_masked(tree):
            raise TypeError(f"a state holds no masked arrays, got one at {path!r}: save its values and its mask")
        name = path
        while name in tensors or name in _RESERVED_NAMES:  # {"a.b": …} beside {"a": {"b": …}}
            name += "'"
        tensors[name] = tree.astype(np.float32) if tree.dtype.name == "bfloat16" else tree
        return {_TENSOR: name}
    if isinstance(tree, np.generic):
        return tree.item()
    if isinstance(tree, Mapping):
        for key in tree:
            if not isinstance(key, str) or key == _TENSOR or not safetensors.is_text(key):
                raise TypeError(f"keys in a state must be strings other than {_TENSOR!r}, got {key!r} at {path!r}")
        return {key: _extract_tensors(value, _join(path, key), tensors) for key, value in tree.items()}
    if isinstance(tree, (list, tuple)):
        return [_extract_tensors(value, _join(path, str(index)), tensors) for index, value in enumerate(tree)]
    if tree is None or isinstance(tree, (str, bool, int, float)):
        return tree
    raise TypeError(f"a state holds arrays, strings, numbers, booleans and None, got {type(tree).__name__} at {path!r}")


def _insert_tensors(tree: Any, tensors: dict[str, np.ndarray], depth: int) -> Any:
    """The tree with the names replaced by their arrays, each once; they are popped from `tensors`."""
    if isinstance(tree, (dict, list)) and not depth:
        raise CheckpointError(f"its state nests more than {_MAX_DEPTH} objects and arrays")
    if isinstance(tree, dict):
        if tree.keys() == {_TENSOR}:
            name = tree[_TENSOR]
            if type(name) is not str or name not in tensors:
                raise CheckpointError(
                    f"its state refers to a tensor {name!r:.100} that is missing or referred to twice"
                )
            return tensors.pop(name)
        return {key: _insert_tensors(value, tensors, depth - 1) for key, value in tree.items()}
    if isinstance(tree, list):
        return [_insert_tensors(value, tensors, depth - 1) for value in tree]
    return tree


def _join(path: str, key: str) -> str:
    return f"{path}.{key}" if path else key


def _checksum(text: str, tensors: Mapping[str, np.ndarray]) -> str:
    digest = hashlib.sha256(text.encode("utf-8"))
    for name in sorted(tensors):
        array = tensors[name]
        digest.update(f"{name} {array.dtype.kind}{array.dtype.itemsize} {array.shape}".encode())
        digest.update(array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes())
    return digest.hexdigest()
