"""What our layers are in ONNX, where that is more than their formulas, op by op.

An exporter gets the trace, the layer, the name of the layer in its model, and what the layer is called with. It writes
the layer down and returns what the layer would, with Traced values in the Tensors.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from ... import nn, ops
from ...nn.lengths import fill_value_of
from ...nn.recurrent import MERGES
from ...ops.op import unwrap
from ...scan import scan
from ...scan.protocol import split_output, tree_leaves
from ...tensor import Tensor
from ..cells import kind_of, settings_of
from ..gates import ONNX, from_ours
from .activations import Activation, activation
from .recurrent import CURVES, PEEPHOLES
from .traced import NAMESPACE, Node, Trace, Traced

_CURVES_BY_NAME = {
    "sigmoid": activation("Sigmoid"), "tanh": activation("Tanh"), "relu": activation("Relu"),
    "softplus": activation("Softplus"), "elu": activation("Elu"), "leaky_relu": activation("LeakyRelu"),
}  # fmt: skip


def exporter_of(module: nn.Module) -> Callable[..., Any] | None:
    """The exporter of a layer of ours, or of one that was derived from it and runs as it does."""
    return _EXPORTERS.get(type(module).forward)


def _tensor(value: Traced) -> Tensor:
    return Tensor.from_node(value, None)


def _linear(trace: Trace, layer: nn.Linear, path: str, x: Tensor) -> Tensor:
    y = unwrap(x) @ layer.W.data  # over any number of axes, where the op makes rows of them
    return _tensor(y if layer.b is None else y + layer.b.data)


def _embedding(trace: Trace, layer: nn.Embedding, path: str, ids: Any) -> Tensor:
    ids = trace.find(unwrap(ids), f"the ids of {path or 'Embedding'}")
    example = layer.W.data[ids.example]
    return _tensor(trace.emit("Gather", (layer.W.data, ids), [example], axis=0)[0])


def _layer_norm(trace: Trace, layer: nn.LayerNorm, path: str, x: Tensor) -> Tensor:
    if not _fits(unwrap(x).dtype)(layer.eps):
        return nn.LayerNorm.forward(layer, x)  # by its formula
    example = layer(Tensor(unwrap(x).example)).data
    inputs = (unwrap(x), layer.weight.data, layer.bias.data)
    return _tensor(trace.emit("LayerNormalization", inputs, [example], axis=-1, epsilon=layer.eps)[0])


# -- recurrent layers ------------------------------------------------------------------------------------------------


def _recurrent(
    trace: Trace, layer: nn.Recurrent, path: str, x: Any, state: Any = None, lengths: Any = None, mask: Any = None,
    past_end: str | float = "zero",
) -> tuple[Tensor, Any]:  # fmt: skip
    """A node GRU, LSTM or RNN a layer where ONNX has these equations; a Scan over the cell's step where it has not."""
    x = trace.find(unwrap(x), "x")
    x = NAMESPACE.moveaxis(x, 1, 0) if layer.batch_first else x
    lengths = None if lengths is None else NAMESPACE.astype(trace.find(unwrap(lengths), "lengths"), np.int32)
    valid = None
    if mask is not None:
        valid = trace.find(unwrap(mask), "mask")
        valid = NAMESPACE.expand_dims(NAMESPACE.permute_dims(valid, (1, 0)) if layer.batch_first else valid, 2)
    fill_value = fill_value_of(past_end)
    direction = "bidirectional" if layer.bidirectional else "reverse" if layer.reverse else "forward"
    lasts: list[Sequence[Tensor]] = []
    y = _tensor(x)
    for k in range(layer.num_layers):
        cells = layer.cells[k * layer.directions : (k + 1) * layer.directions]
        before = _before(trace, layer, cells, k, state, x)
        settings = None if mask is not None or fill_value != 0 else _settings(cells)
        if settings is not None:
            name = f"{path}.{k}" if path else str(k)
            outputs, last = _node(trace, cells, name, {"direction": direction, **settings}, unwrap(y), before, lengths)
        else:
            valid = _valid(trace, x, lengths) if valid is None and lengths is not None else valid
            outputs, last = _scans(trace, cells, y, before, valid, layer.reverse)
        below, y = y, MERGES[layer.merge](*outputs) if layer.bidirectional else outputs[0]
        y = y + below if layer.residual and k else y
        lasts.append(last)
    if valid is not None and fill_value is not None:
        y = ops.where(_tensor(valid), y, fill_value)
    states = [ops.concatenate(parts, axis=0) if len(parts) > 1 else parts[0] for parts in zip(*lasts)]
    if layer.batch_first:
        y, states = ops.moveaxis(y, source=0, destination=1), [ops.moveaxis(s, source=0, destination=1) for s in states]
    return y, tuple(states) if len(states) > 1 else states[0]


def _before(
    trace: Trace, layer: nn.Recurrent, cells: Sequence[nn.Cell], k: int, state: Any, x: Traced
) -> list[Traced | None]:
    """The state of layer k before the first step, (directions, batch, size) for each of its parts; None for zeros."""
    if state is not None:
        parts = [trace.find(unwrap(part), "state") for part in tree_leaves(state)]
        parts = [NAMESPACE.moveaxis(part, 1, 0) if layer.batch_first else part for part in parts]
        first, count = k * layer.directions, layer.directions
        return [part if layer.num_layers == 1 else part[first : first + count] for part in parts]
    before: list[Traced | None] = []
    for name in cells[0].states:
        learned = [getattr(cell, f"{name}_0", None) for cell in cells]
        rows = [None if row is None else _repeated(trace, row.data, x) for row in learned]
        before.append(None if None in rows else NAMESPACE.stack(rows))
    return before


def _repeated(trace: Trace, row: np.ndarray, x: Traced) -> Traced:
    """A row (size) as (batch, size), for the batch of x (T, batch, features)."""
    (shape,) = trace.emit("Shape", (x,), [np.array(x.shape, np.int64)])
    wanted = NAMESPACE.concat([shape[1:2], np.array(row.shape, np.int64)])
    return trace.emit("Expand", (row, wanted), [np.broadcast_to(row, (x.shape[1], *row.shape))])[0]


def _valid(trace: Trace, x: Traced, lengths: Traced) -> Traced:
    """Which steps are there, booleans (T, batch, 1)."""
    (shape,) = trace.emit("Shape", (x,), [np.array(x.shape, np.int64)])
    limits = (np.array(0, np.int64), shape[0], np.array(1, np.int64))
    (places,) = trace.emit("Range", limits, [np.arange(len(x), dtype=np.int64)])
    return NAMESPACE.expand_dims(NAMESPACE.expand_dims(places, 1) < NAMESPACE.astype(lengths, np.int64), 2)


def _settings(cells: Sequence[nn.Cell]) -> dict[str, Any] | None:
    """The settings of the node that has the equations of these cells, one a direction; None if ONNX has none."""
    kind = kind_of(*cells)
    if kind is None:
        return None
    rows = [settings_of(cell) for cell in cells]
    curves = [_curve(row.pop(key, name.lower())) for row in rows for key, name in CURVES[kind].items()]
    for row in rows:
        row.pop("learn_initial_state", None)  # which is an input there
    if any(row.get("peephole") == "full" for row in rows):
        return None
    known = {"clip", *{"RNN": (), "GRU": ("reset_after",), "LSTM": ("peephole", "coupled")}[kind]}
    if any(row != rows[0] or row.keys() - known for row in rows) or any(curve is None for curve in curves):
        return None
    if kind == "GRU" and not all(gate.is_complementary for gate in curves[::2]):
        return None
    settings = {"clip": rows[0]["clip"]} if "clip" in rows[0] else {}
    settings |= {"linear_before_reset": int(rows[0].get("reset_after", False))} if kind == "GRU" else {}
    settings |= {"input_forget": 1} if "coupled" in rows[0] else {}
    settings |= _named(curves, list(CURVES[kind].values()) * len(cells))
    return settings if all(map(_fits(cells[0].weight.dtype), settings.values())) else None


def _fits(dtype: Any) -> Callable[[Any], bool]:
    """Whether a setting keeps its value in ONNX, whose settings are float32, for who computes in this type."""

    def fits(value: Any) -> bool:
        if isinstance(value, list):
            return all(map(fits, value))
        return not isinstance(value, float) or str(dtype) != "float64" or float(np.float32(value)) == value

    return fits


def _curve(value: Any) -> Any:
    return value if isinstance(value, Activation) else _CURVES_BY_NAME.get(value) if isinstance(value, str) else None


def _named(curves: Sequence[Activation], usual: Sequence[str]) -> dict[str, Any]:
    """The attributes that name activations; none where they are the usual ones."""
    if [curve.name for curve in curves] == usual:
        return {}
    numbers = {
        f"activation_{letter}": [n for curve in curves if (n := getattr(curve, letter)) is not None]
        for letter in ("alpha", "beta")
    }
    return {"activations": [curve.name for curve in curves], **{name: row for name, row in numbers.items() if row}}


def _node(
    trace: Trace, cells: Sequence[nn.Cell], path: str, settings: dict[str, Any], x: Traced,
    before: Sequence[Traced | None], lengths: Traced | None,
) -> tuple[list[Tensor], list[Tensor]]:  # fmt: skip
    """One layer as one node: the output of each direction, and the parts of the last state."""
    kind = kind_of(*cells)
    assert kind is not None
    weights = {name: trace.constant(array, f"{path}.{name}") for name, array in _weights(kind, cells).items()}
    states = [None if all(part is None for part in before) else part for part in before]
    inputs = [x, weights["W"], weights["R"], weights.get("B"), lengths, *states, weights.get("P")]
    while inputs[-1] is None:
        inputs.pop()
    y, last = _in_the_example(cells, x, before, lengths, settings["direction"] == "reverse")
    outputs = trace.emit(kind, inputs, [y, *last], hidden_size=cells[0].hidden_size, **settings)
    if lengths is not None:  # a sequence without steps ends in its initial state here, and in zeros there
        some = NAMESPACE.expand_dims(lengths > 0, (0, 2))
        outputs[1:] = [
            end if start is None else NAMESPACE.where(some, end, start) for end, start in zip(outputs[1:], before)
        ]
    if len(cells) == 1:
        each = [NAMESPACE.squeeze(outputs[0], 1)]
    else:
        each = [outputs[0][:, direction] for direction in range(len(cells))]
    return [_tensor(direction) for direction in each], [_tensor(part) for part in outputs[1:]]


def _weights(kind: str, cells: Sequence[nn.Cell]) -> dict[str, np.ndarray]:
    """W, R, B and P of a node, each with an axis of directions in front."""
    rows = []
    for cell in cells:
        ours = cell.state_dict()
        if getattr(cell, "coupled", False):  # the file has places for a forget gate, which are not read
            ours |= {f"{letter}_f": np.zeros_like(ours[f"{letter}_i"]) for letter in "WUbp" if f"{letter}_i" in ours}
        stacked = from_ours(ONNX, kind, ours, cell.has_bias)
        row = {"W": stacked.W, "R": stacked.U}
        if stacked.b_x is not None:
            row["B"] = np.concatenate([stacked.b_x, stacked.b_h])
        if "p_i" in ours:
            row["P"] = np.concatenate([ours[f"p_{gate}"] for gate in PEEPHOLES])
        rows.append(row)
    return {name: np.stack([row[name] for row in rows]) for name in rows[0]}


def _in_the_example(
    cells: Sequence[nn.Cell], x: Traced, before: Sequence[Traced | None], lengths: Traced | None, reverse: bool
) -> tuple[np.ndarray, list[np.ndarray]]:
    """Y (T, directions, batch, size) and the last states of a node."""
    layer = nn.Recurrent.of(type(cells[0]))(1, 1, bidirectional=len(cells) == 2, reverse=reverse)
    layer.input_size, layer.cells = cells[0].input_size, list(cells)
    state = None
    if before[0] is not None:
        parts = tuple(Tensor(part.example) for part in before if part is not None)
        state = parts if len(parts) > 1 else parts[0]
    y, last = layer(Tensor(x.example), state, None if lengths is None else lengths.example)
    y = np.moveaxis(y.data.reshape(*y.shape[:2], len(cells), -1), 2, 1)
    return y, [part.data for part in tree_leaves(last)]


class Body(NamedTuple):
    """The graph inside of a Scan; an output is its name, its dtype, and how many axes it has."""

    nodes: list[Node]
    inputs: list[Traced]
    outputs: list[tuple[str, np.dtype, int]]


def _scans(
    trace: Trace, cells: Sequence[nn.Cell], x: Tensor, before: Sequence[Traced | None], valid: Traced | None,
    reverse: bool,
) -> tuple[list[Tensor], list[Tensor]]:  # fmt: skip
    """One layer as a Scan a direction."""
    outputs, lasts = [], []
    for direction, cell in enumerate(cells):
        carry = [
            _repeated(trace, np.zeros(size, str(cell.weight.dtype)), unwrap(x)) if part is None else part[direction]
            for part, size in zip(before, cell.state_sizes)
        ]
        y, last = _scan(trace, cell, carry, unwrap(x), valid, reverse or direction == 1)
        outputs.append(_tensor(y))
        lasts.append([NAMESPACE.expand_dims(part, 0) for part in last])
    return outputs, [_tensor(NAMESPACE.concat(parts) if len(cells) > 1 else parts[0]) for parts in zip(*lasts)]


def _scan(
    trace: Trace, cell: nn.Cell, carry: Sequence[Traced], x: Traced, valid: Traced | None, reverse: bool
) -> tuple[Traced, list[Traced]]:
    """A cell's step as the body of a Scan: its outputs at all steps, and its last carry."""
    step, xs = cell.scan_arguments(_tensor(x), None if valid is None else _tensor(valid))
    reads = [unwrap(read) for read in tree_leaves(xs)]

    def tensors(values: Sequence[Any], like: Any) -> Any:
        made = tuple(Tensor.from_node(value, None) for value in values)
        return made if isinstance(like, tuple) else made[0]

    start = cell.initial_state(1)
    body = trace.body()
    states = [body.input(trace.fresh("state"), part.example) for part in carry]
    places = [body.input(trace.fresh("step"), read.example[0]) for read in reads]
    new, y = split_output(step(tensors(states, start), tensors(places, xs)), start)
    results = [body.identity(unwrap(part)) for part in (*tree_leaves(new), y)]
    last, ys = scan(
        step, tensors([part.example for part in carry], start), tensors([read.example for read in reads], xs),
        reverse=reverse,
    )  # fmt: skip
    *made, outputs = trace.emit(
        "Scan", (*carry, *reads), [*(part.data for part in tree_leaves(last)), ys.data],
        body=Body(body.nodes, [*states, *places], [(r.name, r.dtype, r.ndim) for r in results]),
        num_scan_inputs=len(reads), scan_input_directions=[int(reverse)] * len(reads),
        scan_output_directions=[int(reverse)],
    )  # fmt: skip
    return outputs, made


_EXPORTERS: dict[Any, Callable[..., Any]] = {
    nn.Linear.forward: _linear, nn.Embedding.forward: _embedding, nn.LayerNorm.forward: _layer_norm,
    nn.Recurrent.forward: _recurrent,
}  # fmt: skip
