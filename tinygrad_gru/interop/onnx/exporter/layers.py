"""Exporters of layers for which ONNX has operators: these replace the nodes of the layers' formulas.

An exporter is given the graph builder, the layer, the layer's name in its model, and the layer's inputs. It adds the
nodes and returns what the layer would, with ONNX arrays in the Tensors.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from .... import nn, ops
from ....nn.lengths import fill_value_of
from ....nn.recurrent import MERGES
from ....ops.op import unwrap
from ....scan import scan
from ....scan.protocol import split_output
from ....tensor import Tensor
from ....trees import flatten, with_leaves
from ...cells import kind_of, settings_of
from ...errors import InteropError
from ...gates import ONNX, from_ours
from ..activations import Activation, activation
from ..recurrent_spec import DEFAULT_ACTIVATIONS, PEEPHOLE_ORDER
from .builder import GraphBuilder, Subgraph
from .onnx_array import NAMESPACE, OnnxArray

_ACTIVATIONS_BY_NAME = {
    "sigmoid": activation("Sigmoid"), "tanh": activation("Tanh"), "relu": activation("Relu"),
    "softplus": activation("Softplus"), "elu": activation("Elu"), "leaky_relu": activation("LeakyRelu"),
}  # fmt: skip


def _tensor(array: Any) -> Tensor:
    return Tensor.from_node(array, None)


def exporter_of(module: nn.Module) -> Callable[..., Any] | None:
    """The exporter of a layer of ours, or of a derived one with the same `forward`; None for other modules."""
    return _EXPORTERS.get(type(module).forward)


def _linear(builder: GraphBuilder, layer: nn.Linear, path: str, x: Tensor) -> Tensor:
    y = unwrap(x) @ layer.W.data  # MatMul takes any number of axes, where the op flattens them to rows
    return _tensor(y if layer.b is None else y + layer.b.data)


def _embedding(builder: GraphBuilder, layer: nn.Embedding, path: str, ids: Any) -> Tensor:
    ids = builder.find(unwrap(ids), f"the ids of {path or 'Embedding'}")
    (rows,) = builder.add_node("Gather", (layer.W.data, ids), [layer.W.data[ids.example]], axis=0)
    return _tensor(rows)


def _layer_norm(builder: GraphBuilder, layer: nn.LayerNorm, path: str, x: Tensor) -> Tensor:
    if not _is_exact(layer.eps, unwrap(x).dtype):
        return nn.LayerNorm.forward(layer, x)  # the nodes of its formula
    example = layer(Tensor(unwrap(x).example)).data
    inputs = (unwrap(x), layer.weight.data, layer.bias.data)
    (y,) = builder.add_node("LayerNormalization", inputs, [example], axis=-1, epsilon=layer.eps)
    return _tensor(y)


# -- recurrent layers ------------------------------------------------------------------------------------------------


def _recurrent(
    builder: GraphBuilder, layer: nn.Recurrent, path: str, x: Any, state: Any = None, lengths: Any = None,
    mask: Any = None, past_end: str | float = "zero",
) -> tuple[Tensor, Any]:  # fmt: skip
    """A GRU, LSTM or RNN node per layer where ONNX has its equations, else a Scan over the cell's step."""
    x = builder.find(unwrap(x), "x")
    x = NAMESPACE.moveaxis(x, 1, 0) if layer.batch_first else x
    lengths = None if lengths is None else NAMESPACE.astype(builder.find(unwrap(lengths), "lengths"), np.int32)
    valid = None if mask is None else _mask(builder, mask, layer.batch_first)
    fill_value = fill_value_of(past_end)
    direction = "bidirectional" if layer.bidirectional else "reverse" if layer.reverse else "forward"
    lasts: list[Sequence[Tensor]] = []
    y = _tensor(x)
    for k in range(layer.num_layers):
        cells = layer.cells[k * layer.directions : (k + 1) * layer.directions]
        initial = _initial_states(builder, layer, cells, k, state, x)
        attributes = None if mask is not None or fill_value != 0 else _attributes(cells)
        if attributes is not None:
            name = f"{path}.{k}" if path else str(k)
            attributes["direction"] = direction
            outputs, last = _recurrent_node(builder, cells, name, attributes, unwrap(y), initial, lengths)
        else:
            valid = _step_mask(builder, x, lengths) if valid is None and lengths is not None else valid
            outputs, last = _scan_layer(builder, cells, y, initial, valid, layer.reverse)
        below, y = y, MERGES[layer.merge](*outputs) if layer.bidirectional else outputs[0]
        y = y + below if layer.residual and k else y
        lasts.append(last)
    if valid is not None and fill_value is not None:
        y = ops.where(_tensor(valid), y, fill_value)
    states = [ops.concatenate(parts, axis=0) if len(parts) > 1 else parts[0] for parts in zip(*lasts)]
    if layer.batch_first:
        y = ops.moveaxis(y, source=0, destination=1)
    return y, tuple(states) if len(states) > 1 else states[0]


def _mask(builder: GraphBuilder, mask: Any, batch_first: bool) -> OnnxArray:
    """A mask as booleans (T, batch, 1)."""
    valid = builder.find(unwrap(mask), "mask")
    return NAMESPACE.expand_dims(NAMESPACE.permute_dims(valid, (1, 0)) if batch_first else valid, 2)


def _last_step(
    builder: GraphBuilder, layer: nn.LastStep, path: str, x: Any, lengths: Any = None, mask: Any = None,
    after: Any = None,
) -> Tensor:  # fmt: skip
    """The sum over all steps of x where it is the last one, else 0: the steps may be more than in the example."""
    if lengths is None and mask is None:
        return nn.LastStep.forward(layer, x, after=after)
    layout = layer if after is None else after
    array = unwrap(x[0] if isinstance(x, tuple) else x)
    array = NAMESPACE.moveaxis(array, 1, 0) if layout.batch_first else array
    if mask is None:
        valid = _step_mask(builder, array, builder.find(unwrap(lengths), "lengths"))
    else:
        valid = _mask(builder, mask, layout.batch_first)
    steps = _step_numbers(builder, array)

    def at(bound: OnnxArray, x: Tensor) -> Tensor:
        return ops.sum(ops.where(_tensor(steps == bound), x, 0.0), axis=0)

    first = NAMESPACE.min(NAMESPACE.where(valid, steps, NAMESPACE.max(steps)), axis=0, keepdims=True)
    last = NAMESPACE.max(NAMESPACE.where(valid, steps, 0), axis=0, keepdims=True)
    return layer.join(layout, _tensor(array), partial(at, first), partial(at, last))


def _initial_states(
    builder: GraphBuilder, layer: nn.Recurrent, cells: Sequence[nn.Cell], k: int, state: Any, x: OnnxArray
) -> list[OnnxArray | None]:
    """The initial state of layer k, (directions, batch, size) for each of its parts; None for zeros."""
    if state is not None:
        parts = [builder.find(unwrap(part), "state") for part in flatten(state)]
        first, count = k * layer.directions, layer.directions
        return [part if layer.num_layers == 1 else part[first : first + count] for part in parts]
    by_part = zip(*map(_initial_rows, cells))
    return [
        None if all(row is None for row in rows)
        else NAMESPACE.stack([_expanded(builder, _zeros_of(size, cells[0]) if row is None else row, x) for row in rows])
        for rows, size in zip(by_part, cells[0].state_sizes)
    ]  # fmt: skip


def _initial_rows(cell: nn.Cell) -> list[np.ndarray | None]:
    """Of each part of a cell's initial carry its row, which all sequences of a batch begin with; None for zeros."""
    rows: list[np.ndarray | None] = []
    for name, *parts in zip(cell.states, *(flatten(cell.initial_state(batch)) for batch in (2, 3))):
        row, *others = (row for part in parts for row in part.data)
        learned = vars(cell).get(f"{name}_0")
        if not all(np.array_equal(row, other, equal_nan=True) for other in others):
            raise InteropError(
                f"{type(cell).__name__}: its initial state {name} differs within a batch, or between batches: give a "
                "state"
            )
        if learned is not None and np.array_equal(row, learned.data, equal_nan=True):
            rows.append(learned.data)  # a parameter, by its name
        else:
            rows.append(np.array(row) if row.any() else None)
    return rows


def _zeros_of(size: int, cell: nn.Cell) -> np.ndarray:
    return np.zeros(size, str(cell.weight.dtype))


def _expanded(builder: GraphBuilder, row: np.ndarray, x: OnnxArray) -> OnnxArray:
    """A row (size) as (batch, size), for the batch of x (T, batch, features)."""
    (x_shape,) = builder.add_node("Shape", (x,), [np.array(x.shape, np.int64)])
    shape = NAMESPACE.concat([x_shape[1:2], np.array(row.shape, np.int64)])
    return builder.add_node("Expand", (row, shape), [np.broadcast_to(row, (x.shape[1], *row.shape))])[0]


def _step_mask(builder: GraphBuilder, x: OnnxArray, lengths: OnnxArray) -> OnnxArray:
    """The mask of steps within the lengths, booleans (T, batch, 1)."""
    return _step_numbers(builder, x) < NAMESPACE.expand_dims(NAMESPACE.astype(lengths, np.int64), (0, 2))


def _step_numbers(builder: GraphBuilder, x: OnnxArray) -> OnnxArray:
    """0, 1, … T − 1 of x (T, batch, features), as (T, 1, 1)."""
    (shape,) = builder.add_node("Shape", (x,), [np.array(x.shape, np.int64)])
    limits = (np.array(0, np.int64), shape[0], np.array(1, np.int64))
    (steps,) = builder.add_node("Range", limits, [np.arange(len(x), dtype=np.int64)])
    return NAMESPACE.expand_dims(steps, (1, 2))


def _attributes(cells: Sequence[nn.Cell]) -> dict[str, Any] | None:
    """The attributes of the node with the equations of these cells (one per direction); None if ONNX has none."""
    kind = kind_of(*cells)
    if kind is None:
        return None
    rows = [settings_of(cell) for cell in cells]
    defaults = DEFAULT_ACTIVATIONS[kind]
    activations = [_activation(row.pop(key, name.lower())) for row in rows for key, name in defaults.items()]
    for row in rows:
        row.pop("learn_initial_state", None)  # an input of the node
    if any(row.get("peephole") == "full" for row in rows):
        return None
    known = {"clip", *{"RNN": (), "GRU": ("reset_after",), "LSTM": ("peephole", "coupled")}[kind]}
    if any(row != rows[0] or row.keys() - known for row in rows) or None in activations:
        return None
    if kind == "GRU" and not all(gate.is_complementary for gate in activations[::2]):
        return None
    attributes = {"clip": rows[0]["clip"]} if "clip" in rows[0] else {}
    attributes |= {"linear_before_reset": int(rows[0].get("reset_after", False))} if kind == "GRU" else {}
    attributes |= {"input_forget": 1} if "coupled" in rows[0] else {}
    attributes |= _activation_attributes(activations, list(defaults.values()) * len(cells))
    return attributes if _is_exact(list(attributes.values()), cells[0].weight.dtype) else None


def _is_exact(value: Any, dtype: Any) -> bool:
    """Whether a setting of a layer with this dtype keeps its value in ONNX, whose attributes are float32."""
    if isinstance(value, list):
        return all(_is_exact(part, dtype) for part in value)
    return not isinstance(value, float) or str(dtype) != "float64" or float(np.float32(value)) == value


def _activation(value: Any) -> Any:
    if isinstance(value, Activation):
        return value
    return _ACTIVATIONS_BY_NAME.get(value) if isinstance(value, str) else None


def _activation_attributes(activations: Sequence[Activation], defaults: Sequence[str]) -> dict[str, Any]:
    """The attributes that name activations; none where they are the defaults."""
    names = [activation.name for activation in activations]
    if names == defaults:
        return {}
    attributes: dict[str, Any] = {"activations": names}
    for parameter in ("alpha", "beta"):
        values = [getattr(activation, parameter) for activation in activations]
        if any(value is not None for value in values):
            attributes[f"activation_{parameter}"] = [value for value in values if value is not None]
    return attributes


def _recurrent_node(
    builder: GraphBuilder, cells: Sequence[nn.Cell], path: str, attributes: dict[str, Any], x: OnnxArray,
    initial: Sequence[OnnxArray | None], lengths: OnnxArray | None,
) -> tuple[list[Tensor], list[Tensor]]:  # fmt: skip
    """One layer as one node: the output of each direction, and the parts of the final state."""
    kind = kind_of(*cells)
    assert kind is not None
    weights = {name: builder.initializer(array, f"{path}.{name}") for name, array in _weights(kind, cells).items()}
    states = [None if all(part is None for part in initial) else part for part in initial]
    inputs = [x, weights["W"], weights["R"], weights.get("B"), lengths, *states, weights.get("P")]
    while inputs[-1] is None:
        inputs.pop()
    y, last = _run_example(cells, x, initial, lengths, attributes["direction"] == "reverse")
    outputs = builder.add_node(kind, inputs, [y, *last], hidden_size=cells[0].hidden_size, **attributes)
    if lengths is not None:  # an empty sequence ends in its initial state here, and in zeros in onnxruntime
        nonempty = NAMESPACE.expand_dims(lengths > 0, (0, 2))
        outputs[1:] = [
            end if start is None else NAMESPACE.where(nonempty, end, start) for end, start in zip(outputs[1:], initial)
        ]
    if len(cells) == 1:
        by_direction = [NAMESPACE.squeeze(outputs[0], 1)]
    else:
        by_direction = [outputs[0][:, direction] for direction in range(len(cells))]
    return [_tensor(y) for y in by_direction], [_tensor(part) for part in outputs[1:]]


def _weights(kind: str, cells: Sequence[nn.Cell]) -> dict[str, np.ndarray]:
    """W, R, B and P of a node, each with an axis of directions in front."""
    rows = []
    for cell in cells:
        ours = cell.state_dict()
        if getattr(cell, "coupled", False):  # ONNX's weights include a forget gate, which is not used
            ours |= {f"{letter}_f": np.zeros_like(ours[f"{letter}_i"]) for letter in "WUbp" if f"{letter}_i" in ours}
        stacked = from_ours(ONNX, kind, ours, cell.has_bias)
        row = {"W": stacked.W, "R": stacked.U}
        if stacked.b_x is not None:
            row["B"] = np.concatenate([stacked.b_x, stacked.b_h])
        if "p_i" in ours:
            row["P"] = np.concatenate([ours[f"p_{gate}"] for gate in PEEPHOLE_ORDER])
        rows.append(row)
    return {name: np.stack([row[name] for row in rows]) for name in rows[0]}


def _run_example(
    cells: Sequence[nn.Cell],
    x: OnnxArray,
    initial: Sequence[OnnxArray | None],
    lengths: OnnxArray | None,
    reverse: bool,
) -> tuple[np.ndarray, list[np.ndarray]]:
    """Y (T, directions, batch, size) and the final states of a node, in the example."""
    layer = nn.Recurrent.of(type(cells[0]))(1, 1, bidirectional=len(cells) == 2, reverse=reverse)
    layer.input_size, layer.cells = cells[0].input_size, list(cells)
    state = None
    if initial[0] is not None:
        parts = tuple(Tensor(part.example) for part in initial if part is not None)
        state = parts if len(parts) > 1 else parts[0]
    y, last = layer(Tensor(x.example), state, None if lengths is None else lengths.example)
    y = np.moveaxis(y.data.reshape(*y.shape[:2], len(cells), -1), 2, 1)
    return y, [part.data for part in flatten(last)]


def _scan_layer(
    builder: GraphBuilder, cells: Sequence[nn.Cell], x: Tensor, initial: Sequence[OnnxArray | None],
    valid: OnnxArray | None, reverse: bool,
) -> tuple[list[Tensor], list[Tensor]]:  # fmt: skip
    outputs, lasts = [], []
    for direction, cell in enumerate(cells):
        carry = [
            _expanded(builder, _zeros_of(size, cell), unwrap(x)) if part is None else part[direction]
            for part, size in zip(initial, cell.state_sizes)
        ]
        y, last = _scan_node(builder, cell, carry, unwrap(x), valid, reverse or direction == 1)
        outputs.append(_tensor(y))
        lasts.append([NAMESPACE.expand_dims(part, 0) for part in last])
    return outputs, [_tensor(NAMESPACE.concat(parts) if len(cells) > 1 else parts[0]) for parts in zip(*lasts)]


def _scan_node(
    builder: GraphBuilder, cell: nn.Cell, carry: Sequence[OnnxArray], x: OnnxArray, valid: OnnxArray | None,
    reverse: bool,
) -> tuple[OnnxArray, list[OnnxArray]]:  # fmt: skip
    """A cell's step as the body of a Scan: its outputs at all steps, and its final carry."""
    step, xs = cell.scan_arguments(_tensor(x), None if valid is None else _tensor(valid))
    scanned = [unwrap(leaf) for leaf in flatten(xs)]

    def tensors(values: Sequence[Any], like: Any) -> Any:
        return with_leaves(like, map(_tensor, values))

    start = cell.initial_state(1)
    body = builder.subgraph()
    states = [body.input(builder.unique_name("state"), part.example) for part in carry]
    slices = [body.input(builder.unique_name("step"), array.example[0]) for array in scanned]
    new, y = split_output(step(tensors(states, start), tensors(slices, xs)), start)
    results = [body.identity(unwrap(part)) for part in (*flatten(new), y)]
    last, ys = scan(
        step, tensors([part.example for part in carry], start), tensors([array.example for array in scanned], xs),
        reverse=reverse,
    )  # fmt: skip
    *final, outputs = builder.add_node(
        "Scan", (*carry, *scanned), [*(part.data for part in flatten(last)), ys.data],
        body=Subgraph(body.nodes, [*states, *slices], [(r.name, r.dtype, r.ndim) for r in results]),
        num_scan_inputs=len(scanned), scan_input_directions=[int(reverse)] * len(scanned),
        scan_output_directions=[int(reverse)],
    )  # fmt: skip
    return outputs, final


_EXPORTERS: dict[Any, Callable[..., Any]] = {
    nn.Linear.forward: _linear, nn.Embedding.forward: _embedding, nn.LayerNorm.forward: _layer_norm,
    nn.Recurrent.forward: _recurrent, nn.LastStep.forward: _last_step,
}  # fmt: skip
