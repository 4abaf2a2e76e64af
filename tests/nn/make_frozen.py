"""Writes frozen.json: results of PyTorch and onnxruntime for a few recurrent layers, for machines without them.

    python tests/nn/make_frozen.py

The LSTM, the RNN and the GRU that resets after the product are PyTorch's, and the other GRU is its four equations in
PyTorch, all in float64 with every gradient; onnxruntime's layers are in float32, without gradients.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnxruntime
import peer_onnxruntime
import peer_torch
import torch
from recurrent_case import make_case

SIZES = {"steps": 3, "batch": 2, "inputs": 2, "hidden": 2}
CASES = [
    (peer_torch, "RNN", {"num_layers": 2, "bidirectional": True}),
    (peer_torch, "GRU", {"num_layers": 2}),
    (peer_torch, "GRU", {"bidirectional": True, "batch_first": True}),
    (peer_torch, "LSTM", {"num_layers": 2, "batch_first": True}),
    (peer_torch, "LSTM", {"bidirectional": True}),
    (peer_onnxruntime, "GRU", {"num_layers": 2, "bidirectional": True}),
    (peer_onnxruntime, "LSTM", {"bidirectional": True}),
    (peer_torch, "GRU", {"reset_after": True, "bidirectional": True, "lengths": [2, 3]}),
    (peer_torch, "LSTM", {"proj_size": 1, "num_layers": 2, "lengths": [3, 1]}),
    (peer_torch, "RNN", {"bidirectional": True, "batch_first": True, "lengths": [1, 3]}),
    (peer_onnxruntime, "GRU", {"reset_after": True, "clip": 0.75, "lengths": [3, 2]}),
    (peer_onnxruntime, "LSTM", {"peephole": True, "bidirectional": True, "lengths": [2, 3]}),
    (peer_onnxruntime, "LSTM", {"coupled": True, "peephole": True, "clip": 0.5}),
]


def rounded(tree, decimals):
    """A case or result with lists for its arrays, rounded."""
    if isinstance(tree, dict):
        return {name: rounded(part, decimals) for name, part in tree.items()}
    return np.round(np.asarray(tree, dtype=float), decimals).tolist() if isinstance(tree, np.ndarray) else tree


if __name__ == "__main__":
    versions = {"torch": torch.__version__, "onnxruntime": onnxruntime.__version__}
    lines = []
    for seed, (peer, layer, settings) in enumerate(CASES):
        case = rounded(make_case(layer, seed, **SIZES, **settings), 2)
        result = rounded(peer.run(case), 15 if peer is peer_torch else 7)
        lines.append(json.dumps({"peer": peer.__name__.removeprefix("peer_"), **case, "result": result}))
    cases = ",\n".join(lines)
    Path(__file__).with_name("frozen.json").write_text(
        f'{{"versions": {json.dumps(versions)}, "cases": [\n{cases}\n]}}\n'
    )
