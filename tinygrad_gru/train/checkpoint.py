"""Checkpoints: all that a program needs to go on where it was, in one safetensors file.

A state is a tree of dictionaries and lists. Its arrays become the file's tensors, named by their path in the tree
("model.output.weight"), so that other tools can read them; everything else is JSON in the file's metadata. Being one
file that is replaced as a whole, a checkpoint is never half old and half new. A checksum finds damage. Nothing is
pickled.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..io import open_untrusted, parse_json, replacing, safetensors

_FORMAT = "tinygrad_gru checkpoint 1"
_TENSOR = "$tensor"
_NO_NAMES = ("", "__metadata__")
_DEEPEST = 64  # objects and arrays in one another


class CheckpointError(RuntimeError):
    """A checkpoint that cannot be written, or that cannot be read or used."""


def save_checkpoint(path: str | os.PathLike[str], state: Mapping[str, Any]) -> None:
    """Write `state` to `path` as a whole or not at all.

    state   dictionaries (keys are strings), lists and tuples (read back as lists) of host arrays, strings, numbers,
            booleans and None

    Raises CheckpointError if the file cannot be written; what stood there before is then unharmed.
    """
    text, tensors = _parts(state)
    metadata = {"format": _FORMAT, "state": text, "checksum": _checksum(text, tensors)}
    path = Path(path)
    try:
        with replacing(path) as file:
            safetensors.write(file, tensors, metadata)
    except OSError as error:
        before = "; the checkpoint that was there is unharmed" if path.exists() else ""
        raise CheckpointError(f"could not write the checkpoint {path}: {error.strerror or error}{before}") from error


def fingerprint(state: Mapping[str, Any]) -> str:
    """A SHA-256 of a state, by which it is known again."""
    return _checksum(*_parts(state))


def load_checkpoint(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The state that `save_checkpoint` wrote to `path`; the arrays are new ones.

    Raises CheckpointError if there is none, or if it is damaged, cut short, or a file of another kind.
    """
    try:
        with open_untrusted(path, CheckpointError) as file:
            return _state(file.read())
    except FileNotFoundError as error:
        raise CheckpointError(f"there is no checkpoint {path}") from error
    except OSError as error:
        raise CheckpointError(f"could not read the checkpoint {path}: {error.strerror or error}") from error


def _state(content: bytes) -> dict[str, Any]:
    try:
        tensors, metadata = safetensors.read(content)
    except safetensors.SafetensorsError as error:
        raise CheckpointError(
            f"not a whole checkpoint: {error} (damaged, cut short, or a file of another kind?)"
        ) from error
    if metadata.get("format") != _FORMAT:
        raise CheckpointError(
            f"a safetensors file but not a {_FORMAT!r}: its format is {metadata.get('format')!r:.40} "
            "(weights of another program, or a checkpoint of another version?)"
        )
    text = metadata.get("state", "")
    if metadata.get("checksum") != _checksum(text, tensors):
        raise CheckpointError("damaged: its content does not have the checksum that it was saved with")
    state = _put_tensors_back(parse_json(text), tensors, _DEEPEST)
    if type(state) is not dict or tensors:
        raise CheckpointError("its state is no object, or has not all of its tensors in it")
    return state


def _parts(state: Mapping[str, Any]) -> tuple[str, dict[str, np.ndarray]]:
    """The state as JSON, and its arrays by the names that they have there."""
    tensors: dict[str, np.ndarray] = {}
    return json.dumps(_take_tensors(state, "", tensors)), tensors


def _take_tensors(tree: Any, path: str, tensors: dict[str, np.ndarray]) -> Any:
    """The tree as JSON can hold it: arrays go to `tensors` and leave their names behind."""
    if isinstance(tree, np.ndarray):
        name = path
        while name in tensors or name in _NO_NAMES:  # {"a.b": …} beside {"a": {"b": …}}
            name += "'"
        tensors[name] = tree.astype(np.float32) if tree.dtype.name == "bfloat16" else tree
        return {_TENSOR: name}
    if isinstance(tree, np.generic):
        return tree.item()
    if isinstance(tree, Mapping):
        for key in tree:
            if not isinstance(key, str) or key == _TENSOR or not safetensors.is_text(key):
                raise TypeError(f"keys in a state must be strings other than {_TENSOR!r}, got {key!r} at {path!r}")
        return {key: _take_tensors(value, _join(path, key), tensors) for key, value in tree.items()}
    if isinstance(tree, (list, tuple)):
        return [_take_tensors(value, _join(path, str(place)), tensors) for place, value in enumerate(tree)]
    if tree is None or isinstance(tree, (str, bool, int, float)):
        return tree
    raise TypeError(f"a state holds arrays, strings, numbers, booleans and None, got {type(tree).__name__} at {path!r}")


def _put_tensors_back(tree: Any, tensors: dict[str, np.ndarray], levels: int) -> Any:
    """The tree with its arrays in their places, each once; they are taken out of `tensors`."""
    if isinstance(tree, (dict, list)) and not levels:
        raise CheckpointError(f"its state has more than {_DEEPEST} objects and arrays in one another")
    if isinstance(tree, dict):
        if tree.keys() == {_TENSOR}:
            name = tree[_TENSOR]
            if type(name) is not str or name not in tensors:
                raise CheckpointError(
                    f"its state refers to a tensor {name!r:.100}, which is not there or has its place"
                )
            return tensors.pop(name)
        return {key: _put_tensors_back(value, tensors, levels - 1) for key, value in tree.items()}
    if isinstance(tree, list):
        return [_put_tensors_back(value, tensors, levels - 1) for value in tree]
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
