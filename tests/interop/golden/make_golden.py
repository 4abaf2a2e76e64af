"""Writes the golden vectors beside it: what PyTorch, Keras and onnxruntime compute, for machines without them.

    python tests/interop/golden/make_golden.py

Each .json file says with which versions it was made. The other files are what those libraries write: a .pt file of
torch.save, a .keras and a .weights.h5 file, and a graph of PyTorch's exporter as it was with onnxscript 0.7.0, which
has the wrong linear_before_reset (it is made only if that version is installed).
"""

from __future__ import annotations

import base64
import json
import sys
import warnings
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

import keras_cases  # noqa: E402
import onnx  # noqa: E402
import onnx_graphs  # noqa: E402
import onnxruntime  # noqa: E402
import onnxscript  # noqa: E402
import torch  # noqa: E402
import torch_cases  # noqa: E402
from keras_cases import keras  # noqa: E402

SIZES = {"steps": 3, "batch": 2, "inputs": 2, "hidden": 2, "decimals": 2}
TORCH_CASES = [
    ("RNN", {"num_layers": 2, "bidirectional": True}, None),
    ("GRU", {"num_layers": 2, "bidirectional": True}, [3, 1]),
    ("GRU", {"bias": False, "batch_first": True}, None),
    ("LSTM", {"num_layers": 2, "batch_first": True}, [1, 3]),
    ("LSTM", {"bidirectional": True, "proj_size": 1}, None),
]
KERAS_CASES = [
    ("RNN", {"bias": True}, None),
    ("GRU", {"bias": True, "reset_after": True, "bidirectional": True, "merge": "mean"}, None),
    ("GRU", {"bias": True}, [[True, False, True], [False, True, False]]),
    ("LSTM", {"bias": True, "bidirectional": True, "merge": "concat"}, [[True, True, False], [True, True, True]]),
]
ONNX_CASES = [
    ("RNN", {"direction": "reverse", "lengths": [5, 2, 3], "activations": ["LeakyRelu"], "activation_alpha": [0.3]}),
    ("GRU", {"direction": "bidirectional", "lengths": [5, 2, 3], "linear_before_reset": 0}),
    ("GRU", {"direction": "bidirectional", "lengths": [1, 5, 4], "linear_before_reset": 1, "clip": 0.5}),
    ("LSTM", {"direction": "bidirectional", "lengths": [5, 2, 3], "peephole": True}),
    ("LSTM", {"input_forget": 1, "clip": 0.5}),
]


def write(name, versions, cases):
    lines = ",\n".join(json.dumps(as_json(case)) for case in cases)
    (HERE / name).write_text(f'{{"versions": {json.dumps(versions)}, "cases": [\n{lines}\n]}}\n')


def as_json(tree):
    """The tree with lists for arrays, rounded to their significant digits."""
    if isinstance(tree, dict):
        return {name: as_json(part) for name, part in tree.items()}
    if isinstance(tree, list):
        return [as_json(part) for part in tree]
    if isinstance(tree, np.ndarray):
        digits = {np.dtype("float64"): 13, np.dtype("float32"): 7}.get(tree.dtype)
        return tree.tolist() if digits is None else tree.astype(float).round(digits).tolist()
    return tree


def torch_file():
    """A state_dict among other things, as programs save it, with a tensor that is a view and one in bfloat16."""
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Embedding(4, 2), torch.nn.Linear(2, 3), torch.nn.LayerNorm(3))
    weights = model.state_dict()
    expected = {name: value.numpy() for name, value in weights.items()}
    turned = torch.arange(6, dtype=torch.int64).reshape(2, 3).T
    half = torch.tensor([1.5, -2.25], dtype=torch.bfloat16)
    torch.save({"model": weights, "epoch": 3, "turned": turned, "half": half}, HERE / "checkpoint.pt")
    return {
        "file": "checkpoint.pt", "model": expected, "epoch": 3, "turned": turned.numpy(), "half": half.float().numpy(),
    }  # fmt: skip


def keras_files():
    """A small model with both conventions of the reset gate, in both file formats."""
    keras.utils.set_random_seed(0)
    layers = keras.layers
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = keras.Sequential([
            keras.Input((None,)),
            layers.Embedding(4, 2),
            layers.Bidirectional(layers.GRU(2, return_sequences=True), merge_mode="sum"),
            layers.GRU(2, reset_after=False, return_sequences=True),
            layers.LayerNormalization(),
            layers.Dense(3),
        ])  # fmt: skip
    random = np.random.default_rng(0)
    model.set_weights([random.standard_normal(weight.shape).round(2) for weight in model.get_weights()])
    model.save(HERE / "model.keras")
    model.save_weights(HERE / "model.weights.h5")
    ids = random.integers(0, 4, (2, 5))
    output = keras.ops.convert_to_numpy(model(ids))
    return {"files": ["model.keras", "model.weights.h5"], "weights": model.get_weights(), "ids": ids, "output": output}


def onnx_case(seed, kind, settings):
    graph, inputs = onnx_graphs.recurrent(kind, seed, **settings)
    results = onnx_graphs.in_onnxruntime(graph, inputs)
    encoded = base64.b64encode(graph.SerializeToString()).decode()
    return {"kind": kind, "settings": settings, "inputs": inputs, "model": encoded, "results": results}


def faulty_export():
    """torch.nn.GRU as PyTorch's exporter wrote it, and what it should compute."""
    torch.manual_seed(0)
    model, x = torch.nn.GRU(2, 2), torch.randn(3, 1, 2)
    path = HERE / "torch_gru.onnx"
    torch.onnx.export(model, (x,), str(path), dynamo=True, external_data=False, verbose=False)
    graph = onnx.load(path)
    for node in graph.graph.node:  # without the paths of the machine
        kept = [entry for entry in node.metadata_props if not entry.key.endswith("stack_trace")]
        del node.metadata_props[:]
        node.metadata_props.extend(kept)
    onnx.save(graph, path)
    return {
        "file": "torch_gru.onnx", "versions": {"torch": torch.__version__, "onnxscript": onnxscript.__version__},
        "x": x.numpy(), "output": model(x)[0].detach().numpy(),
    }  # fmt: skip


if __name__ == "__main__":
    cases = [torch_cases.make(*case, seed=seed, **SIZES) for seed, case in enumerate(TORCH_CASES)]
    write("torch.json", {"torch": torch.__version__}, [*cases, torch_file()])
    cases = [keras_cases.make(*case, seed=seed, **SIZES) for seed, case in enumerate(KERAS_CASES)]
    write("keras.json", {"keras": keras.__version__, "backend": keras.backend.backend()}, [*cases, keras_files()])
    cases = [onnx_case(seed, *case) for seed, case in enumerate(ONNX_CASES)]
    write("onnxruntime.json", {"onnx": onnx.__version__, "onnxruntime": onnxruntime.__version__}, cases)
    if onnxscript.__version__ == "0.7.0":
        (HERE / "torch_gru.json").write_text(json.dumps(as_json(faulty_export())) + "\n")
