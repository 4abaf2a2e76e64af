"""PyTorch's weights into our modules and back, by the names and in the layouts of its `state_dict`.

    load(model, "model.safetensors")      # or a .pt file of torch.save, or a mapping of arrays or tensors
    save(model, "model.safetensors")      # for safetensors.torch.load_file

PyTorch itself is not needed. Modules are paired by name: the parts of a Sequential are numbered, all others have the
names of their attributes. What can be exchanged exactly is; what cannot is refused with the reason:

    Linear, Embedding, LayerNorm    as they are (PyTorch's Linear keeps Wᵀ)
    RNN, LSTM, and their cells      gates in another order; the two biases of PyTorch are one here, their sum, and go
                                    back as that sum and zeros
    GRU and its cell                with reset_after=True only. The update gates have opposite senses, so that W_z, U_z
                                    and b_z are negated; the candidate's two biases are b_h and c_h
    tensors of a module of one's own, and cells with equations of one's own: by our names, as they are
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from .. import nn
from ..backend import to_host
from ..io import open_untrusted, replacing, safetensors
from ..ops.op import raw
from .cells import in_words, kind_of, kind_of_layer, settings_of, settings_of_layer
from .errors import InteropError
from .gates import TORCH, Stacked, from_ours, to_ours
from .torch_file import read_torch_file

Arrays = dict[str, np.ndarray]


def read(path: str | os.PathLike[str]) -> Any:
    """What a .safetensors file, or a .pt or .pth file of `torch.save`, holds: arrays by name.

    Code is never run: a .pt file may hold tensors, numbers and strings in dictionaries and lists, and is refused if it
    holds more.
    """
    path = Path(path)
    if path.suffix != ".safetensors":
        return read_torch_file(path)
    with open_untrusted(path, InteropError) as file:
        return safetensors.read(file.read())[0]


def load(
    module: nn.Module, source: str | os.PathLike[str] | Mapping[str, Any], names: Mapping[str, str] | None = None
) -> nn.Module:
    """Give `module` the weights of a PyTorch module; returns it.

    source   a file, as for `read`, or a state_dict: a mapping of arrays or tensors
    names    what modules are called there, by what they are called here: {"recurrence": "rnn", "output": "head.fc"}

    Nothing is changed unless everything fits. Raises InteropError that lists what is missing, unknown or of another
    shape, or that says why a part of the module has no counterpart in PyTorch.
    """
    given = _state_dict_in(source)
    parts = list(_parts(module, names or {}))
    expected = {theirs: array.shape for part in parts for theirs, array in part.out().items()}
    problems = [f"missing: {name} {shape}" for name, shape in expected.items() if name not in given]
    problems += [f"unknown: {name} {array.shape}" for name, array in given.items() if name not in expected]
    problems += [
        f"{name}: expected shape {shape}, got {given[name].shape}"
        for name, shape in expected.items()
        if name in given and given[name].shape != shape
    ]
    if problems:
        raise InteropError(
            f"the state_dict does not fit {type(module).__name__} (made with other settings? modules of other names "
            "can be paired by `names`):\n  " + "\n  ".join(problems)
        )
    values = {ours: array for part in parts for ours, array in part.back(given).items()}
    module.load_state_dict({name: values[name] for name, _ in module.named_tensors()})
    return module


def state_dict(module: nn.Module, names: Mapping[str, str] | None = None) -> Arrays:
    """The weights of `module` by PyTorch's names and in its layouts, on the host; `names` as for `load`.

    Raises InteropError if a part of the module has no counterpart in PyTorch.
    """
    return {name: array for part in _parts(module, names or {}) for name, array in part.out().items()}


def save(module: nn.Module, path: str | os.PathLike[str], names: Mapping[str, str] | None = None) -> None:
    """Write `state_dict(module)` to a .safetensors file, which safetensors.torch.load_file reads."""
    path = Path(path)
    if path.suffix != ".safetensors":
        raise InteropError(
            f"path: expected a name that ends in .safetensors, got {path} (a .pt file is a pickle, and none is written "
            "here; PyTorch reads the other by safetensors.torch.load_file)"
        )
    weights = state_dict(module, names)
    with replacing(path) as file:
        safetensors.write(file, weights, {"format": "pt"})


def _state_dict_in(source: Any) -> Arrays:
    given = source if isinstance(source, Mapping) else read(source)
    if not isinstance(given, Mapping):
        raise InteropError(f"source: expected a state_dict, arrays by name, got a {type(given).__name__}")
    if any(isinstance(value, Mapping) for value in given.values()):
        raise InteropError(
            f"source: expected arrays by name, got a mapping with {', '.join(map(repr, given))}: choose the state_dict "
            "in it, such as load(module, read(path)['model'])"
        )
    return {name: _array(name, value) for name, value in given.items()}


def _array(name: str, value: Any) -> np.ndarray:
    """A NumPy array of an array of any backend, of a Tensor, or of a tensor of PyTorch."""
    if hasattr(value, "cpu"):
        value = value.detach().cpu()
        value = (value.float() if "bfloat16" in str(value.dtype) else value).numpy()
    value = raw(value)
    if not hasattr(value, "shape"):
        raise InteropError(f"{name}: expected an array or a tensor, got a {type(value).__name__}")
    return to_host(value)


class _Part:
    """Tensors of a module as PyTorch has them, and the way back.

    ours, theirs   what comes before the names of the tensors, here and there
    """

    def __init__(self, module: nn.Module, ours: str, theirs: str):
        self.module, self.ours, self.theirs = module, ours, theirs

    def out(self) -> Arrays:
        """The tensors by their names in PyTorch."""
        return {self.theirs + name: array for name, array in self.converted().items()}

    def back(self, given: Arrays) -> Arrays:
        """Ours by our names, from a whole state_dict."""
        own = {name: given[self.theirs + name] for name in self.converted()}
        return {self.ours + name: array for name, array in self.reverted(own).items()}

    def converted(self) -> Arrays:
        raise NotImplementedError

    def reverted(self, theirs: Arrays) -> Arrays:
        raise NotImplementedError


class _Own(_Part):
    """The tensors right inside of a module that is not one of ours; they go as they are."""

    def converted(self) -> Arrays:
        inside = {id(tensor) for _, child in self.module.children() for _, tensor in child.named_tensors()}
        return {name: tensor.numpy() for name, tensor in self.module.named_tensors() if id(tensor) not in inside}

    def reverted(self, theirs: Arrays) -> Arrays:
        return theirs


class _Embedding(_Part):
    def converted(self) -> Arrays:
        return {"weight": self.module.state_dict()["W"]}

    def reverted(self, theirs: Arrays) -> Arrays:
        return {"W": theirs["weight"]}


class _Linear(_Part):
    def converted(self) -> Arrays:
        ours = self.module.state_dict()
        return {"weight": np.ascontiguousarray(ours["W"].T)} | ({"bias": ours["b"]} if "b" in ours else {})

    def reverted(self, theirs: Arrays) -> Arrays:
        return {"W": theirs["weight"].T} | ({"b": theirs["bias"]} if "bias" in theirs else {})


class _Cell(_Part):
    """A cell, alone or at its place in a layer, which PyTorch writes behind the names of its tensors.

    place   such as "_l0_reverse"; nothing for a cell that is alone
    """

    def __init__(self, cell: nn.Cell, ours: str, theirs: str, kind: str, place: str = ""):
        super().__init__(cell, ours, theirs)
        self.cell, self.kind, self.place = cell, kind, place

    def converted(self) -> Arrays:
        ours = self.module.state_dict()
        stacked = from_ours(TORCH, self.kind, ours, self.cell.has_bias)
        theirs = {"weight_ih": stacked.W, "weight_hh": stacked.U, "bias_ih": stacked.b_x, "bias_hh": stacked.b_h}
        theirs["weight_hr"] = np.ascontiguousarray(ours["P"].T) if "P" in ours else None
        return {name + self.place: array for name, array in theirs.items() if array is not None}

    def reverted(self, theirs: Arrays) -> Arrays:
        names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        stacked = Stacked(*(theirs.get(name + self.place) for name in names))
        projection = theirs.get(f"weight_hr{self.place}")
        ours = to_ours(TORCH, self.kind, stacked, reset_after=self.kind == "GRU")
        return ours if projection is None else ours | {"P": projection.T}


def _parts(module: nn.Module, names: Mapping[str, str], ours: str = "", theirs: str = "") -> Iterator[_Part]:
    """A module and what is inside, as far as it has tensors. `ours` and `theirs` are paths that end in a dot."""
    kind = kind_of(module) if isinstance(module, nn.Cell) else kind_of_layer(module)
    if kind is not None:
        yield from _recurrent_parts(module, kind, ours, theirs)
    elif type(module) in (nn.Linear, nn.Embedding):
        yield (_Linear if type(module) is nn.Linear else _Embedding)(module, ours, theirs)
    else:
        yield _Own(module, ours, theirs)
        for name, child in module.children():
            here = f"{ours}{name}"
            there = name.removeprefix("layers.") if isinstance(module, nn.Sequential) else name
            yield from _parts(child, names, f"{here}.", f"{names.get(here, theirs + there)}.")


def _recurrent_parts(module: Any, kind: str, ours: str, theirs: str) -> Iterator[_Part]:
    is_cell = isinstance(module, nn.Cell)
    settings = settings_of(module) if is_cell else settings_of_layer(module)
    where = ours.removesuffix(".") or type(module).__name__
    if kind == "GRU" and not settings.pop("reset_after", False):
        raise InteropError(
            f"{where}: its reset gate acts before the product with U_h, and that of PyTorch's GRU after it; no weights "
            "make one of them compute the other. Make it with reset_after=True"
        )
    if not is_cell:
        settings.pop("proj_size", None)
    if kind == "RNN" and settings.get("activation") == "relu":
        del settings["activation"]
    if settings:
        raise InteropError(f"{where}: PyTorch has no {kind}{'Cell' * is_cell} with {in_words(settings)}")
    if is_cell:
        yield _Cell(module, ours, theirs, kind)
        return
    for k, cell in enumerate(module.cells):
        layer, direction = divmod(k, module.directions)
        place = f"_l{layer}{'_reverse' * direction}"
        yield _Cell(cell, f"{ours}cells.{k}.", theirs, kind, place)
