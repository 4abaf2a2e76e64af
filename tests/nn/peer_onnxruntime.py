"""Cases of recurrent_case.py in onnxruntime, forward only and in float32: the operators RNN, GRU and LSTM of ONNX."""

from __future__ import annotations

import numpy as np
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

# Our gates in the order of ONNX. Its GRU is h' = (1 − z) ⊙ h̃ + z ⊙ h: our z is its 1 − z, and σ(−a) = 1 − σ(a).
GATES = {"RNN": [""], "GRU": ["_z", "_r", "_h"], "LSTM": ["_i", "_o", "_f", "_g"]}
SIGNS = {"RNN": [1], "GRU": [-1, 1, 1], "LSTM": [1, 1, 1, 1]}
ACTIVATIONS = {"RNN": ["activation"], "GRU": ["gate_activation", "activation"],
               "LSTM": ["gate_activation", "activation", "output_activation"]}  # fmt: skip
NAMES = {"sigmoid": "Sigmoid", "tanh": "Tanh", "relu": "Relu", "softplus": "Softplus", "elu": "Elu"}
OPSET = 14


def run(case):
    """Output and last states of a case, in our layouts."""
    batch_first = case["settings"].get("batch_first", False)
    directions = case["settings"].get("bidirectional", False) + 1
    x, *states = map(np.asarray, (case["x"], *case["state"].values()))
    x = np.swapaxes(x, 0, 1) if batch_first else x
    lasts = []
    for layer in range(len(states[0]) // directions):
        cells = slice(layer * directions, (layer + 1) * directions)
        y, *last = _run_layer(case, range(cells.start, cells.stop), x, [state[cells] for state in states])
        x = np.concatenate([y[:, direction] for direction in range(directions)], axis=-1)
        lasts.append(last)
    x = np.swapaxes(x, 0, 1) if batch_first else x
    return dict(zip(["output", *case["state"]], [x, *map(np.concatenate, zip(*lasts))]))


def _run_layer(case, cells, x, states):
    """Y (T, directions, B, H) and the last states (directions, B, H) of one layer."""
    kind, hidden, p, lengths = case["layer"], case["sizes"][1], case["parameters"], case.get("lengths")

    def joined(letter, cell):  # the gates below each other; a coupled f has no parameters
        named = zip(GATES[kind], SIGNS[kind])
        zeros = np.zeros_like(p[f"cells.{cell}.{letter}{GATES[kind][0]}"])
        return np.concatenate([sign * np.asarray(p.get(f"cells.{cell}.{letter}{g}", zeros)).T for g, sign in named])

    def inner(cell):  # the second bias
        zeros = np.zeros(len(GATES[kind]) * hidden)
        c_h = p.get(f"cells.{cell}.c_h")
        return zeros if c_h is None else np.concatenate([zeros[: 2 * hidden], c_h])

    weights = {
        "W": np.stack([joined("W", cell) for cell in cells]),
        "R": np.stack([joined("U", cell) for cell in cells]),
        "B": np.stack([np.concatenate([joined("b", cell), inner(cell)]) for cell in cells]),
    }
    if case["settings"].get("peephole"):
        zeros = np.zeros(hidden)
        weights["P"] = np.stack([
            np.concatenate([p.get(f"cells.{cell}.p_{gate}", zeros) for gate in "iof"]) for cell in cells
        ])  # fmt: skip
    feed = {"X": x, **weights, **dict(zip(["initial_h", "initial_c"], states))}
    feed = {name: np.ascontiguousarray(value, dtype=np.float32) for name, value in feed.items()}
    if lengths is not None:
        feed["sequence_lens"] = np.asarray(lengths, dtype=np.int32)
    given = ["X", "W", "R", "B", "sequence_lens", "initial_h", "initial_c", "P"]
    inputs = [name if name in feed else "" for name in given[: 8 if kind == "LSTM" else 6]]
    outputs = ["Y", "Y_h", "Y_c"][: 1 + len(states)]
    node = helper.make_node(
        kind,
        inputs,
        outputs,
        hidden_size=hidden,
        direction="bidirectional" if len(cells) == 2 else "forward",
        **_attributes(kind, case["settings"], len(cells)),
    )
    graph = helper.make_graph(
        [node], "case", [helper.make_tensor_value_info("X", TensorProto.FLOAT, feed["X"].shape)],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
        [numpy_helper.from_array(value, name) for name, value in feed.items() if name != "X"],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=8)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(outputs, {"X": feed["X"]})


def _attributes(kind, settings, directions):
    """Our keywords as attributes of the operator; the activations for each direction again."""
    attributes = {"linear_before_reset": int(settings.get("reset_after", False))} if kind == "GRU" else {}
    if kind == "LSTM":
        attributes["input_forget"] = int(settings.get("coupled", False))
    if "clip" in settings:
        attributes["clip"] = settings["clip"]
    names = [settings.get(keyword) for keyword in ACTIVATIONS[kind]]
    if any(names):
        usual = ["Tanh"] if kind == "RNN" else ["Sigmoid", "Tanh", "Tanh"]
        attributes["activations"] = directions * [NAMES[n] if n else u for n, u in zip(names, usual)]
    return attributes
