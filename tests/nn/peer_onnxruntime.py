"""Cases of recurrent_case.py in onnxruntime, forward only and in float32: the operators GRU and LSTM of ONNX."""

from __future__ import annotations

import numpy as np
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

# Our gates in the order of ONNX. Its GRU is h' = (1 − z) ⊙ h̃ + z ⊙ h: our z is its 1 − z, and σ(−a) = 1 − σ(a).
GATES = {"GRU": "zrh", "LSTM": "iofg"}
SIGNS = {"GRU": [-1, 1, 1], "LSTM": [1, 1, 1, 1]}
OPSET = 14


def run(case):
    """Output and last states of a case, in our layouts."""
    batch_first = case["settings"].get("batch_first", False)
    directions = case["settings"].get("bidirectional", False) + 1
    x, *states = (
        np.swapaxes(value, 0, 1) if batch_first else np.asarray(value) for value in (case["x"], *case["state"].values())
    )
    lasts = []
    for layer in range(len(states[0]) // directions):
        cells = slice(layer * directions, (layer + 1) * directions)
        y, *last = _run_layer(case, range(cells.start, cells.stop), x, [state[cells] for state in states])
        x = np.concatenate([y[:, direction] for direction in range(directions)], axis=-1)
        lasts.append(last)
    results = [x, *map(np.concatenate, zip(*lasts))]
    names = ["output", *case["state"]]
    return {name: np.swapaxes(r, 0, 1) if batch_first else r for name, r in zip(names, results)}


def _run_layer(case, cells, x, states):
    """Y (T, directions, B, H) and the last states (directions, B, H) of one layer."""
    kind, hidden, p = case["layer"], case["sizes"][1], case["parameters"]

    def joined(letter, cell):  # the gates below each other
        named = zip(GATES[kind], SIGNS[kind])
        return np.concatenate([sign * np.asarray(p[f"cells.{cell}.{letter}_{gate}"]).T for gate, sign in named])

    weights = {
        "W": np.stack([joined("W", cell) for cell in cells]),
        "R": np.stack([joined("U", cell) for cell in cells]),
        "B": np.stack([np.concatenate([joined("b", cell), np.zeros(len(GATES[kind]) * hidden)]) for cell in cells]),
    }
    feed = {"X": x, **weights, **dict(zip(["initial_h", "initial_c"], states))}
    feed = {name: np.ascontiguousarray(value, dtype=np.float32) for name, value in feed.items()}
    options = {"linear_before_reset": 0} if kind == "GRU" else {}
    inputs = ["X", "W", "R", "B", "", "initial_h", "initial_c"][: 5 + len(states)]
    outputs = ["Y", "Y_h", "Y_c"][: 1 + len(states)]
    node = helper.make_node(
        kind,
        inputs,
        outputs,
        hidden_size=hidden,
        direction="bidirectional" if len(cells) == 2 else "forward",
        **options,
    )
    graph = helper.make_graph(
        [node], "case", [helper.make_tensor_value_info("X", TensorProto.FLOAT, feed["X"].shape)],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
        [numpy_helper.from_array(value, name) for name, value in feed.items() if name != "X"],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=8)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(outputs, {"X": feed["X"]})
