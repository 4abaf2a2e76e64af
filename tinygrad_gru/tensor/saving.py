"""`save` and `load`: weights and whole checkpoints in a safetensors file, which other tools can read. No pickles."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..io import checkpoint
from ..tape import Variable
from ..trees import map_leaves

#: The key of what is saved, if it is no dictionary.
_ONE = "$object"
#: What files of other formats begin with, and what reads them.
_FORMATS = {
    b"PK\x03\x04": "a zip archive (of PyTorch or Keras?): interop.torch.load(model, path) and "
    "interop.keras.load(model, path) load weights, and np.load reads .npz",
    b"\x80\x02": "a pickle (an old PyTorch file?): interop.torch.load(model, path) loads weights",
    b"\x89HDF": "an HDF5 file: interop.keras.load(model, path) loads weights of Keras",
    b"\x93NUM": "an array of NumPy: np.load(path) reads it",
}


def save(state: Any, path: str | os.PathLike[str]) -> None:
    """Write weights, or the whole state of a training run, to a safetensors file; an older file is replaced as a whole.

    state   a Module or an optimizer (its `state_dict` is saved), or dictionaries, lists and tuples of Tensors, arrays,
            modules, numbers, strings, booleans and None. Keys of dictionaries are strings
    path    of the file; any name will do

    `load` gives back dictionaries and lists (of tuples, too) of NumPy arrays.

    >>> model = nn.Linear(2, 3)
    >>> optimizer = optim.Adam(model.parameters())
    >>> save({"model": model, "optimizer": optimizer, "step": 7}, "run.safetensors")
    >>> state = load("run.safetensors")
    >>> _ = model.load_state_dict(state["model"])
    >>> optimizer.load_state_dict(state["optimizer"])
    >>> state["step"]
    7
    """
    if isinstance(state, (str, os.PathLike)) and not isinstance(path, (str, os.PathLike)):
        raise TypeError("save: expected what to save, then the path: save(state, path)")
    tree = map_leaves(_stored, state)
    checkpoint.save_checkpoint(path, tree if isinstance(tree, Mapping) else {_ONE: tree})


def load(path: str | os.PathLike[str], **unknown: Any) -> Any:
    """What `save` wrote, with NumPy arrays for Tensors; of other safetensors files, the dictionary of their arrays.

    Raises CheckpointError for a file that does not exist, is damaged, or has another format.

    >>> save(nn.Linear(2, 3).state_dict(), "linear.safetensors")
    >>> {name: array.shape for name, array in load("linear.safetensors").items()}
    {'W': (2, 3), 'b': (3,)}
    """
    if unknown:
        raise TypeError(
            f"load takes the path alone, got {', '.join(unknown)}: arrays are read to the host, and `load_state_dict` "
            "copies them to where the model is; nothing is pickled"
        )
    if Path(path).is_file():
        with Path(path).open("rb") as file:
            start = file.read(4)
        for magic, what in _FORMATS.items():
            if start.startswith(magic):
                raise checkpoint.CheckpointError(f"{path} is {what}")
    state = checkpoint.load_checkpoint(path, plain=True)
    return state[_ONE] if state.keys() == {_ONE} else state


def _stored(value: Any) -> Any:
    """A leaf of a tree as `io.checkpoint` stores it."""
    if isinstance(value, Variable):
        return value.numpy()  # type: ignore[attr-defined]
    return map_leaves(_stored, value.state_dict()) if hasattr(value, "state_dict") else value
