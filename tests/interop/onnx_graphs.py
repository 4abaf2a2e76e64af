"""ONNX graphs of one recurrent node with random weights, and their outputs in onnxruntime."""

from __future__ import annotations

import numpy as np
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

GATES = {"RNN": 1, "GRU": 3, "LSTM": 4}
OPSET = 14


def recurrent(
    kind, seed=0, direction="forward", bias=True, lengths=None, initial=True, peephole=False, fixed=True, **settings
):
    """A model with one recurrent node, and its inputs; the weights are initializers if `fixed`, else inputs.

    Biases, states and peepholes are random too: zeros would hide mistakes.
    """
    steps, batch, inputs, hidden = 5, 3, 2, 4
    random = np.random.default_rng(seed)
    directions, gates = 2 if direction == "bidirectional" else 1, GATES[kind]

    def draw(*shape, present=True):
        return random.standard_normal(shape).astype(np.float32) if present else None

    values = {
        "X": draw(steps, batch, inputs),
        "W": draw(directions, gates * hidden, inputs),
        "R": draw(directions, gates * hidden, hidden),
        "B": draw(directions, 2 * gates * hidden, present=bias),
        "sequence_lens": None if lengths is None else np.array(lengths, np.int32),
        "initial_h": draw(directions, batch, hidden, present=initial),
    }
    if kind == "LSTM":
        values["initial_c"] = draw(directions, batch, hidden, present=initial)
        values["P"] = draw(directions, 3 * hidden, present=peephole)
    outputs = ["Y", "Y_h", "Y_c"][: 3 if kind == "LSTM" else 2]
    node = helper.make_node(
        kind, ["" if value is None else name for name, value in values.items()], outputs, hidden_size=hidden,
        direction=direction, **settings,
    )  # fmt: skip
    values = {name: value for name, value in values.items() if value is not None}
    weights = [name for name in "WRBP" if name in values and fixed]
    return model([node], {name: v for name, v in values.items() if name not in weights}, outputs,
                 {name: values[name] for name in weights})  # fmt: skip


def model(nodes, inputs, outputs, initializers=None, opset=OPSET):
    """A model of these nodes, and its inputs by name."""
    inputs = {name: np.asarray(value) for name, value in inputs.items()}
    types = {name: helper.np_dtype_to_tensor_dtype(value.dtype) for name, value in inputs.items()}
    graph = helper.make_graph(
        nodes, "graph",
        [helper.make_tensor_value_info(name, types[name], value.shape) for name, value in inputs.items()],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in (initializers or {}).items()],
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8), inputs


def in_onnxruntime(model, inputs):
    """The outputs, in the order of the graph; `model` is a path or a ModelProto."""
    source = str(model) if not hasattr(model, "SerializeToString") else model.SerializeToString()
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])
    return session.run(None, inputs)
