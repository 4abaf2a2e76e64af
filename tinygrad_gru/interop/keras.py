"""Import and export of Keras weights, in the order and the layouts of `get_weights()`.

    load(model, keras_model.get_weights())      # of a model or a layer; or a .keras or .weights.h5 file
    keras_model.set_weights(weights(model))

Keras itself is not needed. Weights have no names there, so layers are paired by their order: ours is the order of
assignment, and the k-th GRU of a file is our k-th. A recurrent layer of ours with several layers is as many layers of
Keras, and one with two directions is a Bidirectional. What can be converted exactly is; what cannot is refused with
the reason:

    Linear (Dense), Embedding, LayerNorm    unchanged
    RNN (SimpleRNN), LSTM                   gates stacked
    GRU                                     of both forms: `reset_after` must be the same on both sides, and the shape
                                            of the bias shows which. The update gates have opposite signs, so W_z, U_z
                                            and b_z are negated; two biases are one here where that is exact

Weights contain neither activations nor the epsilon of a LayerNormalization (0.001 in Keras). A .keras file does: each
setting of its layers must equal ours, or have no effect here, or not be set. How layers are connected, layers without
weights (Activation, Masking), and which outputs of a layer are used is up to `forward`. Neither file needs Keras or
h5py, and nothing but the file itself is read.
"""

from __future__ import annotations

import os
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .. import nn
from ..backend import is_floating, to_host
from ..io import Budget, open_untrusted, parse_json
from ..ops.op import unwrap
from . import hdf5
from .cells import kind_of_layer, settings_of_layer, settings_text
from .errors import InteropError
from .gates import KERAS, StackedWeights, from_ours, to_ours

#: Keras's activations that equal ours of the same name. (Its leaky_relu and gelu have other constants.)
_ACTIVATIONS = {"tanh", "sigmoid", "relu", "softplus", "elu", "silu"}
_MERGES = {"concat": "concat", "sum": "sum", "mul": "mul", "mean": "ave"}
_CLASSES = {"RNN": "SimpleRNN", "GRU": "GRU", "LSTM": "LSTM"}
_SNAKE_CASE = {
    "SimpleRNN": "simple_rnn", "GRU": "gru", "LSTM": "lstm", "Bidirectional": "bidirectional", "Dense": "dense",
    "Embedding": "embedding", "LayerNormalization": "layer_normalization",
}  # fmt: skip

#: Settings of a layer without an effect here: sizes (the arrays have them), initialisers, regularisation, how it is
#: executed, and which of its outputs are used.
_IGNORED_SETTINGS = {
    "name", "trainable", "units", "input_dim", "output_dim", "seed", "unit_forget_bias", "unroll", "implementation",
    "use_cudnn", "return_sequences", "return_state", "zero_output_for_mask",
}  # fmt: skip
_IGNORED_SUFFIXES = ("_initializer", "_regularizer", "_constraint")
_DTYPES = {"float16", "bfloat16", "float32", "float64"}


def load(module: nn.Module, source: str | os.PathLike[str] | Sequence[Any]) -> nn.Module:
    """Load the weights of a Keras model or layer into `module`; returns it.

    source   a list of arrays as `get_weights()` gives it, or a .keras or .weights.h5 file of a Sequential or functional
             model

    All weights are loaded, or none if there is an error. Raises InteropError that says what does not fit, or why a part
    of the module has no counterpart in Keras.
    """
    parts = list(_parts(module, ""))
    what = "source"
    if isinstance(source, (str, os.PathLike)):
        what, given = str(source), _arrays_of_file(Path(source), parts)
    elif not isinstance(source, Iterable):
        raise TypeError(f"source: expected a list of arrays, or the path of a file, got a {type(source).__name__}")
    else:
        given = [to_host(unwrap(array)) for array in source]
    invalid = {str(array.dtype) for array in given if not (is_floating(array.dtype) or array.dtype.kind in "iu")}
    if invalid:
        raise InteropError(f"{what}: expected arrays of real numbers, got {', '.join(sorted(invalid))}")
    expected = sum(len(part.weights()) for part in parts)
    if len(given) != expected:
        counts = ", ".join(f"{part.path or part.class_name} ({len(part.weights())})" for part in parts)
        raise InteropError(
            f"{what}: expected {expected} arrays, got {len(given)} (other layers, or layers without a bias?): "
            f"{type(module).__name__} has {counts}"
        )
    values: dict[str, np.ndarray] = {}
    for part in parts:
        count = len(part.weights())
        values |= part.state_dict_of(given[:count])
        given = given[count:]
    module.load_state_dict(values)
    return module


def weights(module: nn.Module) -> list[np.ndarray]:
    """The weights of `module` as the `set_weights` of a Keras model with the same layers takes them.

    Raises InteropError if a part of the module has no counterpart in Keras.
    """
    return [array for part in _parts(module, "") for array in part.weights()]


class _Part:
    """A layer of Keras and the module of ours that corresponds to it.

    path        of our module, with a dot at its end
    class_name  of the layer in Keras
    settings    that its configuration must have to compute what ours does
    """

    def __init__(self, module: nn.Module, path: str, class_name: str, **settings: Any):
        self.module, self.path, self.class_name, self.settings = module, path.removesuffix("."), class_name, settings
        self.prefix = path

    @property
    def folders(self) -> list[str]:
        """The folders of its arrays, within the layer's folder of a file."""
        return ["vars"]

    def weights(self) -> list[np.ndarray]:
        return list(self.module.state_dict().values())  # in the same order as in Keras

    def state_dict_of(self, given: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
        self.check(given, self.weights())
        return {self.prefix + name: array for name, array in zip(self.module.state_dict(), given)}

    def check(self, given: Sequence[np.ndarray], expected: Sequence[np.ndarray]) -> None:
        shapes = [array.shape for array in given], [array.shape for array in expected]
        if shapes[0] != shapes[1]:
            raise InteropError(
                f"{self.path or type(self.module).__name__}: expected {self.class_name} weights of shapes {shapes[1]}, "
                f"got {shapes[0]} (layers in another order, or of other sizes?)"
            )


class _Recurrent(_Part):
    """One layer of a recurrent layer of ours, in one direction or both."""

    def __init__(self, layer: nn.Recurrent, path: str, kind: str, first: int):
        settings = settings_of_layer(layer)
        self.kind, self.first, self.cells = kind, first, layer.cells[first : first + layer.directions]
        self.reset_after = settings.pop("reset_after", False)
        cell = {"activation": settings.pop("activation", "tanh"), "use_bias": self.cells[0].has_bias}
        if kind != "RNN":
            cell["recurrent_activation"] = settings.pop("gate_activation", "sigmoid")
        if kind == "GRU":
            cell["reset_after"] = self.reset_after
        merge = _MERGES[settings.pop("merge", "concat")]
        where = path.removesuffix(".") or type(layer).__name__
        if settings.pop("reverse", False):
            raise InteropError(
                f"{where}: outputs of Keras's go_backwards are in reversed order, and with reverse=True "
                "ours stay at their time steps"
            )
        if settings.pop("output_activation", "tanh") != cell["activation"] and kind == "LSTM":
            raise InteropError(f"{where}: Keras's LSTM has one activation for candidate and output")
        activations = {name: cell[name] for name in ("activation", "recurrent_activation") if name in cell}
        settings |= {name: value for name, value in activations.items() if value not in _ACTIVATIONS}
        if settings or (kind == "GRU" and cell["recurrent_activation"] != "sigmoid"):
            # A gate of the opposite sign is converted by σ(−a) = 1 − σ(a), which holds for no other activation there.
            raise InteropError(f"{where}: Keras has no {_CLASSES[kind]} with {settings_text(settings or cell)}")
        wrapped = layer.bidirectional
        super().__init__(layer, path, "Bidirectional" if wrapped else _CLASSES[kind])
        cell["dropout"] = layer.input_dropout
        self.settings: dict[str, Any] = {"go_backwards": False, **cell}
        if wrapped:
            forward, backward = ((_CLASSES[kind], {**cell, "go_backwards": way}) for way in (False, True))
            self.settings = {"merge_mode": merge, "layer": forward, "backward_layer": backward}

    @property
    def folders(self) -> list[str]:
        if len(self.cells) == 1:
            return ["cell/vars"]
        return ["forward_layer/cell/vars", "backward_layer/cell/vars"]

    def weights(self) -> list[np.ndarray]:
        return [array for cell in self.cells for array in self._converted(cell)]

    def _converted(self, cell: nn.Cell) -> list[np.ndarray]:
        stacked = from_ours(KERAS, self.kind, cell.state_dict(), cell.has_bias)
        if stacked.b_x is None:
            return [stacked.W, stacked.U]
        return [stacked.W, stacked.U, np.stack([stacked.b_x, stacked.b_h]) if self.reset_after else stacked.b_x]

    def state_dict_of(self, given: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
        has_bias, count = self.cells[0].has_bias, len(given) // len(self.cells)
        if self.kind == "GRU" and has_bias and (theirs := given[2].ndim == 2) != self.reset_after:
            raise InteropError(
                f"{self.path or 'GRU'}: a bias of shape {given[2].shape} belongs to reset_after={theirs}, and this "
                f"layer has reset_after={self.reset_after}; no weights make one of them compute the other. "
                f"Make it with reset_after={theirs}"
            )
        self.check(given, self.weights())
        ours: dict[str, np.ndarray] = {}
        for k in range(len(self.cells)):
            W, U, *bias = given[k * count : (k + 1) * count]
            b_x, b_h = bias[0] if has_bias and self.reset_after else (*bias, None, None)[:2]
            tensors = to_ours(KERAS, self.kind, StackedWeights(W, U, b_x, b_h), self.reset_after)
            ours |= {f"{self.prefix}cells.{self.first + k}.{name}": array for name, array in tensors.items()}
        return ours


_FEED_FORWARD: dict[type, Callable[[Any], tuple[str, dict[str, Any]]]] = {
    nn.Linear: lambda layer: ("Dense", {"use_bias": layer.b is not None, "activation": "linear"}),
    nn.Embedding: lambda layer: ("Embedding", {}),
    nn.LayerNorm: lambda layer: (
        "LayerNormalization",
        {"axis": [-1], "epsilon": layer.eps, "center": True, "scale": True},
    ),
}


def _parts(module: nn.Module, path: str) -> Iterator[_Part]:
    """The layers of Keras that a module corresponds to, in order of assignment. `path` ends in a dot."""
    kind = kind_of_layer(module)
    if kind is not None:
        assert isinstance(module, nn.Recurrent)
        for first in range(0, len(module.cells), module.directions):
            yield _Recurrent(module, path, kind, first)
    elif type(module) in _FEED_FORWARD:
        class_name, settings = _FEED_FORWARD[type(module)](module)
        yield _Part(module, path, class_name, **settings)
    else:
        in_children = {id(tensor) for child in module.children() for _, tensor in child.named_tensors()}
        unsupported = [name for name, tensor in module.named_tensors() if id(tensor) not in in_children]
        if unsupported:
            raise InteropError(
                f"{path.removesuffix('.') or type(module).__name__}: Keras has no layer with the tensors "
                f"{', '.join(unsupported)} of {type(module).__name__}"
            )
        for name, child in module.named_children():
            yield from _parts(child, f"{path}{name}.")


# -- files -----------------------------------------------------------------------------------------------------------


def _arrays_of_file(path: Path, parts: Sequence[_Part]) -> list[np.ndarray]:
    """The arrays of a file for these parts."""
    with open_untrusted(path, InteropError) as file:
        if path.suffix != ".keras":
            content = file.read()
            if not content.startswith(hdf5.SIGNATURE):
                raise InteropError("expected a .keras or .weights.h5 file of Keras 3, got neither")
        else:
            budget = Budget.of(file)
            try:
                archive = zipfile.ZipFile(file)
            except (ValueError, OSError, zipfile.BadZipFile) as error:
                raise InteropError(f"expected a .keras or .weights.h5 file of Keras 3: {error}") from error
            _check_configuration(parse_json(_member(archive, "config.json", budget)), parts)
            content = _member(archive, "model.weights.h5", budget)
        return _arrays_of_parts(hdf5.read(content), parts)


def _member(archive: zipfile.ZipFile, name: str, budget: Budget) -> bytes:
    found = [info for info in archive.infolist() if info.filename == name]
    if len(found) != 1:
        raise InteropError(f"expected one {name} in it, got {len(found)}: not of Keras 3?")
    (info,) = found
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) or info.flag_bits & 1:
        raise InteropError(f"{name} is encrypted, or compressed by an unsupported method")
    budget.spend(info.file_size, name)
    try:
        return archive.read(info)  # never unpacks more than the declared size
    except (ValueError, OSError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
        raise InteropError(f"{name} cannot be unpacked: {error}") from error


def _arrays_of_parts(found: Mapping[str, np.ndarray], parts: Sequence[_Part]) -> list[np.ndarray]:
    found = {
        name: array for name, array in found.items()
        if not name.startswith("optimizer/") and "seed_generator" not in name.split("/")
    }  # fmt: skip
    if not any(name.startswith("layers/") for name in found):
        raise InteropError(
            "expected the layers of a Sequential or functional model; the weights of others are read by their order: "
            "load(module, keras_model.get_weights())"
        )
    used: list[str] = []
    for part, name in zip(parts, _names_in_file(parts)):
        for folder in part.folders:
            folder_path = f"layers/{name}/{folder}/"
            count = sum(entry.startswith(folder_path) for entry in found)
            used += [entry for entry in (f"{folder_path}{k}" for k in range(count)) if entry in found]
    unknown = sorted(found.keys() - set(used))
    if unknown:
        raise InteropError(f"it has weights that the module does not have: {', '.join(unknown)}")
    return [found[name] for name in used]


def _names_in_file(parts: Sequence[_Part]) -> Iterator[str]:
    """The names of layers in a file: gru, gru_1, …, numbered per class."""
    counts: dict[str, int] = {}
    for part in parts:
        name = _SNAKE_CASE[part.class_name]
        count = counts[name] = counts.get(name, -1) + 1
        yield f"{name}_{count}" if count else name


# -- configurations --------------------------------------------------------------------------------------------------


def _check_configuration(model: Any, parts: Sequence[_Part]) -> None:
    """Raise InteropError unless the layers of a .keras file are those of the module, with the same settings."""
    entries = _mapping(_mapping(model, "the model").get("config"), "the model").get("layers", ())
    if not isinstance(entries, (list, tuple)):
        raise InteropError("config.json: expected a list of layers")
    known = list(_SNAKE_CASE)  # a list, for a file may have an unhashable name
    layers = [layer for layer in entries if _mapping(layer, "a layer").get("class_name") in known]
    classes = [layer["class_name"] for layer in layers], [part.class_name for part in parts]
    if sorted(classes[0]) != sorted(classes[1]):
        raise InteropError(f"expected layers {', '.join(classes[1])}, the file has {', '.join(classes[0])}")
    for class_name in _SNAKE_CASE:
        ours = [part for part in parts if part.class_name == class_name]
        theirs = [layer for layer in layers if layer["class_name"] == class_name]
        for part, layer in zip(ours, theirs):
            for name, value, found in _differences(part.class_name, part.settings, layer):
                raise InteropError(
                    f"{part.path or class_name}: the layer {layer['config'].get('name')!r} of the file has "
                    f"{name}={found!r}, and ours {name}={value!r} (if `forward` compensates for it: "
                    "load(module, keras_model.get_weights()), which compares no settings)"
                )


def _mapping(value: Any, what: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise InteropError(f"config.json: expected the configuration of {what}, got {str(value)[:40]}")
    return value


def _differences(
    class_name: str, settings: Mapping[str, Any], layer: Mapping[str, Any]
) -> Iterator[tuple[str, Any, Any]]:
    """(setting, expected, found) where a layer of a file differs from a class of Keras itself with these settings."""
    for name, value in (("module", "keras.layers"), ("class_name", class_name), ("registered_name", None)):
        if layer.get(name) != value:
            yield name, value, layer.get(name)
    given = dict(_mapping(layer.get("config"), f"the layer {class_name}"))
    dtype = given.pop("dtype", None)
    if isinstance(dtype, Mapping):
        dtype = _mapping(dtype.get("config"), "a dtype").get("name")
    if dtype not in (None, *_DTYPES):
        yield "dtype", "float32", dtype
    if class_name == "LayerNormalization" and "axis" in given:
        given["axis"] = _axis(given["axis"], layer)
    if class_name == "Bidirectional":  # older files have none, for it is a copy of the other
        given.setdefault("backward_layer", None)
    for name, value in settings.items():
        found = given.pop(name, None)
        if isinstance(value, tuple):
            if name != "backward_layer" or found is not None:
                yield from _differences(value[0], value[1], _mapping(found, name))
        elif found != value:
            yield name, value, found
    for name, found in given.items():  # unknown ones must be as if they were not set
        if not (name in _IGNORED_SETTINGS or name.endswith(_IGNORED_SUFFIXES)) and found not in (None, False):
            yield name, None, found


def _axis(axis: Any, layer: Mapping[str, Any]) -> Any:
    """The axes to normalise, with −1 for the last one if the file has the rank."""
    built = layer.get("build_config")
    shape = built.get("input_shape") if isinstance(built, Mapping) else None
    last = len(shape) - 1 if isinstance(shape, list) else -1
    return [-1 if a == last else a for a in (axis if isinstance(axis, list) else [axis])]
