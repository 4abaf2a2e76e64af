"""Scripts: the text of a JavaScript file, from a model."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Sequence
from importlib.resources import files
from typing import Any

import numpy as np

from ...backend import to_host
from ...data import CharacterVocabulary
from ...nn import Module
from ...ops.op import unwrap
from ...scan.targets.javascript import products
from ...scan.targets.javascript.operations import ARRAYS
from ..errors import InteropError
from .inspected import functions
from .model import Layer, TextModel, text_model
from .records import Record, Ref

_IDENTIFIER = re.compile(r"[A-Za-z_$][A-Za-z0-9_$]*")


def source(
    model: Module, vocabulary: CharacterVocabulary | Sequence[str] | None = None, name: str = "tinygradModel"
) -> str:
    """The script of a text model: one file, for a page or for Node.js, that needs nothing else.

    model       a CharacterModel, or a Sequential of an Embedding, recurrent layers of any cell that compiles, and
                modules that are functions of one step, such as Linear, LayerNorm and Tanh. In evaluation mode
    vocabulary  the symbols of its ids
    name        of the object that the script defines

    The object computes what the model does, with float32 rounded after every operation: `info` says what the model is,
    record by record; `parameters` are its arrays, which may be changed; `forward(ids, {targets, state, inspect})` gives
    logits, losses, and the value of every record at every step; `backward(run, weights)` the gradients of the weighted
    losses, and the cotangent of every record; `step` and `generate` go on with a text.

    Raises InteropError for what cannot be exported: it names the layer and the reason.

    >>> vocabulary = data.CharacterVocabulary.from_text("to be or not")
    >>> model = train.CharacterModel(len(vocabulary), embedding=4, hidden=8)
    >>> script = interop.javascript.source(model, vocabulary)
    >>> "// r = sigmoid(v3)" in script, "tinygradModel" in script
    (True, True)
    """
    if not _IDENTIFIER.fullmatch(name):
        raise ValueError(f"name: expected the name of a variable in JavaScript, got {name!r}")
    found = text_model(model)
    info = _info(found, vocabulary)
    layers = range(len(found.layers))
    kind = ARRAYS[found.dtype]
    parameters = [f"{json.dumps(path)}: {_array(t.data, kind)}" for path, t in found.parameters.items()]
    constants = [f"[{', '.join(_array(array) for array in layer.step.constants)}]" for layer in found.layers]
    lines = [
        f"const {name} = (() => {{",
        '"use strict";',
        products(),
        files(__package__).joinpath("runtime.js").read_text(encoding="utf-8"),
        *(functions(layer.step, i) for i, layer in enumerate(found.layers)),
        f"const info = {_json(info)};",
        f"const parameters = {{{', '.join(parameters)}}};",
        f"const constants = [{', '.join(constants)}];",
        f"const functions = [{', '.join(f'{{forward: forward{i}, backward: backward{i}}}' for i in layers)}];",
        "return textModel(info, parameters, constants, functions);",
        "})();",
        f'if (typeof module === "object" && module.exports) module.exports = {name};',
        f"else globalThis.{name} = {name};",
        "",
    ]
    return "\n".join(lines)


def _info(model: TextModel, vocabulary: CharacterVocabulary | Sequence[str] | None) -> dict[str, Any]:
    """What the script says about the model."""
    symbols: Any = getattr(vocabulary, "symbols", vocabulary)
    if symbols is not None and len(symbols) != model.symbols:
        raise InteropError(f"vocabulary: it has {len(symbols)} symbols, and the model's logits are {model.symbols}")
    path, embedding = model.embedding
    (table,) = (name for name, tensor in model.parameters.items() if tensor is embedding.W)
    rows, width = embedding.W.shape
    if rows != model.symbols:
        raise InteropError(f"{path} has {rows} ids, and the logits are of {model.symbols}: they must be the same")
    return {
        "vocabulary": None if symbols is None else list(symbols),
        "other": getattr(vocabulary, "other", None),
        "symbols": model.symbols,
        "dtype": model.dtype,
        "embedding": {"name": path, "parameter": table, "size": width, "padding": embedding.padding_idx},
        "layers": [_info_of_layer(layer, model) for layer in model.layers],
        "parameters": [
            {"name": name, "shape": list(tensor.shape), "differentiable": tensor.requires_grad}
            for name, tensor in model.parameters.items()
        ],
    }


def _info_of_layer(layer: Layer, model: TextModel) -> dict[str, Any]:
    step = layer.step

    def ref(operand: Ref) -> Any:
        if operand.kind == "scalar":
            return {"value": json.loads(operand.key) if re.fullmatch(r"-?\d+(\.\d+)?", operand.key) else operand.key}
        return operand.key if operand.kind in ("record", "parameter") else step.text_of(operand)

    def record(found: Record) -> dict[str, Any]:
        return {
            "index": found.index, "name": found.name, "op": found.op, "text": step.text(found), "line": found.line,
            "inputs": [ref(operand) for operand in found.inputs], "shape": list(found.shape), "size": found.size,
            "invariant": found.invariant, "differentiable": found.cotangent is not None,
        }  # fmt: skip

    return {
        "name": layer.name, "kind": "recurrent" if layer.is_recurrent else "feedforward", "cell": layer.cell,
        "input": step.x[1].shape[-1], "size": step.size_of_output, "x": step.x[0],
        "carry": [
            {"name": name, "size": like.shape[-1], "initial": initial}
            for (name, like), initial in zip(step.carry, layer.initial)
        ],
        "next": [ref(operand) for operand in step.next], "output": ref(step.output), "source": step.source,
        "records": [record(found) for found in step.records],
        "parameters": [{"name": name, "shape": list(model.parameters[name].shape)} for name in step.parameters],
    }  # fmt: skip


def _json(value: Any) -> str:
    """JSON that may stand in a <script> of a page."""
    return json.dumps(value).replace("</", "<\\/").replace("<!--", "<\\!--")


def _array(array: Any, kind: str | None = None) -> str:
    """The expression for a typed array with these numbers."""
    array = np.ascontiguousarray(to_host(unwrap(array)))
    text = base64.b64encode(array.astype(array.dtype.newbyteorder("<")).tobytes()).decode("ascii")
    return f'decoded("{text}", {kind or ARRAYS[array.dtype.name]})'
