"""ONNX's recurrent operators RNN, GRU and LSTM: their inputs, the order of peepholes, and their default activations."""

from __future__ import annotations

INPUTS = {
    "RNN": ("X", "W", "R", "B", "sequence_lens", "initial_h"),
    "GRU": ("X", "W", "R", "B", "sequence_lens", "initial_h"),
    "LSTM": ("X", "W", "R", "B", "sequence_lens", "initial_h", "initial_c", "P"),
}
WEIGHTS = ("W", "R", "B", "P")
PEEPHOLE_ORDER = "iof"  # in P

#: In ONNX's order, by our keywords.
DEFAULT_ACTIVATIONS = {
    "RNN": {"activation": "Tanh"},
    "GRU": {"gate_activation": "Sigmoid", "activation": "Tanh"},
    "LSTM": {"gate_activation": "Sigmoid", "activation": "Tanh", "output_activation": "Tanh"},
}
