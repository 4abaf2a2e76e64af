"""Scripts: the text of a JavaScript file, from a model."""

from __future__ import annotations

import base64
import json
import math
import re
from collections.abc import Callable, Sequence
from importlib.resources import files
from typing import Any

import numpy as np

from ...backend import backend_of, to_host
from ...data import CharacterVocabulary
from ...nn import Module
from ...ops.op import unwrap
from ...scan.ir import Value
from ...scan.names import closed_over_tensors
from ...scan.plan_cache import CompiledStep
from ...scan.protocol import check_carry, check_step, checked_xs
from ...scan.replay import evaluate
from ...scan.targets.javascript import products
from ...scan.targets.javascript.operations import ARRAYS
from ...scan.tracing.trace import Trace
from ...scan.tracing.traced_array import Untraceable
from ...scan.tracing.tracer import trace_forward
from ..errors import InteropError
from .inspected import functions
from .model import Layer, TextModel, text_model
from .records import Record, Ref, no_program

#: Of a script, when it is loaded: what it defines.
_EXPORT = """
if (typeof module === "object" && module.exports) module.exports = {name};
else globalThis.{name} = {name};
"""
_IDENTIFIER = re.compile(r"[A-Za-z_$][A-Za-z0-9_$]*")


def source(
    model: Module, vocabulary: CharacterVocabulary | Sequence[str] | None = None, name: str = "tinygradModel"
) -> str:
    """The script of a text model: one file, for a page or for Node.js, that needs nothing else.

    model       a CharacterModel, or a Sequential of an Embedding, recurrent layers of any cell that compiles, and
                modules that are functions of one step, such as Linear, LayerNorm and Tanh. In evaluation mode; no
                other thread may use it meanwhile
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
    found = text_model(model)
    info = _info(found, vocabulary)
    parameters = [f"{json.dumps(path)}: {_array(tensor.data)}" for path, tensor in found.parameters.items()]
    constants = [f"[{', '.join(map(_array, layer.step.constants))}]" for layer in found.layers]
    programs = [f"{{forward: forward{i}, backward: backward{i}}}" for i in range(len(found.layers))]
    return _script(name, [
        _runtime("runtime.js"),
        *(_functions(layer, i) for i, layer in enumerate(found.layers)),
        f"const info = {json.dumps(info)};",
        f"const parameters = {{{', '.join(parameters)}}};",
        f"const constants = [{', '.join(constants)}];",
        f"return textModel(info, parameters, constants, [{', '.join(programs)}]);",
    ])  # fmt: skip


def _functions(layer: Layer, number: int) -> str:
    try:
        return functions(layer.step, number)
    except Untraceable as reason:
        raise no_program(f"{layer.name} ({layer.cell})", reason) from reason


def scan_source(step: Callable[[Any, Any], Any], carry: Any, xs: Any = None, name: str = "tinygradScan") -> str:
    """The script of a recurrence: `scan(step, carry, xs)` and its gradients, as compiled for JavaScript.

    The arguments are those of `scan`, of which the shapes, the dtypes and the closed-over arrays matter; the number of
    steps does not.

    The object that the script defines has `constants`, the arrays that the step closes over, `forward(carry, xs,
    {length, reverse})`, which gives `{carry, ys}`, and `backward(run, {carry, ys})`, which gives `{carry, xs,
    closedOver}` from the cotangents; arrays are flat. `explain(step, carry, xs, compiled="javascript")` shows the
    programs.

    Raises InteropError for a step that cannot be compiled, with the reason, and IndexError where an index that does not
    change with time is out of bounds; in the script, others are a RangeError.

    >>> W = Tensor([[2.0]], requires_grad=True)
    >>> script = interop.javascript.scan_source(lambda h, x: ops.tanh(h @ W + x), zeros(1, 1), zeros(5, 1, 1))
    >>> "Math.tanh" in script
    True
    """
    check_step(step, "scan_source")
    check_carry(carry)
    xs = checked_xs(xs)
    try:
        forward = trace_forward(step, carry, xs, closed_over_tensors(step).values())
        if forward.draws:
            raise Untraceable("it draws random numbers", "turn dropout off, by eval(), or pass the numbers in xs")
        trace = Trace.of(forward, [True for _ in forward.xs])
        compiled = CompiledStep(trace, "javascript")
        backward = compiled.backward()
    except Untraceable as reason:
        raise no_program("the step", reason) from reason
    assert backward is not None
    where: dict[Value, tuple[str, int]] = {v: ("computed", i) for i, v in enumerate(compiled.computed)}
    where |= {v: ("xs", i) for i, v in enumerate(forward.xs)} | {v: ("states", i) for i, v in enumerate(forward.carry)}
    checks = []
    for value, low, high, message in compiled.checks:
        if value in where:
            checks.append({"of": where[value], "low": low, "high": high, "message": message})
        else:  # computed of constants alone
            found = evaluate(value, {}, trace.constants)
            backend_of(found).check_within(found, low, high, message)
    of_xs, of_closed_over = map(_positions, (compiled.xs_reached, compiled.closed_over_reached))
    closed_over = [{"shape": n.shape, "gradient": g} for n, g in zip(forward.closed_over, of_closed_over)]
    parts = [
        f"carry: [{', '.join(_part(v) for v in forward.carry)}]",
        f"xs: [{', '.join(_part(v, gradient=g) for v, g in zip(forward.xs, of_xs))}]",
        f"ys: [{', '.join(_part(v) for v in forward.ys)}]",
        f"closedOver: {json.dumps(closed_over)}",
        f"residuals: {json.dumps([where[v] for v in compiled.residuals])}",
        f"checks: {json.dumps(checks)}",
    ]
    return _script(name, [
        _runtime("scan.js"),
        compiled.forward.source.text,
        backward.source.text,
        f"const info = {{{', '.join(parts)}}};",
        f"const constants = [{', '.join(map(_array, trace.constants))}];",
        "return compiledScan(info, constants, forward, backward);",
    ])  # fmt: skip


def _script(name: str, lines: Sequence[str]) -> str:
    """A script that defines an object: what the lines return."""
    if not _IDENTIFIER.fullmatch(name):
        raise ValueError(f"name: expected the name of a variable in JavaScript, got {name!r}")
    head = [f"const {name} = (() => {{", '"use strict";', products(), _runtime("arrays.js")]
    text = "\n".join([*head, *lines, "})();", _EXPORT.format(name=name)])
    return re.sub("<(?=/script|!--)", r"\\x3c", text, flags=re.IGNORECASE)  # which would end a <script> of a page


def _runtime(name: str) -> str:
    return files(__package__).joinpath(name).read_text(encoding="utf-8")


def _positions(reached: Sequence[bool]) -> list[int | None]:
    """Of those that are reached the position among them, of the others None."""
    return [sum(reached[:i]) if one else None for i, one in enumerate(reached)]


def _part(value: Value, **others: Any) -> str:
    """What the script says of an array: its size at one step, and its type."""
    entries = {"size": math.prod(value.shape), "shape": value.shape, **others}
    return f"{{{json.dumps(entries)[1:-1]}, array: {ARRAYS[np.dtype(value.dtype).name]}}}"


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


def _array(array: Any) -> str:
    """The expression for a typed array with these numbers; of a dtype that no step can compute in, of float64."""
    array = to_host(unwrap(array))
    has_array = array.dtype.name in ARRAYS and array.dtype != np.int64
    dtype = array.dtype if has_array else np.dtype(np.float64)
    text = base64.b64encode(array.astype(dtype.newbyteorder("<")).tobytes()).decode("ascii")
    return f'decoded("{text}", {ARRAYS[dtype.name]})'
