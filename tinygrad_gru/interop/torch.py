"""Import and export of PyTorch weights, by the names and in the layouts of its `state_dict`.

    load(model, "model.safetensors")      # or a .pt file of torch.save, or a mapping of arrays or tensors
    save(model, "model.safetensors")      # for safetensors.torch.load_file

PyTorch itself is not needed. Modules are paired by name: the modules of a Sequential are numbered, all others have the
names of their attributes. What can be converted exactly is; what cannot is refused with the reason:

    Linear, Embedding, LayerNorm    unchanged (PyTorch's Linear stores Wᵀ; a TiedLinear is a Linear there)
    RNN, LSTM, and their cells      gates in another order; the two biases of PyTorch are one here, their sum, and go
                                    back as that sum and zeros
    GRU and its cell                with reset_after=True only. The update gates have opposite signs, so W_z, U_z and
                                    b_z are negated; the candidate's two biases are b_h and c_h
    user-defined modules and cells  tensors by our names, unchanged
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from .. import nn
from ..backend import is_floating, to_host
from ..io import open_untrusted, replacing, safetensors
from ..nn.checks import convert
from ..ops.op import unwrap
from ..tensor import Tensor
from .cells import kind_of, kind_of_layer, settings_of, settings_of_layer, settings_text
from .errors import InteropError
from .gates import TORCH, StackedWeights, from_ours, to_ours
from .torch_file import read_torch_file

Arrays = dict[str, np.ndarray]

_LINEAR = {"W": "weight", "b": "bias"}
#: PyTorch's names of tensors, by ours.
_RENAMED = {nn.Linear: _LINEAR, nn.TiedLinear: _LINEAR, nn.Embedding: {"W": "weight"}}


def read(path: str | os.PathLike[str]) -> Any:
    """The content of a .safetensors file, or of a .pt or .pth file of `torch.save`: arrays by name.

    Code is never run: a .pt file may contain tensors, numbers and strings in dictionaries and lists, and is refused if
    it contains more.
    """
    path = Path(path)
    if path.suffix != ".safetensors":
        return read_torch_file(path)
    with open_untrusted(path, InteropError) as file:
        return safetensors.read(file.read())[0]


def load(
    module: nn.Module, source: str | os.PathLike[str] | Mapping[str, Any], names: Mapping[str, str] | None = None
) -> nn.Module:
    """Load the weights of a PyTorch module into `module`; returns it.

    source   a file, as for `read`, or a state_dict: a mapping of arrays or tensors
    names    PyTorch's names of modules, by ours: {"recurrence": "rnn", "output": "head.fc"}

    A tensor that has several names here (tied weights) may be there under any of them; under several it must be the
    same. All weights are loaded, or none if there is an error. Raises InteropError that lists what is missing, unknown,
    of another shape, or not real, or that says why a part of the module has no counterpart in PyTorch.
    """
    given = _state_dict_in(source)
    parts = list(_parts(module, names or {}))
    expected = {theirs: array for part in parts for theirs, array in part.exported().items()}
    problems = [f"unknown: {name} {array.shape}" for name, array in given.items() if name not in expected]
    converted: Arrays = {}
    for name in filter(given.__contains__, expected):
        try:
            converted[name] = _converted(name, given[name], expected[name])
        except ValueError as error:
            problems.append(str(error))
    assigned: dict[int, tuple[str, np.ndarray]] = {}  # by tensor: (path, array)
    for part in parts:
        if part.exported().keys() <= converted.keys():
            for tensor, array in part.imported(converted):
                where, other = assigned.setdefault(id(tensor), (part.theirs, array))
                if not np.array_equal(array, other, equal_nan=True):
                    problems.append(f"{part.theirs} and {where} are one tensor here, but they differ in the state_dict")
    for part in parts:
        if not all(id(tensor) in assigned for tensor in part.tensors):
            problems += [
                f"missing: {name} {array.shape}" for name, array in part.exported().items() if name not in given
            ]
    if problems:
        raise InteropError(
            f"the state_dict does not fit {type(module).__name__} (made with other settings? modules of other names "
            "can be paired by `names`):\n  " + "\n  ".join(problems)
        )
    module.load_state_dict({name: assigned[id(tensor)][1] for name, tensor in module.named_tensors()})
    return module


def state_dict(module: nn.Module, names: Mapping[str, str] | None = None) -> Arrays:
    """The weights of `module` by PyTorch's names and in its layouts, on the host; `names` as for `load`.

    Raises InteropError if a part of the module has no counterpart in PyTorch.
    """
    return {name: array for part in _parts(module, names or {}) for name, array in part.exported().items()}


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


def _array(name: Any, value: Any) -> np.ndarray:
    """An array of any backend, a Tensor, or a tensor of PyTorch, as a NumPy array of real numbers."""
    if hasattr(value, "resolve_neg"):
        try:
            value = value.detach().resolve_conj().resolve_neg().cpu()
            value = (value.float() if "bfloat16" in str(value.dtype) else value).numpy()
        except (RuntimeError, TypeError) as error:
            raise InteropError(f"{name}: expected numbers in memory, not such a tensor: {error}") from error
    value = unwrap(value)
    if not hasattr(value, "shape"):
        raise InteropError(f"{name}: expected an array or a tensor, got a {type(value).__name__}")
    array = to_host(value)
    if not is_floating(array.dtype) and array.dtype.kind not in "biu":
        raise InteropError(f"{name}: expected real numbers, got {array.dtype}, which no module here has")
    return array


def _converted(name: str, array: np.ndarray, ours: np.ndarray) -> np.ndarray:
    """An array of a state_dict, in the dtype of ours. ValueError unless it fits."""
    if array.shape != ours.shape:
        raise ValueError(f"{name}: expected shape {ours.shape}, got {array.shape}")
    if is_floating(ours.dtype) and not is_floating(array.dtype):
        raise ValueError(
            f"{name}: expected {ours.dtype}, got {array.dtype} (quantized weights? they mean nothing without a scale)"
        )
    return convert(name, array, ours.dtype)


def _transposed(array: np.ndarray, transpose: bool) -> np.ndarray:
    return np.ascontiguousarray(array.T) if transpose else array


class _Single:
    """A tensor that PyTorch has too, unchanged or transposed.

    theirs   its name in PyTorch
    """

    def __init__(self, tensor: Tensor, theirs: str, transposed: bool):
        self.tensors, self.theirs, self.transposed = [tensor], theirs, transposed

    def exported(self) -> Arrays:
        """Arrays by PyTorch's names."""
        return {self.theirs: _transposed(self.tensors[0].numpy(), self.transposed)}

    def imported(self, given: Arrays) -> list[tuple[Tensor, np.ndarray]]:
        """Our tensors and their values, from a whole state_dict."""
        return [(self.tensors[0], _transposed(given[self.theirs], self.transposed))]


class _Cell:
    """The tensors of a cell, by itself or in a layer.

    theirs  the prefix of the tensors' names in PyTorch
    suffix  of these names, such as "_l0_reverse"; empty for a cell by itself
    """

    def __init__(self, cell: nn.Cell, theirs: str, kind: str, suffix: str = ""):
        self.cell, self.theirs, self.kind, self.suffix = cell, theirs, kind, suffix
        self.named = _local_tensors(cell)
        self.tensors = list(self.named.values())

    def exported(self) -> Arrays:
        ours = {name: tensor.numpy() for name, tensor in self.named.items()}
        stacked = from_ours(TORCH, self.kind, ours, self.cell.has_bias)
        theirs = {"weight_ih": stacked.W, "weight_hh": stacked.U, "bias_ih": stacked.b_x, "bias_hh": stacked.b_h}
        theirs["weight_hr"] = np.ascontiguousarray(ours["P"].T) if "P" in ours else None
        return {self.theirs + name + self.suffix: array for name, array in theirs.items() if array is not None}

    def imported(self, given: Arrays) -> list[tuple[Tensor, np.ndarray]]:
        names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh", "weight_hr")
        *parts, projection = (given.get(self.theirs + name + self.suffix) for name in names)
        ours = to_ours(TORCH, self.kind, StackedWeights(*parts), reset_after=self.kind == "GRU")
        ours |= {} if projection is None else {"P": projection.T}
        return [(self.named[name], array) for name, array in ours.items()]


def _local_tensors(module: nn.Module) -> dict[str, Tensor]:
    """The immediate tensors of a module by all of their names."""
    return {name: value for name, value in module._declared() if isinstance(value, Tensor)}


def _parts(module: nn.Module, names: Mapping[str, str], ours: str = "", theirs: str = "") -> Iterator[_Single | _Cell]:
    """The parts of a module that have tensors. `ours` and `theirs` are paths that end in a dot."""
    kind = kind_of(module) if isinstance(module, nn.Cell) else kind_of_layer(module)
    if kind is not None:
        yield from _recurrent_parts(module, kind, ours, theirs)
        return
    known = _RENAMED.get(type(module), {})
    for name, tensor in _local_tensors(module).items():
        yield _Single(tensor, theirs + known.get(name, name), transposed=type(module) is nn.Linear and name == "W")
    for name, child in module.named_children():
        our_path = f"{ours}{name}"
        their_name = name.removeprefix("layers.") if isinstance(module, nn.Sequential) else name
        yield from _parts(child, names, f"{our_path}.", f"{names.get(our_path, theirs + their_name)}.")


def _recurrent_parts(module: Any, kind: str, ours: str, theirs: str) -> Iterator[_Cell]:
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
        raise InteropError(f"{where}: PyTorch has no {kind}{'Cell' * is_cell} with {settings_text(settings)}")
    if is_cell:
        yield _Cell(module, theirs, kind)
        return
    for k, cell in enumerate(module.cells):
        layer, direction = divmod(k, module.directions)
        suffix = f"_l{layer}{'_reverse' * direction}"
        yield _Cell(cell, theirs, kind, suffix)
